//! The figures of a ranking, and how far they can be trusted.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::ranking::Ranking;
use crate::training::{Answers, PairSet, TrainingError, words};

/// The depths at which top-k accuracy is told.
pub const DEPTHS: [usize; 4] = [1, 5, 20, 100];

/// One question's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    /// Rank of the best gold passage, from 1; 0 if it is not in the ranking.
    pub gold_rank: usize,
    /// Rank of the first passage that contains an answer, from 1; 0 if none does.
    pub answer_rank: usize,
    /// `1 / rank` of the best gold passage among the first ten.
    pub mrr_10: f64,
    /// nDCG@10 with gains 0 and 1, as `trec_eval` has it.
    pub ndcg_10: f64,
    /// The share of gold passages among the first 100.
    pub recall_100: f64,
}

/// Means over all questions, as shares from 0 to 1; none where the ranking is not as deep as the figure looks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Questions.
    pub questions: usize,
    /// Top-k accuracy by gold passage at [`DEPTHS`].
    pub top: [Option<f64>; 4],
    /// Top-k accuracy by answer string at [`DEPTHS`]; none where no question has answers.
    pub top_by_answer: Option<[Option<f64>; 4]>,
    /// Mean reciprocal rank at 10.
    pub mrr_10: Option<f64>,
    /// nDCG at 10.
    pub ndcg_10: Option<f64>,
    /// Recall at 100.
    pub recall_100: Option<f64>,
    /// Mean rank of the best gold passage; one that was not found counts as the first rank past the ranking.
    pub average_rank: f64,
}

/// Scores every question of a set. Answers are looked for in a passage's text, to the depth of 100.
pub fn scores(set: &PairSet, ranking: &Ranking) -> Vec<Scores> {
    let needed = set
        .questions()
        .iter()
        .any(|question| !question.answers.is_empty());
    let split: Vec<Vec<String>> = if needed {
        set.passages()
            .par_iter()
            .map(|passage| words(&passage.text))
            .collect()
    } else {
        Vec::new()
    };
    let pairs = set.questions().par_iter().zip(&ranking.hits);
    pairs
        .map(|(question, hits)| {
            let is_gold = |place: &usize| question.positives.contains(place);
            let places: Vec<usize> = hits.iter().map(|hit| hit.0).collect();
            let rank = |at: Option<usize>| at.map_or(0, |at| at + 1);
            let gold_rank = rank(places.iter().position(is_gold));
            let answers = Answers::new(&question.answers);
            let answer_rank = match answers.is_empty() {
                true => 0,
                false => rank(
                    places
                        .iter()
                        .take(100)
                        .position(|&place| answers.in_words(&split[place])),
                ),
            };
            let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
            let golds = question.positives.len();
            let found = |depth: usize| {
                places
                    .iter()
                    .take(depth)
                    .enumerate()
                    .filter(|(_, place)| is_gold(place))
            };
            let ideal = total((0..golds.min(10)).map(gain));
            Scores {
                gold_rank,
                answer_rank,
                mrr_10: if (1..=10).contains(&gold_rank) {
                    1.0 / gold_rank as f64
                } else {
                    0.0
                },
                ndcg_10: total(found(10).map(|(rank, _)| gain(rank))) / ideal,
                recall_100: found(100).count() as f64 / golds as f64,
            }
        })
        .collect()
}

/// A sum that begins at 0: that of nothing is -0 for `Iterator::sum`, and would be told so.
fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// The means of some questions' scores; `depth` is that of the ranking.
pub fn figures(scores: &[Scores], depth: usize) -> Figures {
    let n = scores.len().max(1) as f64;
    let mean = |f: &dyn Fn(&Scores) -> f64| total(scores.iter().map(f)) / n;
    let to = |deep: usize, f: &dyn Fn(&Scores) -> f64| (deep <= depth).then(|| mean(f));
    let within = |rank: usize, depth: usize| f64::from(u8::from((1..=depth).contains(&rank)));
    let answered = scores.iter().any(|score| score.answer_rank > 0);
    Figures {
        questions: scores.len(),
        top: DEPTHS.map(|k| to(k, &|score| within(score.gold_rank, k))),
        top_by_answer: answered.then(|| DEPTHS.map(|k| to(k, &|score| within(score.answer_rank, k)))),
        mrr_10: to(10, &|score| score.mrr_10),
        ndcg_10: to(10, &|score| score.ndcg_10),
        recall_100: to(100, &|score| score.recall_100),
        average_rank: mean(&|score| match score.gold_rank {
            0 => depth as f64 + 1.0,
            rank => rank as f64,
        }),
    }
}

/// How sure a difference of two means is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// Mean of `b` less mean of `a`.
    pub mean: f64,
    /// The middle 95% of the differences of the resampled sets.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The share of resampled sets in which `b` was not better.
    pub p: f64,
}

