//! Matrix products for the forward pass: `out = activation(a × b + bias)` with `b` packed once.
//!
//! Every element of a product is summed over the depth in order, one fused multiply-add a step, whatever
//! tile it falls into: the result for a row depends on that row alone, to the bit.

use super::config::Activation;
use super::elementwise::activate_all;
use super::lanes::{Isa, Lanes, dispatch};

/// Sixteen elements on a cache line of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A matrix `[depth, columns]` cut into panels of 16 or 32 columns, each panel's rows one after the other.
pub(crate) struct Panels {
    lines: Vec<Line>,
    depth: usize,
    columns: usize,
    /// Lines in a row of a panel.
    width: usize,
}

impl Panels {
    /// An empty matrix for `isa`, to be filled with [`Panels::pack`].
    pub(crate) fn new(isa: Isa) -> Self {
        Self {
            lines: Vec::new(),
            depth: 0,
            columns: 0,
            width: isa.panel_vectors(),
        }
    }

    /// Fills the matrix with `value(row, column)`, column by column of a panel where `by_column`, else row by row:
    /// the order in which the source lies in memory.
    pub(crate) fn pack(
        &mut self,
        depth: usize,
        columns: usize,
        by_column: bool,
        value: impl Fn(usize, usize) -> f32,
    ) {
        self.depth = depth;
        self.columns = columns;
        let wide = self.width * 16;
        let panels = columns.div_ceil(wide);
        self.lines.clear();
        self.lines.resize(panels * depth * self.width, Line([0.0; 16]));
        for panel in 0..panels {
            let lines = &mut self.lines[panel * depth * self.width..(panel + 1) * depth * self.width];
            let here = wide.min(columns - panel * wide);
            let mut set = |row: usize, c: usize| {
                lines[row * self.width + c / 16].0[c % 16] = value(row, panel * wide + c);
            };
            if by_column {
                for c in 0..here {
                    (0..depth).for_each(|row| set(row, c));
                }
            } else {
                for row in 0..depth {
                    (0..here).for_each(|c| set(row, c));
                }
            }
        }
    }

    /// A row-major array `[rows, columns]` whose rows are `stride` elements apart.
    pub(crate) fn pack_rows(&mut self, rows: Rows<'_>, columns: usize) {
        self.depth = rows.rows;
        self.columns = columns;
        let wide = self.width * 16;
        self.lines.clear();
        self.lines
            .resize(columns.div_ceil(wide) * self.depth * self.width, Line([0.0; 16]));
        for (panel, lines) in self
            .lines
            .chunks_exact_mut((self.depth * self.width).max(1))
            .enumerate()
        {
            let first = panel * wide;
            let here = wide.min(columns - first);
            for (row, lines) in lines.chunks_exact_mut(self.width).enumerate() {
                let from = &rows.data[row * rows.stride + first..][..here];
                for (line, from) in lines.iter_mut().zip(from.chunks(16)) {
                    line.0[..from.len()].copy_from_slice(from);
                }
            }
        }
    }

    /// Several PyTorch weights `[output, depth]` side by side, as a matrix `[depth, sum of outputs]`.
    pub(crate) fn from_weights(isa: Isa, depth: usize, weights: &[&[f32]]) -> Self {
        let rows: Vec<&[f32]> = weights.iter().flat_map(|w| w.chunks_exact(depth)).collect();
        let mut panels = Self::new(isa);
        panels.pack(depth, rows.len(), true, |row, column| rows[column][row]);
        panels
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns of the matrix as a PyTorch weight `[columns, depth]` again.
    pub(crate) fn to_weight(&self, columns: std::ops::Range<usize>) -> Vec<f32> {
        let mut weight = Vec::with_capacity(columns.len() * self.depth);
        for column in columns {
            let (panel, c) = (column / (16 * self.width), column % (16 * self.width));
            let lines = &self.lines[panel * self.depth * self.width..][..self.depth * self.width];
            weight.extend((0..self.depth).map(|row| lines[row * self.width + c / 16].0[c % 16]));
        }
        weight
    }
}

/// Rows of a larger row-major array: `rows` of them, `stride` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub rows: usize,
}

/// What is done to the sums of a product before they are stored.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// Added to every row; empty for none.
    pub bias: &'a [f32],
    pub activation: Option<Activation>,
}

/// A product's sums as they are.
pub(crate) const PLAIN: Finish<'static> = Finish {
    bias: &[],
    activation: None,
};

