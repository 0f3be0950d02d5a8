//! The code kernels in plain Rust.

use super::{Sweep, Sweeps};

pub(in crate::dispatch) const SWEEPS: Sweeps = Sweeps { sweep, low };

fn sweep(sweep: &Sweep, masks: &mut [u32], sums: &mut [[i32; 16]]) {
    let float = |of: &[u8], at: usize| {
        let bytes = &of[4 * at..4 * at + 4];
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let factor = |kind: usize, lane: usize| float(sweep.factors, kind * 16 + lane);
    for (q, bound) in sweep.bounds.iter().enumerate() {
        let query = &sweep.queries[q * 2 * sweep.half..][..2 * sweep.half];
        let (below, above) = query.split_at(sweep.half);
        let mut lanes = [0i32; 16];
        let steps = sweep.codes.as_chunks::<64>().0.iter();
        let queries = below.as_chunks::<4>().0.iter().zip(above.as_chunks::<4>().0);
        for (codes, (below, above)) in steps.zip(queries) {
            for (lane, codes) in lanes.iter_mut().zip(codes.as_chunks::<4>().0) {
                for b in 0..4 {
                    *lane += i32::from(codes[b] & 15) * i32::from(below[b])
                        + i32::from(codes[b] >> 4) * i32::from(above[b]);
                }
            }
        }
        masks[q] = 0;
        for (lane, sum) in lanes.iter().enumerate() {
            let j = sum.wrapping_mul(2).wrapping_sub(bound.bias);
            let reach = j as f32 * (bound.gain * factor(0, lane))
                + (bound.error * factor(1, lane) + bound.norm * factor(2, lane))
                + bound.tail * float(sweep.tails, lane);
            sums[q][lane] = j;
            let excluded = reach < bound.low;
            masks[q] |= u32::from(!excluded) << lane;
        }
    }
}

fn low([low, rest]: [&[u8]; 2], queries: [&[i8]; 2]) -> i32 {
    let sum = |codes: &[u8], query: &[i8]| -> i32 {
        let (below, above) = query.split_at(codes.len());
        let queries = below.iter().zip(above);
        codes
            .iter()
            .zip(queries)
            .map(|(&code, (&below, &above))| {
                i32::from(code & 15) * i32::from(below) + i32::from(code >> 4) * i32::from(above)
            })
            .sum()
    };
    sum(low, queries[0]).wrapping_add(sum(rest, queries[1]).wrapping_mul(16))
}
