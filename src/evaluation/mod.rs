//! How well passages are found: rankings of a [`PairSet`](crate::training::PairSet), their figures, and what layers add.

mod bm25;
mod figures;
mod late;
mod layers;
mod picture;
mod ranking;

pub use bm25::Bm25;
pub use figures::{
    DEPTHS, Difference, Figures, Scores, figures, paired_bootstrap, scores, trec_ids, trec_judgements,
    trec_run,
};
pub use layers::{LayerReport, compare_layers};
pub use picture::{layer_heat_map, loss_curve};
pub use ranking::{Ranking, askable};