dispatch! {
    /// `out[i, j] = finish(sum over k of a[i, k] b[k, j])`; rows of `out` are `out_stride` elements apart, and
    /// elements between them are left alone.
    product = product_body(a: Rows<'_>, b: &Panels, finish: Finish<'_>, out: &mut [f32], out_stride: usize)
}

#[inline(always)]
unsafe fn product_body<L: Lanes>(
    a: Rows<'_>,
    b: &Panels,
    finish: Finish<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let (m, n, k) = (a.rows, b.columns, b.depth);
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        b.width == L::PANEL,
        "the matrix was packed for another instruction set"
    );
    assert!(a.data.len() >= (m - 1) * a.stride + k && out.len() >= (m - 1) * out_stride + n);
    assert!(finish.bias.is_empty() || finish.bias.len() == n);
    let wide = 16 * L::PANEL;
    for (panel, column) in (0..n).step_by(wide).enumerate() {
        let columns = wide.min(n - column);
        let mut bias = [0.0f32; 32];
        if !finish.bias.is_empty() {
            bias[..columns].copy_from_slice(&finish.bias[column..column + columns]);
        }
        let lines = &b.lines[panel * k * L::PANEL..(panel + 1) * k * L::PANEL];
        let mut row = 0;
        while row < m {
            let rows = L::ROWS.min(m - row);
            let tile = Tile {
                a: a.data[row * a.stride..].as_ptr(),
                a_stride: a.stride,
                b: lines.as_ptr().cast(),
                depth: k,
                bias: &bias,
                out: out[row * out_stride + column..].as_mut_ptr(),
                out_stride,
                columns,
            };
            // SAFETY: the asserts above keep every row of the tile inside `a` and `out`, and the panel has
            // `depth` rows of `PANEL` lines; the caller promises the instruction set.
            unsafe {
                tile.run_rows::<L, false>(rows);
            }
            if let Some(activation) = finish.activation {
                for out in out[row * out_stride..].chunks_mut(out_stride).take(rows) {
                    // SAFETY: the caller promises the instruction set.
                    unsafe { activate_all::<L>(activation, &mut out[column..column + columns]) };
                }
            }
            row += rows;
        }
    }
}

dispatch! {
    /// `out[i, j] += sum over t of a[t, i] b[t, j]` for the first `columns` columns of `a`: the gradient of a weight.
    /// Summed in the order of `t`, so that cutting the depth into several calls changes no bit. `room` is memory to
    /// work in.
    add_transposed_product = add_transposed_body(
        a: Rows<'_>, columns: usize, b: &Panels, out: &mut [f32], out_stride: usize, room: &mut Vec<f32>
    )
}

#[inline(always)]
unsafe fn add_transposed_body<L: Lanes>(
    a: Rows<'_>,
    columns: usize,
    b: &Panels,
    out: &mut [f32],
    out_stride: usize,
    room: &mut Vec<f32>,
) {
    let (n, k) = (b.columns, b.depth);
    if columns == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(
        b.width == L::PANEL,
        "the matrix was packed for another instruction set"
    );
    assert!(a.rows == k && a.data.len() >= (k - 1) * a.stride + columns);
    assert!(out.len() >= (columns - 1) * out_stride + n);
    let wide = 16 * L::PANEL;
    room.resize(k * L::ROWS, 0.0);
    for first in (0..columns).step_by(L::ROWS) {
        let rows = L::ROWS.min(columns - first);
        for (row, to) in room.chunks_exact_mut(rows).take(k).enumerate() {
            let from = &a.data[row * a.stride + first..][..rows];
            // So few elements at a time: copied in registers where their number is known, a call for each costs more.
            match (to.first_chunk_mut::<14>(), from.first_chunk::<14>()) {
                (Some(to), Some(from)) => *to = *from,
                _ => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
            }
        }
        for (panel, column) in (0..n).step_by(wide).enumerate() {
            let lines = &b.lines[panel * k * L::PANEL..(panel + 1) * k * L::PANEL];
            let tile = Tile {
                a: room.as_ptr(),
                a_stride: rows,
                b: lines.as_ptr().cast(),
                depth: k,
                bias: &[0.0; 32],
                out: out[first * out_stride + column..].as_mut_ptr(),
                out_stride,
                columns: wide.min(n - column),
            };
            // SAFETY: `room` holds `depth` rows of `rows` elements, the asserts above keep every row of the tile inside
            // `out`, and the panel has `depth` rows of `PANEL` lines; the caller promises the instruction set.
            unsafe { tile.run_rows::<L, true>(rows) };
        }
    }
}

