//! Row-wise arithmetic of training: layer norm and activation with their derivatives, dropout, sums of columns.
//!
//! The bodies are plain loops over sixteen lanes where that is enough: `dispatch!` compiles them for each instruction
//! set, and without fused operations all of them round alike.

use crate::encoder::config::Activation;
use crate::encoder::elementwise::{activate, exp, load_part, normal_tail};
pub(super) use crate::encoder::elementwise::{add, multiply};
use crate::encoder::lanes::{Lanes, dispatch};

/// `Σ f(i)` for `i` in `0..n`, in sixteen lanes.
#[inline(always)]
fn lanes_sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let whole = n / 16 * 16;
    for j in (0..whole).step_by(16) {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane += f(j + i);
        }
    }
    for i in whole..n {
        lanes[i - whole] += f(i);
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

dispatch! {
    /// Layer norm of the rows of `x`, keeping what its derivative needs: `normed` gets `(x - mean) / deviation`,
    /// `inverse` one `1 / deviation` a row, `out` gets `normed * scale + shift`. `x` and `out` may not be the same.
    norm_forward = norm_forward_body(
        x: &[f32], scale: &[f32], shift: &[f32], eps: f32, normed: &mut [f32], inverse: &mut [f32], out: &mut [f32]
    )
}

#[inline(always)]
unsafe fn norm_forward_body<L: Lanes>(
    x: &[f32],
    scale: &[f32],
    shift: &[f32],
    eps: f32,
    normed: &mut [f32],
    inverse: &mut [f32],
    out: &mut [f32],
) {
    let d = scale.len();
    let shift = &shift[..d];
    let rows = x.chunks_exact(d).zip(normed.chunks_exact_mut(d));
    for (((x, normed), inverse), out) in rows.zip(inverse).zip(out.chunks_exact_mut(d)) {
        let mean = lanes_sum(d, |i| x[i]) / d as f32;
        let variance = lanes_sum(d, |i| (x[i] - mean) * (x[i] - mean)) / d as f32;
        let factor = 1.0 / (variance + eps).sqrt();
        *inverse = factor;
        for i in 0..d {
            normed[i] = (x[i] - mean) * factor;
            out[i] = normed[i] * scale[i] + shift[i];
        }
    }
}

dispatch! {
    /// The derivative of [`norm_forward`]: `gradient`, of its output, becomes that of its input; `scale_gradient` and
    /// `shift_gradient` are added to.
    norm_backward = norm_backward_body(
        gradient: &mut [f32], normed: &[f32], inverse: &[f32], scale: &[f32],
        scale_gradient: &mut [f32], shift_gradient: &mut [f32]
    )
}

#[inline(always)]
unsafe fn norm_backward_body<L: Lanes>(
    gradient: &mut [f32],
    normed: &[f32],
    inverse: &[f32],
    scale: &[f32],
    scale_gradient: &mut [f32],
    shift_gradient: &mut [f32],
) {
    let d = scale.len();
    let (scale_gradient, shift_gradient) = (&mut scale_gradient[..d], &mut shift_gradient[..d]);
    let rows = gradient.chunks_exact_mut(d).zip(normed.chunks_exact(d));
    for ((g, normed), inverse) in rows.zip(inverse) {
        for i in 0..d {
            scale_gradient[i] += g[i] * normed[i];
            shift_gradient[i] += g[i];
            g[i] *= scale[i];
        }
        let mean = lanes_sum(d, |i| g[i]) / d as f32;
        let slope = lanes_sum(d, |i| g[i] * normed[i]) / d as f32;
        for i in 0..d {
            g[i] = (g[i] - mean - normed[i] * slope) * inverse;
        }
    }
}

dispatch! {
    /// T5's norm of the rows of `x`, keeping what its derivative needs: `normed` gets `x` divided by the root of its mean
    /// square, `inverse` one over that root, `out` gets `normed * scale`.
    root_norm_forward = root_norm_forward_body(
        x: &[f32], scale: &[f32], eps: f32, normed: &mut [f32], inverse: &mut [f32], out: &mut [f32]
    )
}

#[inline(always)]
unsafe fn root_norm_forward_body<L: Lanes>(
    x: &[f32],
    scale: &[f32],
    eps: f32,
    normed: &mut [f32],
    inverse: &mut [f32],
    out: &mut [f32],
) {
    let d = scale.len();
    let rows = x.chunks_exact(d).zip(normed.chunks_exact_mut(d));
    for (((x, normed), inverse), out) in rows.zip(inverse).zip(out.chunks_exact_mut(d)) {
        let square = lanes_sum(d, |i| x[i] * x[i]) / d as f32;
        let factor = 1.0 / (square + eps).sqrt();
        *inverse = factor;
        for i in 0..d {
            normed[i] = x[i] * factor;
            out[i] = normed[i] * scale[i];
        }
    }
}

dispatch! {
    /// The derivative of [`root_norm_forward`]: `gradient`, of its output, becomes that of its input; `scale_gradient` is
    /// added to.
    root_norm_backward = root_norm_backward_body(
        gradient: &mut [f32], normed: &[f32], inverse: &[f32], scale: &[f32], scale_gradient: &mut [f32]
    )
}

#[inline(always)]
unsafe fn root_norm_backward_body<L: Lanes>(
    gradient: &mut [f32],
    normed: &[f32],
    inverse: &[f32],
    scale: &[f32],
    scale_gradient: &mut [f32],
) {
    let d = scale.len();
    let scale_gradient = &mut scale_gradient[..d];
    let rows = gradient.chunks_exact_mut(d).zip(normed.chunks_exact(d));
    for ((g, normed), inverse) in rows.zip(inverse) {
        for i in 0..d {
            scale_gradient[i] += g[i] * normed[i];
            g[i] *= scale[i];
        }
        let slope = lanes_sum(d, |i| g[i] * normed[i]) / d as f32;
        for i in 0..d {
            g[i] = (g[i] - normed[i] * slope) * inverse;
        }
    }
}

dispatch! {
    /// `out = activation(x)`.
    activate_into = activate_into_body(activation: Activation, x: &[f32], out: &mut [f32])
}

#[inline(always)]
unsafe fn activate_into_body<L: Lanes>(activation: Activation, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks(16).zip(out.chunks_mut(16)) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: arrays of sixteen; the caller promises the instruction set.
        unsafe {
            let v = load_part::<L>(x, 0.0);
            L::store(lanes.as_mut_ptr(), activate::<L>(activation, v));
        }
        out.copy_from_slice(&lanes[..x.len()]);
    }
}

