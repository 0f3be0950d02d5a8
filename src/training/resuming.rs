//! A run's checkpoints: what is in them, and how it goes on from one.

use super::TrainingError;
use super::checkpoint;
use super::options::TrainingOptions;
use super::run::Run;
use super::tower::{State, Tower};
use super::trainer::Trainer;

impl Run<'_> {
    pub(super) fn checkpoint(&mut self) -> Result<(), TrainingError> {
        let Some(folder) = &self.trainer.checkpoints else {
            return Ok(());
        };
        let states: Vec<State> = self.towers.iter().map(Tower::state).collect::<Result<_, _>>()?;
        let mut arrays: Vec<&[f32]> = Vec::new();
        for state in &states {
            arrays.extend([&state.parameters[..], &state.first, &state.second]);
        }
        let mut best_mix = Vec::new();
        if let Some((parameters, mix)) = &self.best {
            arrays.extend(parameters.iter().map(Vec::as_slice));
            best_mix = mix.iter().map(|w| w.to_bits()).collect();
        }
        let header = checkpoint::Header {
            run: self.identity.clone(),
            watch: self.watch.clone(),
            report: self.report.clone(),
            mix: self.mix.iter().map(|w| w.map(f64::to_bits)).collect(),
            best_mix,
            arrays: arrays.iter().map(|array| array.len() as u64).collect(),
        };
        let file = checkpoint::write(folder, &header, &arrays)?;
        if let Some(observer) = self.trainer.observer {
            observer.checkpoint(&file);
        }
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<(), TrainingError> {
        let Some(folder) = &self.trainer.checkpoints else {
            return Ok(());
        };
        let Some((header, arrays)) = checkpoint::read(folder, &self.identity)? else {
            return Ok(());
        };
        let len = self.towers[0].layout().len();
        let (state, best) = (3 * self.towers.len(), self.towers.len());
        let whole = arrays.len() == state || arrays.len() == state + best;
        if !whole || arrays.iter().any(|array| array.len() != len) || header.mix.len() != self.mix.len() {
            return Err(TrainingError::Checkpoint {
                path: folder.clone(),
                why: "its arrays are not those of this model".into(),
            });
        }
        let mut arrays = arrays.into_iter();
        for tower in &mut self.towers {
            let mut next = || arrays.next().unwrap_or_default();
            let state = State {
                parameters: next(),
                first: next(),
                second: next(),
            };
            self.pool.install(|| tower.restore(state));
        }
        let parameters: Vec<Vec<f32>> = arrays.collect();
        if !parameters.is_empty() {
            self.best = Some((
                parameters,
                header.best_mix.into_iter().map(f64::from_bits).collect(),
            ));
        }
        self.mix = header.mix.into_iter().map(|w| w.map(f64::from_bits)).collect();
        self.watch = header.watch;
        self.report = header.report;
        Ok(())
    }
}

/// What a checkpoint must agree with: options, questions, passages, and the encoder at the start.
pub(super) fn identity(trainer: &Trainer<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    // Words are counted when all steps are done.
    let options = TrainingOptions {
        lexical: None,
        ..trainer.options.clone()
    };
    put(format!("{options:?}").as_bytes());
    put(trainer.encoder.identity().hash.as_bytes());
    for set in [Some(trainer.set), trainer.validation].into_iter().flatten() {
        put(&(set.questions().len() as u64).to_le_bytes());
        for question in set.questions() {
            put(question.text.as_bytes());
            for &passage in question.positives.iter().chain(&question.negatives) {
                put(&(passage as u64).to_le_bytes());
            }
        }
        for passage in set.passages() {
            put(passage.title.as_deref().unwrap_or("").as_bytes());
            put(passage.text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
