//! Row-wise arithmetic of the forward pass: activations, softmax, layer norm.

use super::config::Activation;
use super::lanes::{Lanes, dispatch};

/// `e^x` for x in about -87..=88, relative error below 2e-7; smaller x give about 1e-38.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, then the Taylor polynomial of degree 7 in r, times `2^n`.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        // The order of operands matters: a NaN must come out as one.
        let x = L::min(L::splat(88.0), L::max(L::splat(-87.3), x));
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        let r = L::fma(n, L::splat(-LN2_HIGH), x);
        let r = L::fma(n, L::splat(-LN2_LOW), r);
        let mut p = L::splat(1.0 / 5040.0);
        for c in COEFFICIENTS {
            p = L::fma(p, r, L::splat(c));
        }
        L::mul(p, L::pow2(n))
    }
}

/// `x Φ(x)`, absolute error below 3e-7 for |x| up to 9.
///
/// `x Φ(x) = max(x, 0) - |x| Φ(-|x|)` and `Φ(-a) = e^(-a²/2) g(a)`, where g is smooth and falls slowly: a
/// polynomial in `t = 1 / (1 + 0.27 a)` without constant term, fitted by weighted least squares so that the
/// weighted error `e^(-a²/2) Δg` is level over 0..9 (1.3e-8 before rounding).
#[inline(always)]
unsafe fn gelu<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        let zero = L::splat(0.0);
        let a = L::max(x, L::sub(zero, x));
        let (g, e) = normal_tail::<L>(x, a);
        L::sub(L::max(zero, x), L::mul(a, L::mul(g, e)))
    }
}

/// `g(a)` and `e^(-x²/2)`, whose product is `Φ(-a)`, for `a = |x|`.
#[inline(always)]
pub(crate) unsafe fn normal_tail<L: Lanes>(x: L::V, a: L::V) -> (L::V, L::V) {
    const G: [f32; 6] = [
        -0.121_597_35,
        0.510_052_56,
        -0.423_034_8,
        0.399_048_37,
        0.016_350_219,
        0.119_180_97,
    ];
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        let t = L::div(L::splat(1.0), L::fma(a, L::splat(0.27), L::splat(1.0)));
        let mut g = L::splat(G[0]);
        for c in &G[1..] {
            g = L::fma(g, t, L::splat(*c));
        }
        (L::mul(g, t), exp::<L>(L::mul(L::mul(x, x), L::splat(-0.5))))
    }
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
#[inline(always)]
unsafe fn gelu_tanh<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        let cubic = L::fma(L::mul(x, x), L::splat(0.044_715), L::splat(1.0));
        let u = L::mul(L::mul(x, cubic), L::splat(0.797_884_6));
        // (1 + tanh u) / 2 = 1 / (1 + e^(-2u))
        let e = exp::<L>(L::mul(u, L::splat(-2.0)));
        L::div(x, L::add(e, L::splat(1.0)))
    }
}

/// The activation of every element.
#[inline(always)]
pub(crate) unsafe fn activate_all<L: Lanes>(activation: Activation, x: &mut [f32]) {
    let whole = x.len() / 16 * 16;
    // SAFETY: j + 16 <= whole <= x.len(), and the array has sixteen elements; the caller promises the instruction set.
    unsafe {
        for j in (0..whole).step_by(16) {
            let v = activate::<L>(activation, L::load(x.as_ptr().add(j)));
            L::store(x.as_mut_ptr().add(j), v);
        }
        if whole < x.len() {
            let rest = &mut x[whole..];
            let mut lanes = [0.0f32; 16];
            L::store(
                lanes.as_mut_ptr(),
                activate::<L>(activation, load_part::<L>(rest, 0.0)),
            );
            rest.copy_from_slice(&lanes[..rest.len()]);
        }
    }
}

/// The activation of one vector.
#[inline(always)]
pub(crate) unsafe fn activate<L: Lanes>(activation: Activation, x: L::V) -> L::V {
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        match activation {
            Activation::Gelu => gelu::<L>(x),
            Activation::GeluNew => gelu_tanh::<L>(x),
            Activation::Relu => L::max(L::splat(0.0), x),
        }
    }
}