/// The difference of two searches on the same questions, resampled `rounds` times by article: questions of one article
/// (the title of their passage) come and go together, since they fall or succeed together.
///
/// `a` and `b` hold one value a question. The same seed gives the same answer.
pub fn paired_bootstrap(set: &PairSet, a: &[f64], b: &[f64], rounds: usize, seed: u64) -> Difference {
    let mut articles: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for ((question, a), b) in set.questions().iter().zip(a).zip(b) {
        let passage = &set.passages()[question.positives[0]];
        // A passage without a title is an article of its own.
        let article = passage.title.as_deref().unwrap_or(&passage.id);
        let sums = articles.entry(article).or_default();
        sums.0 += b - a;
        sums.1 += 1.0;
    }
    let articles: Vec<(f64, f64)> = articles.into_values().collect();
    let whole = articles
        .iter()
        .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let mut means: Vec<f64> = (0..rounds as u64)
        .into_par_iter()
        .map(|round| {
            let mut sum = (0.0, 0.0);
            for draw in 0..articles.len() as u64 {
                let at = crate::random::key(seed, &[round, draw]);
                let one = articles[crate::random::below(at, articles.len())];
                sum = (sum.0 + one.0, sum.1 + one.1);
            }
            sum.0 / sum.1.max(1.0)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| {
        means
            .get((share * means.len() as f64) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    Difference {
        mean: whole.0 / f64::max(whole.1, 1.0),
        low: at(0.025),
        high: at(0.975),
        p: means.iter().filter(|mean| **mean <= 0.0).count() as f64 / means.len().max(1) as f64,
    }
}

/// Whether the ids of a set can stand in TREC's files, whose fields are kept apart by white space.
///
/// # Errors
/// [`TrainingError::Data`] names the first id of a question or passage that is empty or has white space.
pub fn trec_ids(set: &PairSet) -> Result<(), TrainingError> {
    let questions = set.questions().iter().map(|question| ("question", &question.id));
    let passages = set.passages().iter().map(|passage| ("passage", &passage.id));
    let broken = |id: &str| id.is_empty() || id.contains(char::is_whitespace);
    match questions.chain(passages).find(|(_, id)| broken(id)) {
        Some((what, id)) => Err(TrainingError::Data {
            what: format!("the {what} id {id:?} cannot stand in TREC's files: give ids without white space"),
        }),
        None => Ok(()),
    }
}

/// The lines of a TREC run: `question Q0 passage rank score tag`.
///
/// # Errors
/// Those of [`trec_ids`].
pub fn trec_run(set: &PairSet, ranking: &Ranking, tag: &str) -> Result<String, TrainingError> {
    trec_ids(set)?;
    let mut run = String::new();
    for (question, hits) in set.questions().iter().zip(&ranking.hits) {
        for (rank, (place, score)) in hits.iter().enumerate() {
            let passage = &set.passages()[*place].id;
            // A score of -0 is told as 0.
            run.push_str(&format!(
                "{} Q0 {passage} {} {} {tag}\n",
                question.id,
                rank + 1,
                score + 0.0
            ));
        }
    }
    Ok(run)
}

/// The questions' judgements in TREC's form: `question 0 passage 1`.
///
/// # Errors
/// Those of [`trec_ids`].
pub fn trec_judgements(set: &PairSet) -> Result<String, TrainingError> {
    trec_ids(set)?;
    let mut lines = String::new();
    for question in set.questions() {
        for &place in &question.positives {
            lines.push_str(&format!("{} 0 {} 1\n", question.id, set.passages()[place].id));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{Passage, Question};

    fn set() -> PairSet {
        let passages = (0..12)
            .map(|i| Passage {
                id: format!("p{i}"),
                title: Some(format!("article {}", i % 3)),
                text: format!("text number {i}"),
            })
            .collect();
        let question = |i: usize, positives: &[usize], answers: &[&str]| Question {
            id: format!("q{i}"),
            text: format!("question {i}"),
            positives: positives.to_vec(),
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            negatives: vec![],
        };
        let questions = vec![
            question(0, &[0], &["number 0"]),
            question(1, &[1, 2], &["Number 5"]),
            question(2, &[3], &["nowhere"]),
        ];
        PairSet::new(passages, questions).unwrap()
    }

    fn ranking() -> Ranking {
        let hits = |places: &[usize]| {
            places
                .iter()
                .enumerate()
                .map(|(i, &place)| (place, -(i as f64)))
                .collect()
        };
        Ranking {
            hits: vec![hits(&[0, 1]), hits(&[4, 5, 2, 1]), hits(&[4, 5, 6])],
        }
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let scores = scores(&set(), &ranking());
        assert_eq!(scores.iter().map(|s| s.gold_rank).collect::<Vec<_>>(), [1, 3, 0]);
        assert_eq!(
            scores.iter().map(|s| s.answer_rank).collect::<Vec<_>>(),
            [1, 2, 0]
        );
        let figures = |depth| super::figures(&scores, depth);
        let deep = figures(100);
        let top = [1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0].map(Some);
        assert_eq!((deep.top, deep.top_by_answer), (top, Some(top)));
        let close = |figure: Option<f64>, want: f64| assert!((figure.unwrap() - want).abs() < 1e-12);
        close(deep.mrr_10, (1.0 + 1.0 / 3.0) / 3.0);
        let ndcg = (0.5 + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2());
        close(deep.ndcg_10, (1.0 + ndcg) / 3.0);
        close(deep.recall_100, 2.0 / 3.0);
        close(Some(figures(4).average_rank), (1.0 + 3.0 + 5.0) / 3.0);
        // What lies deeper than the ranking was not looked at.
        assert_eq!(figures(4).top, [top[0], None, None, None]);
        assert_eq!(figures(5).top_by_answer, Some([top[0], top[1], None, None]));
        let shallow = figures(9);
        assert_eq!(
            (shallow.mrr_10, shallow.ndcg_10, shallow.recall_100),
            (None, None, None)
        );
        assert!(figures(10).mrr_10.is_some() && figures(99).recall_100.is_none());
    }

    #[test]
    fn nothing_found_is_zero_and_not_less() {
        let set = set();
        let nothing = Ranking {
            hits: vec![vec![], vec![], vec![]],
        };
        let scores = scores(&set, &nothing);
        assert!(scores.iter().all(|score| score.ndcg_10.is_sign_positive()));
        for figures in [figures(&scores, 100), figures(&[], 100)] {
            let told = serde_json::to_string(&figures).unwrap();
            assert!(!told.contains("-0"), "{told}");
        }
        let ranking = Ranking {
            hits: vec![vec![(0, -0.0)]],
        };
        assert_eq!(trec_run(&set, &ranking, "tag").unwrap(), "q0 Q0 p0 1 0 tag\n");
    }

    #[test]
    fn ids_that_would_break_trecs_lines_are_refused() {
        let passage = |id: &str| Passage {
            id: id.to_owned(),
            title: None,
            text: "text".to_owned(),
        };
        let question = |id: &str| Question {
            id: id.to_owned(),
            text: "question".to_owned(),
            positives: vec![0],
            answers: vec![],
            negatives: vec![],
        };
        for (q, p, named) in [
            ("a b", "p", "question id \"a b\""),
            ("", "p", "question id \"\""),
            ("q", "p\tp", "passage id \"p\\tp\""),
        ] {
            let set = PairSet::new(vec![passage(p)], vec![question(q)]).unwrap();
            let ranking = Ranking::default();
            for refused in [trec_run(&set, &ranking, "tag"), trec_judgements(&set)] {
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains(named), "{refused}");
            }
        }
    }

    #[test]
    fn the_bootstrap_resamples_articles() {
        let set = set();
        let same = paired_bootstrap(&set, &[0.0, 1.0, 0.0], &[0.0, 1.0, 0.0], 500, 1);
        assert_eq!((same.mean, same.low, same.high, same.p), (0.0, 0.0, 0.0, 1.0));
        let better = paired_bootstrap(&set, &[0.0; 3], &[1.0; 3], 500, 1);
        assert_eq!(
            (better.mean, better.low, better.high, better.p),
            (1.0, 1.0, 1.0, 0.0)
        );
        // Questions 0 and 2 are of one article (p0, p3): a gain in both is one gain, and a resample may miss it.
        let unsure = paired_bootstrap(&set, &[0.0; 3], &[1.0, 0.0, 1.0], 2000, 1);
        assert!((unsure.mean - 2.0 / 3.0).abs() < 1e-12);
        assert!((0.2..0.3).contains(&unsure.p), "{unsure:?}");
        assert_eq!(
            unsure,
            paired_bootstrap(&set, &[0.0; 3], &[1.0, 0.0, 1.0], 2000, 1)
        );
    }

    #[test]
    fn runs_and_judgements_are_in_trecs_form() {
        let (set, ranking) = (set(), ranking());
        let run = trec_run(&set, &ranking, "tag").unwrap();
        assert_eq!(run.lines().nth(1), Some("q0 Q0 p1 2 -1 tag"));
        assert_eq!(run.lines().count(), 9);
        let judgements = trec_judgements(&set).unwrap();
        assert_eq!(judgements.lines().nth(2), Some("q1 0 p2 1"));
        let fused = ranking.fused(&ranking, 2).unwrap();
        assert_eq!(fused.places()[1], [4, 5]);
    }
}
