//! In which order an epoch takes the questions: a function of seed, epoch and set alone.

use super::batch::{GROUPS, Members, ORDER, members};
use super::data::PairSet;
use super::options::TrainingOptions;
use crate::random::{key, permutation};

/// The questions of an epoch in the order in which it takes them.
pub(crate) struct Order {
    epoch: u64,
    order: Vec<usize>,
}

impl Order {
    pub fn new() -> Order {
        Order {
            epoch: u64::MAX,
            order: Vec::new(),
        }
    }

    /// The members of step `step`, from 0. An epoch takes every question once; its last batch may be smaller.
    pub fn members(&mut self, set: &PairSet, options: &TrainingOptions, step: u64) -> Members {
        let n = set.questions().len();
        let steps = n.div_ceil(options.batch) as u64;
        let epoch = step / steps;
        if self.epoch != epoch {
            self.order = permutation(n, key(options.seed, &[ORDER, epoch]));
            if options.group > 1 {
                let groups = groups(set, options, &self.order);
                let shuffled = permutation(groups.len(), key(options.seed, &[GROUPS, epoch]));
                self.order = shuffled.iter().flat_map(|&at| &groups[at]).copied().collect();
            }
            self.epoch = epoch;
        }
        let first = (step % steps) as usize * options.batch;
        let questions = self.order[first..n.min(first + options.batch)].to_vec();
        members(set, options, epoch, questions)
    }
}

/// Groups of questions whose passages a search confuses: each grows from the first of `order` that is left, by the
/// questions of the same passage, then by those whose passages are hard negatives of the group's, the best ranked of
/// each question first. Where nothing near is left, the next of `order` fills the group up.
fn groups(set: &PairSet, options: &TrainingOptions, order: &[usize]) -> Vec<Vec<usize>> {
    // Taken from the end, so that a passage that many ask for is not looked through anew for each of them.
    let mut asking: Vec<Vec<usize>> = vec![Vec::new(); set.passages().len()];
    for &q in order.iter().rev() {
        for &passage in &set.questions()[q].positives {
            asking[passage].push(q);
        }
    }
    let mut taken = vec![false; order.len()];
    let mut groups = Vec::new();
    let mut group: Vec<usize> = Vec::new();
    for &seed in order {
        if taken[seed] {
            continue;
        }
        taken[seed] = true;
        group.push(seed);
        // Those before it have brought what is near to them.
        let mut at = group.len() - 1;
        while at < group.len() && group.len() < options.group {
            let question = &set.questions()[group[at]];
            let pool = question.negatives.iter().take(options.negative_pool);
            for &passage in question.positives.iter().chain(pool) {
                while group.len() < options.group
                    && let Some(q) = asking[passage].pop()
                {
                    if !taken[q] {
                        taken[q] = true;
                        group.push(q);
                    }
                }
            }
            at += 1;
        }
        if group.len() >= options.group {
            groups.push(std::mem::take(&mut group));
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::data::{Passage, Question};

    /// Four topics of eight passages with two questions each; a question's negatives are of its topic.
    fn topics() -> PairSet {
        let passages = (0..32).map(|i| Passage {
            id: i.to_string(),
            title: None,
            text: format!("passage {i}"),
        });
        let questions = (0..64).map(|q| {
            let positive = q / 2;
            let topic = positive / 8 * 8;
            Question {
                id: q.to_string(),
                text: format!("question {q}"),
                positives: vec![positive],
                answers: Vec::new(),
                negatives: (topic..topic + 8)
                    .filter(|&passage| passage != positive)
                    .collect(),
            }
        });
        PairSet::new(passages.collect(), questions.collect()).unwrap()
    }

    fn options(group: usize) -> TrainingOptions {
        TrainingOptions {
            batch: 16,
            group,
            hard_negatives: 0,
            ..TrainingOptions::default()
        }
    }

    #[test]
    fn grouped_batches_hold_what_is_confused_and_an_epoch_every_question_once() {
        let set = topics();
        for group in [1, 2, 3, 8, 16, 64] {
            let mut order = Order::new();
            for epoch in 0..2 {
                let steps: Vec<Members> = (0..4)
                    .map(|step| order.members(&set, &options(group), 4 * epoch + step))
                    .collect();
                let mut seen: Vec<usize> = steps.iter().flat_map(|step| step.questions.clone()).collect();
                let passages: Vec<usize> = steps.iter().map(|step| step.passages.len()).collect();
                match group {
                    // A group is a topic's, whose passages come once for both of their questions.
                    8 | 16 => assert_eq!(passages, [8; 4], "{group}"),
                    1 => assert!(passages.iter().sum::<usize>() > 45, "{passages:?}"),
                    _ => {}
                }
                if group == 16 {
                    for step in &steps {
                        let topic = step.questions[0] / 16;
                        assert!(
                            step.questions.iter().all(|q| q / 16 == topic),
                            "{:?}",
                            step.questions
                        );
                    }
                }
                seen.sort_unstable();
                assert_eq!(seen, (0..64).collect::<Vec<_>>(), "{group}");
            }
            assert_eq!(
                Order::new().members(&set, &options(group), 6),
                order.members(&set, &options(group), 6)
            );
        }
        let epoch = |epoch: u64| Order::new().members(&set, &options(16), 4 * epoch).questions;
        assert!(epoch(0) != epoch(1), "an epoch is drawn anew");
    }

    #[test]
    fn questions_without_negatives_still_fill_groups() {
        let mut set = topics();
        (0..64).for_each(|q| set.set_negatives(q, Vec::new()).unwrap());
        let members = Order::new().members(&set, &options(16), 0);
        assert_eq!((members.questions.len(), members.passages.len()), (16, 8));
    }
}
