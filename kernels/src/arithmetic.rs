//! Arithmetic on slices in the shape that compilers turn into vector instructions, whatever those are: the result is the
//! same with all.

/// The largest absolute value, 0 of none, in sixteen lanes as [`dot`].
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let larger = |most: f32, value: f32| if value.abs() > most { value.abs() } else { most };
    let mut lanes = [0f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (most, &value) in lanes.iter_mut().zip(chunk) {
            *most = larger(*most, value);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(0.0, |most, &value| larger(most, value))
}

/// The nearest integer, the even one of two, of a value from −127 to 127. Larger ones give any.
///
/// A cast would be checked for each value; next to 1.5 · 2²³ floats are integers, whose lowest byte is that one.
#[inline(always)]
pub(crate) fn nearest(value: f32) -> i8 {
    (value + 12_582_912.0).to_bits() as i8
}

/// A sum in sixteen lanes, which a compiler can keep in registers.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += a * b;
    }
    sums.iter().sum()
}
