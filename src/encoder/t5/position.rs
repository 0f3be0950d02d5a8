//! What T5 adds to attention's scores for the distance of two tokens.

use super::super::attention::DistanceBias;
use super::T5Config;

/// The bucket of the distance `key - query`.
///
/// Half of the buckets are for keys behind the query. Of each half, the first half holds one distance each, and the
/// others grow by a constant factor up to `relative_attention_max_distance`; the last has all that is farther away.
/// Reckoned in f32, as the reference does: at the borders the last bit decides.
pub(crate) fn bucket(config: &T5Config, distance: isize) -> usize {
    let half = config.relative_attention_num_buckets / 2;
    let exact = half / 2;
    let side = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs();
    if distance < exact {
        return side + distance;
    }
    let span = (config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
    let beyond = (distance as f32 / exact as f32).ln() / span * (half - exact) as f32;
    side + (exact + beyond as usize).min(half - 1)
}

/// The table for texts of up to `tokens` tokens out of the learned numbers, `[buckets, heads]`.
pub(crate) fn distance_bias(config: &T5Config, learned: &[f32], tokens: usize) -> DistanceBias {
    DistanceBias::new(config.num_heads, tokens, |head, distance| {
        learned[bucket(config, distance) * config.num_heads + head]
    })
}