dispatch! {
    /// The derivative of [`activate_into`]: `gradient` is multiplied by `activation'(x)`, and `x` becomes `activation(x)`.
    activation_backward = activation_backward_body(activation: Activation, x: &mut [f32], gradient: &mut [f32])
}

#[inline(always)]
unsafe fn activation_backward_body<L: Lanes>(activation: Activation, x: &mut [f32], gradient: &mut [f32]) {
    for (x, gradient) in x.chunks_mut(16).zip(gradient.chunks_mut(16)) {
        let (mut values, mut slopes) = ([0.0f32; 16], [0.0f32; 16]);
        // SAFETY: arrays of sixteen; the caller promises the instruction set.
        unsafe {
            let v = load_part::<L>(x, 0.0);
            let (value, slope) = with_slope::<L>(activation, v);
            L::store(values.as_mut_ptr(), value);
            L::store(slopes.as_mut_ptr(), slope);
        }
        for (gradient, slope) in gradient.iter_mut().zip(&slopes) {
            *gradient *= slope;
        }
        x.copy_from_slice(&values[..x.len()]);
    }
}

/// An activation's value and derivative.
#[inline(always)]
unsafe fn with_slope<L: Lanes>(activation: Activation, x: L::V) -> (L::V, L::V) {
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        match activation {
            Activation::Gelu => {
                // x Φ(x) has the derivative Φ(x) + x φ(x), with φ(x) = e^(-x²/2) / √(2π).
                let a = L::max(x, L::sub(zero, x));
                let (g, e) = normal_tail::<L>(x, a);
                let tail = L::mul(g, e);
                let value = L::sub(L::max(zero, x), L::mul(a, tail));
                let positive = step::<L>(x);
                // Φ(x) is the tail on the left, one less the tail on the right.
                let below = L::fma(positive, L::sub(one, L::add(tail, tail)), tail);
                (value, L::fma(L::mul(x, e), L::splat(0.398_942_3), below))
            }
            Activation::GeluNew => {
                // x σ(2u) with u = √(2/π) (x + 0.044715 x³) has the derivative σ + 2 x u' σ (1 - σ).
                let square = L::mul(x, x);
                let cubic = L::fma(square, L::splat(0.044_715), one);
                let u = L::mul(L::mul(x, cubic), L::splat(0.797_884_6));
                let sigma = L::div(one, L::add(one, exp::<L>(L::mul(u, L::splat(-2.0)))));
                let slope = L::mul(
                    L::fma(square, L::splat(0.134_145), one),
                    L::splat(2.0 * 0.797_884_6),
                );
                let bend = L::mul(L::mul(x, slope), L::mul(sigma, L::sub(one, sigma)));
                (L::mul(x, sigma), L::add(sigma, bend))
            }
            Activation::Relu => (L::max(zero, x), step::<L>(x)),
        }
    }
}

