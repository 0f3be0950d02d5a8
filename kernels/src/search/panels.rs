//! Queries laid out for the tile kernels.

use crate::bound::{self, Margin};
use crate::dispatch::Kernels;

/// From this many queries on, tiles are quicker than one dot product a query.
const WORTH_TILES: usize = 8;

/// All queries of a search: how far their f32 sums may be off and, for a batch, panels of
/// `[dimension, width]` values, component-major.
pub(super) struct Panels {
    pub margins: Vec<Margin>,
    packed: Vec<f32>,
    panel_len: usize,
}

impl Panels {
    pub fn new(queries: &[f32], dimension: usize, kernels: &Kernels) -> Panels {
        let count = queries.len() / dimension;
        let tiles = count >= WORTH_TILES;
        let gamma = if tiles {
            bound::gamma_chain(dimension)
        } else {
            bound::gamma_lanes(dimension)
        };
        let margins = queries
            .chunks_exact(dimension)
            .map(|query| Margin::new(gamma, bound::query_length(query), dimension))
            .collect();
        let width = kernels.width;
        let panel_len = dimension * width;
        let mut packed = Vec::new();
        if tiles {
            packed.resize(count.div_ceil(width) * panel_len, 0.0);
            for (q, query) in queries.chunks_exact(dimension).enumerate() {
                let panel = &mut packed[q / width * panel_len..][..panel_len];
                for (i, &value) in query.iter().enumerate() {
                    panel[i * width + q % width] = value;
                }
            }
        }
        Panels {
            margins,
            packed,
            panel_len,
        }
    }

    /// Whether there are panels; else each query is multiplied by itself.
    pub fn is_batch(&self) -> bool {
        !self.packed.is_empty()
    }

    /// Panel by panel.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.packed.chunks_exact(self.panel_len)
    }
}
