//! Inner products in f32 that are the same to the bit on every machine: sixteen sums, nothing fused, added as a tree.

/// Vectors that are multiplied with one at once.
pub(crate) const PRODUCTS: usize = 4;

const LANES: usize = 16;

/// The inner product of two vectors: partial sum `i mod 16` takes component `i`, in ascending order; then the upper half is
/// added to the lower until one is left.
pub(crate) fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    finish(sums, a_rest, b_rest)
}

/// Adds what is left of two vectors, and then the sums.
fn finish(mut sums: [f32; LANES], a: &[f32], b: &[f32]) -> f32 {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
    for half in [8, 4, 2, 1] {
        for j in 0..half {
            sums[j] += sums[j + half];
        }
    }
    sums[0]
}

pub(super) fn portable(vectors: &[f32], row: &[f32]) -> [f32; PRODUCTS] {
    std::array::from_fn(|v| product(&vectors[v * row.len()..][..row.len()], row))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn avx2(vectors: &[f32], row: &[f32]) -> [f32; PRODUCTS] {
    use std::arch::x86_64::*;

    let dimension = row.len();
    let mut lanes = [[_mm256_setzero_ps(); 2]; PRODUCTS];
    for at in (0..dimension / LANES * LANES).step_by(LANES) {
        for half in 0..2 {
            // SAFETY: sixteen components are left of the row, and by the caller's check of each of the vectors.
            let row = unsafe { _mm256_loadu_ps(row.as_ptr().add(at + 8 * half)) };
            for (v, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: as above.
                let vector = unsafe { _mm256_loadu_ps(vectors.as_ptr().add(v * dimension + at + 8 * half)) };
                lanes[half] = _mm256_add_ps(lanes[half], _mm256_mul_ps(vector, row));
            }
        }
    }
    let rest = dimension / LANES * LANES;
    std::array::from_fn(|v| {
        let mut sums = [0f32; LANES];
        for (half, &lanes) in lanes[v].iter().enumerate() {
            // SAFETY: there are two times eight sums.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(8 * half), lanes) };
        }
        finish(sums, &vectors[v * dimension..][rest..dimension], &row[rest..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instructions;
    use crate::dispatch::Kernels;

    #[test]
    fn all_instructions_give_the_same_bits() {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for dimension in (1..70).chain([384, 1000]) {
            let vectors: Vec<f32> = (0..PRODUCTS * dimension).map(|_| next()).collect();
            let row: Vec<f32> = (0..dimension).map(|_| next()).collect();
            let expected = portable(&vectors, &row).map(f32::to_bits);
            let kernels = Instructions::ALL.into_iter().filter_map(Kernels::of);
            for kernels in kernels {
                let found = kernels.products(&vectors, &row).map(f32::to_bits);
                assert_eq!(found, expected, "{:?}, {dimension}", kernels.instructions);
            }
            let real: f64 = row
                .iter()
                .zip(&vectors)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            assert!((real - f64::from(product(&vectors[..dimension], &row))).abs() < 1e-4);
        }
    }
}
