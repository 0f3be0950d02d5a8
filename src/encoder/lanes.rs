//! Sixteen f32 lanes on three kinds of CPU, and the choice among them.
//!
//! All three compute the same sequence of roundings wherever the CPU has fused multiply-add, so that a
//! vector does not depend on which of them made it.

/// The instruction set that the encoder's arithmetic uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The widest that this CPU has.
    pub(crate) fn detect() -> Self {
        Self::available().first().copied().unwrap_or(Isa::Portable)
    }

    /// All that this CPU has, the widest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                all.push(Isa::Avx512);
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                all.push(Isa::Avx2);
            }
        }
        all.push(Isa::Portable);
        all
    }

    /// Vectors of sixteen in the width of a packed panel.
    pub(crate) fn panel_vectors(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::PANEL,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::PANEL,
            Isa::Portable => Portable::PANEL,
        }
    }
}

/// Sixteen lanes of f32.
///
/// # Safety
/// Every function may be called only on a CPU that has the implementor's instruction set;
/// `load` and `store` need sixteen valid elements at the pointer, of any alignment.
pub(crate) trait Lanes {
    type V: Copy;
    /// Vectors in the width of a panel of a packed matrix: 1 or 2.
    const PANEL: usize;
    /// Rows of a tile whose sums all stay in registers.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger one; `b` if either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` if either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2 to the power of a whole number in -126..=127.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// Fetches the line at `p` into the first-level cache; any address will do.
    #[inline(always)]
    unsafe fn prefetch(_p: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    pub(crate) struct Avx512;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    macro_rules! lanewise {
        ($($name:ident($($arg:ident),+) = $body:expr;)+) => {
            $(
                #[inline(always)]
                unsafe fn $name($($arg: Self::V),+) -> Self::V {
                    // SAFETY: the caller promises the instruction set.
                    unsafe { $body }
                }
            )+
        };
    }

    impl Lanes for Avx512 {
        type V = __m512;
        const PANEL: usize = 2;
        const ROWS: usize = 14;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            // SAFETY: the caller promises the instruction set.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            // SAFETY: the caller promises the instruction set and sixteen elements at `p`.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            // SAFETY: the caller promises the instruction set and sixteen elements at `p`.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a prefetch reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        lanewise! {
            add(a, b) = _mm512_add_ps(a, b);
            sub(a, b) = _mm512_sub_ps(a, b);
            mul(a, b) = _mm512_mul_ps(a, b);
            div(a, b) = _mm512_div_ps(a, b);
            max(a, b) = _mm512_max_ps(a, b);
            min(a, b) = _mm512_min_ps(a, b);
            fma(a, b, c) = _mm512_fmadd_ps(a, b, c);
            round(a) = _mm512_roundscale_ps::<NEAREST>(a);
            pow2(n) = _mm512_scalef_ps(_mm512_set1_ps(1.0), n);
        }
    }

    /// Two vectors of eight make sixteen lanes.
    pub(crate) struct Avx2;

    impl Lanes for Avx2 {
        type V = (__m256, __m256);
        const PANEL: usize = 1;
        const ROWS: usize = 6;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY: the caller promises the instruction set.
            let v = unsafe { _mm256_set1_ps(x) };
            (v, v)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self::V {
            // SAFETY: the caller promises the instruction set and sixteen elements at `p`.
            unsafe { (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: Self::V) {
            // SAFETY: the caller promises the instruction set and sixteen elements at `p`.
            unsafe {
                _mm256_storeu_ps(p, v.0);
                _mm256_storeu_ps(p.add(8), v.1);
            }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: a prefetch reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
        lanewise! {
            add(a, b) = (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1));
            sub(a, b) = (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1));
            mul(a, b) = (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1));
            div(a, b) = (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1));
            max(a, b) = (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1));
            min(a, b) = (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1));
            fma(a, b, c) = (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1));
            round(a) = (_mm256_round_ps::<NEAREST>(a.0), _mm256_round_ps::<NEAREST>(a.1));
            pow2(n) = (pow2_half(n.0), pow2_half(n.1));
        }
    }

    #[inline(always)]
    unsafe fn pow2_half(n: __m256) -> __m256 {
        // SAFETY: the caller promises the instruction set.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
}

/// Plain Rust, for every other CPU.
pub(crate) struct Portable;

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> [f32; 16] {
    std::array::from_fn(f)
}

impl Lanes for Portable {
    type V = [f32; 16];
    const PANEL: usize = 1;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller promises sixteen elements at `p`; an array of f32 has f32's alignment.
        unsafe { p.cast::<[f32; 16]>().read() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: the caller promises sixteen elements at `p`; an array of f32 has f32's alignment.
        unsafe { p.cast::<[f32; 16]>().write(v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without the instruction `mul_add` calls a library function that takes as long as sixteen lanes.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        each(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        each(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
}

/// Makes a function that runs `$body::<L>` with the instruction set it is told to use.
macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $ty:ty),+ $(,)?)) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name(isa: $crate::encoder::lanes::Isa, $($arg: $ty),+) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),+) {
                // SAFETY: this function is called only where AVX-512F was detected.
                unsafe { $body::<$crate::encoder::lanes::Avx512>($($arg),+) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),+) {
                // SAFETY: this function is called only where AVX2 and FMA were detected.
                unsafe { $body::<$crate::encoder::lanes::Avx2>($($arg),+) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa::available` gives this value only where the CPU has the instructions.
                $crate::encoder::lanes::Isa::Avx512 => unsafe { avx512($($arg),+) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::encoder::lanes::Isa::Avx2 => unsafe { avx2($($arg),+) },
                $crate::encoder::lanes::Isa::Portable => {
                    // SAFETY: the portable lanes need no instruction set.
                    unsafe { $body::<$crate::encoder::lanes::Portable>($($arg),+) }
                }
            }
        }
    };
}
pub(crate) use dispatch;