/// 1 where `x` is above 0 (by more than 1e-30), else 0.
#[inline(always)]
unsafe fn step<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: the caller promises the instruction set of `L`.
    unsafe { L::min(L::splat(1.0), L::max(L::splat(0.0), L::mul(x, L::splat(1e30)))) }
}

dispatch! {
    /// Sets elements to 0 with the chance `threshold / 2³²` and divides the others by the rest of it. Which ones is
    /// decided by the row's key and the column alone (a finaliser of MurmurHash3 over both).
    drop_out = drop_out_body(x: &mut [f32], d: usize, keys: &[u64], site: u64, threshold: u32, factor: f32)
}

#[inline(always)]
unsafe fn drop_out_body<L: Lanes>(
    x: &mut [f32],
    d: usize,
    keys: &[u64],
    site: u64,
    threshold: u32,
    factor: f32,
) {
    for (row, &key) in x.chunks_exact_mut(d).zip(keys) {
        let key = crate::random::mix(key ^ site);
        let (low, high) = (key as u32, (key >> 32) as u32);
        for (column, x) in row.iter_mut().enumerate() {
            let mut h = low.wrapping_add((column as u32).wrapping_mul(0x9e37_79b9));
            h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b) ^ high;
            h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
            h ^= h >> 16;
            *x *= if h < threshold { 0.0 } else { factor };
        }
    }
}

dispatch! {
    /// `sums[j] += Σ over rows of x[., j]`.
    add_columns = add_columns_body(x: &[f32], sums: &mut [f32])
}

#[inline(always)]
unsafe fn add_columns_body<L: Lanes>(x: &[f32], sums: &mut [f32]) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

dispatch! {
    /// The derivative of a softmax, row by row: `gradient = factor * p * (gradient - Σ p gradient)` over the first `n`
    /// of `stride` elements.
    softmax_backward = softmax_backward_body(p: &[f32], gradient: &mut [f32], stride: usize, n: usize, factor: f32)
}

#[inline(always)]
unsafe fn softmax_backward_body<L: Lanes>(
    p: &[f32],
    gradient: &mut [f32],
    stride: usize,
    n: usize,
    factor: f32,
) {
    for (p, g) in p.chunks_exact(stride).zip(gradient.chunks_exact_mut(stride)) {
        let (p, g) = (&p[..n], &mut g[..n]);
        let mean = lanes_sum(n, |i| p[i] * g[i]);
        for i in 0..n {
            g[i] = factor * p[i] * (g[i] - mean);
        }
    }
}