/// Steps of the depth by which a panel is fetched ahead.
const PREFETCH_STEPS: usize = 12;

/// A few rows times one panel, summed in registers.
struct Tile<'a> {
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    depth: usize,
    bias: &'a [f32; 32],
    out: *mut f32,
    out_stride: usize,
    /// Columns that are stored, at most the panel's width.
    columns: usize,
}

impl Tile<'_> {
    /// Runs the tile with `rows` rows. Where `TRANSPOSED`, `a` is `[depth, rows]` and the sums are added to `out`.
    #[inline(always)]
    unsafe fn run_rows<L: Lanes, const TRANSPOSED: bool>(self, rows: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match rows {
                14 => self.run::<L, 14, TRANSPOSED>(),
                13 => self.run::<L, 13, TRANSPOSED>(),
                12 => self.run::<L, 12, TRANSPOSED>(),
                11 => self.run::<L, 11, TRANSPOSED>(),
                10 => self.run::<L, 10, TRANSPOSED>(),
                9 => self.run::<L, 9, TRANSPOSED>(),
                8 => self.run::<L, 8, TRANSPOSED>(),
                7 => self.run::<L, 7, TRANSPOSED>(),
                6 => self.run::<L, 6, TRANSPOSED>(),
                5 => self.run::<L, 5, TRANSPOSED>(),
                4 => self.run::<L, 4, TRANSPOSED>(),
                3 => self.run::<L, 3, TRANSPOSED>(),
                2 => self.run::<L, 2, TRANSPOSED>(),
                _ => self.run::<L, 1, TRANSPOSED>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn run<L: Lanes, const R: usize, const TRANSPOSED: bool>(self) {
        // Sizes that the instruction set never uses would only make the program larger.
        if R > L::ROWS {
            return;
        }
        // SAFETY: see the caller: R rows of `depth` elements at `a` (`depth` rows of R where transposed), `depth` rows
        // of the panel at `b`, R rows of `columns` elements at `out`; the second vector is touched only where the panel
        // has two.
        unsafe {
            let two = L::PANEL == 2;
            let low = L::load(self.bias.as_ptr());
            let high = L::load(self.bias.as_ptr().add(16));
            let mut sums = [[low, high]; R];
            if TRANSPOSED {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let out = self.out.add(r * self.out_stride);
                    if self.columns == 32 {
                        *sum = [L::load(out), L::load(out.add(16))];
                        continue;
                    }
                    let mut before = [0.0f32; 32];
                    std::ptr::copy_nonoverlapping(out, before.as_mut_ptr(), self.columns);
                    *sum = [L::load(before.as_ptr()), L::load(before.as_ptr().add(16))];
                }
            }
            let mut b = self.b;
            for k in 0..self.depth {
                // The panel comes from the second-level cache: without this a quarter of the time is waiting.
                L::prefetch(b.wrapping_add(PREFETCH_STEPS * 16 * L::PANEL));
                if two {
                    L::prefetch(b.wrapping_add(PREFETCH_STEPS * 16 * L::PANEL + 16));
                }
                let b0 = L::load(b);
                let b1 = if two { L::load(b.add(16)) } else { b0 };
                b = b.add(16 * L::PANEL);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let at = if TRANSPOSED {
                        k * R + r
                    } else {
                        r * self.a_stride + k
                    };
                    let a = L::splat(*self.a.add(at));
                    sum[0] = L::fma(a, b0, sum[0]);
                    if two {
                        sum[1] = L::fma(a, b1, sum[1]);
                    }
                }
            }
            // Constant places only, or the sums would live in memory during the loop above.
            if self.columns == 16 * L::PANEL {
                for (r, sum) in sums.iter().enumerate() {
                    let out = self.out.add(r * self.out_stride);
                    L::store(out, sum[0]);
                    if two {
                        L::store(out.add(16), sum[1]);
                    }
                }
            } else {
                let mut tile = [[0.0f32; 32]; R];
                for (row, sum) in tile.iter_mut().zip(&sums) {
                    L::store(row.as_mut_ptr(), sum[0]);
                    if two {
                        L::store(row.as_mut_ptr().add(16), sum[1]);
                    }
                }
                for (r, row) in tile.iter().enumerate() {
                    let out = self.out.add(r * self.out_stride);
                    std::ptr::copy_nonoverlapping(row.as_ptr(), out, self.columns);
                }
            }
        }
    }
}