/// Sum of sixteen lanes, always in the same order.
#[inline(always)]
pub(crate) unsafe fn sum<L: Lanes>(v: L::V) -> f32 {
    let mut lanes = [0.0f32; 16];
    // SAFETY: the array has sixteen elements; the caller promises the instruction set of `L`.
    unsafe { L::store(lanes.as_mut_ptr(), v) };
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Loads up to sixteen elements, the rest `fill`.
#[inline(always)]
pub(crate) unsafe fn load_part<L: Lanes>(x: &[f32], fill: f32) -> L::V {
    let mut lanes = [fill; 16];
    lanes[..x.len()].copy_from_slice(x);
    // SAFETY: the array has sixteen elements; the caller promises the instruction set of `L`.
    unsafe { L::load(lanes.as_ptr()) }
}

dispatch! {
    /// Layer norm over the sum of two arrays, row by row of `scale.len()` elements: `x` is replaced by
    /// `norm(x + residual) * scale + shift`. `residual` may be empty.
    add_norm = add_norm_body(x: &mut [f32], residual: &[f32], scale: &[f32], shift: &[f32], eps: f32)
}

#[inline(always)]
unsafe fn add_norm_body<L: Lanes>(x: &mut [f32], residual: &[f32], scale: &[f32], shift: &[f32], eps: f32) {
    let d = scale.len();
    assert!(shift.len() == d && (residual.is_empty() || residual.len() == x.len()));
    let whole = d / 16 * 16;
    for (i, row) in x.chunks_exact_mut(d).enumerate() {
        let residual = if residual.is_empty() {
            &[][..]
        } else {
            &residual[i * d..(i + 1) * d]
        };
        // SAFETY: every pointer below is to sixteen elements inside a row of d elements (j + 16 <= whole <= d,
        // and scale, shift and a residual that is there have d elements too); the caller promises the instruction set.
        unsafe {
            let mut total = L::splat(0.0);
            for j in (0..whole).step_by(16) {
                let mut v = L::load(row.as_ptr().add(j));
                if !residual.is_empty() {
                    v = L::add(v, L::load(residual.as_ptr().add(j)));
                    L::store(row.as_mut_ptr().add(j), v);
                }
                total = L::add(total, v);
            }
            for j in whole..d {
                if !residual.is_empty() {
                    row[j] += residual[j];
                }
            }
            total = L::add(total, load_part::<L>(&row[whole..], 0.0));
            let mean = sum::<L>(total) / d as f32;
            let centre = L::splat(mean);
            let mut squares = L::splat(0.0);
            for j in (0..whole).step_by(16) {
                let v = L::sub(L::load(row.as_ptr().add(j)), centre);
                squares = L::fma(v, v, squares);
            }
            let v = L::sub(load_part::<L>(&row[whole..], mean), centre);
            squares = L::fma(v, v, squares);
            let deviation = 1.0 / (sum::<L>(squares) / d as f32 + eps).sqrt();
            let factor = L::splat(deviation);
            for j in (0..whole).step_by(16) {
                let v = L::mul(L::sub(L::load(row.as_ptr().add(j)), centre), factor);
                let v = L::fma(v, L::load(scale.as_ptr().add(j)), L::load(shift.as_ptr().add(j)));
                L::store(row.as_mut_ptr().add(j), v);
            }
            for j in whole..d {
                row[j] = (row[j] - mean) * deviation * scale[j] + shift[j];
            }
        }
    }
}

dispatch! {
    /// The rows of `x`, of `scale.len()` elements, divided by the root of their mean square and scaled: T5's norm,
    /// `out = x / √(mean(x²) + eps) * scale`.
    scaled_by_root_mean_square = scaled_by_root_mean_square_body(x: &[f32], scale: &[f32], eps: f32, out: &mut [f32])
}

#[inline(always)]
unsafe fn scaled_by_root_mean_square_body<L: Lanes>(x: &[f32], scale: &[f32], eps: f32, out: &mut [f32]) {
    let d = scale.len();
    let whole = d / 16 * 16;
    for (x, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
        // SAFETY: every pointer is to sixteen elements inside a row of d elements (j + 16 <= whole <= d); the caller
        // promises the instruction set.
        unsafe {
            let mut squares = L::splat(0.0);
            for j in (0..whole).step_by(16) {
                let v = L::load(x.as_ptr().add(j));
                squares = L::fma(v, v, squares);
            }
            let v = load_part::<L>(&x[whole..], 0.0);
            squares = L::fma(v, v, squares);
            let factor = 1.0 / (sum::<L>(squares) / d as f32 + eps).sqrt();
            for j in 0..d {
                out[j] = x[j] * factor * scale[j];
            }
        }
    }
}

dispatch! {
    /// Adds `b` to `a`.
    add = add_body(a: &mut [f32], b: &[f32])
}

#[inline(always)]
unsafe fn add_body<L: Lanes>(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

dispatch! {
    /// Multiplies `a` by `b`.
    multiply = multiply_body(a: &mut [f32], b: &[f32])
}

#[inline(always)]
unsafe fn multiply_body<L: Lanes>(a: &mut [f32], b: &[f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a *= b;
    }
}

dispatch! {
    /// Row by row of `stride` elements, of which `n` count: `x` becomes `e^(factor (x - max))`, and `sums` the
    /// rows' sums. `factor` is positive, `stride` a multiple of sixteen; elements past `n` are overwritten.
    exponentials = exponentials_body(x: &mut [f32], stride: usize, n: usize, factor: f32, sums: &mut [f32])
}

#[inline(always)]
unsafe fn exponentials_body<L: Lanes>(x: &mut [f32], stride: usize, n: usize, factor: f32, sums: &mut [f32]) {
    assert!(stride.is_multiple_of(16) && n <= stride && n > 0);
    let end = n.next_multiple_of(16);
    for (row, row_sum) in x.chunks_exact_mut(stride).zip(sums) {
        row[n..end].fill(f32::NEG_INFINITY);
        // SAFETY: j + 16 <= end <= stride, the row's length; the caller promises the instruction set.
        unsafe {
            let mut largest = L::load(row.as_ptr());
            for j in (16..end).step_by(16) {
                largest = L::max(largest, L::load(row.as_ptr().add(j)));
            }
            let mut lanes = [0.0f32; 16];
            L::store(lanes.as_mut_ptr(), largest);
            let top = L::splat(lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let factor = L::splat(factor);
            let mut total = L::splat(0.0);
            for j in (0..end).step_by(16) {
                let e = exp::<L>(L::mul(L::sub(L::load(row.as_ptr().add(j)), top), factor));
                total = L::add(total, e);
                L::store(row.as_mut_ptr().add(j), e);
            }
            // The lanes past n hold about 1e-38, nothing beside a sum of at least 1.
            *row_sum = sum::<L>(total);
        }
    }
}
