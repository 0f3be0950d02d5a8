//! The launches of a batch: every buffer and number that a kernel is given.

use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};

use super::batch::{Ask, Buffers, Thresholds};
use super::form::Format;
use super::kernel::{Ability, Kernel, step};
use super::refine::refine;
use super::resident::{Block, Resident};
use super::rows::score_rows;
use super::select::keep_best;
use super::shape::{LANES, RowShape, Shape};
use super::tiles::{RegionLaunch, score_tiles};

/// Tiles that a cube of the tile kernel takes: several where there are many, as few as keep all of the device busy to
/// the end where there are not.
fn run_of(take: usize, ability: &Ability) -> usize {
    (take / (ability.cubes * 4)).clamp(1, 8)
}

/// Tiles of a block, `take` from the `from`-th of `tiles` on.
pub(super) struct Round {
    pub block: usize,
    pub from: usize,
    pub take: usize,
    pub tiles: usize,
}

/// What all launches of a batch share.
pub(super) struct Launch<'a> {
    pub client: &'a Client,
    pub ability: &'a Ability,
    pub part: &'a Resident,
    pub buffers: &'a Buffers,
    pub ask: &'a Ask<'a>,
}

// SAFETY of the launches below: every buffer is as long as it is said to be, for [`run`](super::batch::run) made them, and
// `Residents` the part's. The kernels stay inside: tiles are below `tiles`, so rows below the block's padded rows (a
// multiple of every kernel's documents); queries below `padded`; layers are those of the part, checked by the caller;
// slots are compared with `capacity`, numbers of documents with the block's before the mask or a row is read.
impl Launch<'_> {
    pub fn score(&self, kernel: Kernel, round: &Round, thresholds: &Handle) {
        match (kernel, self.part.format) {
            (Kernel::Tiles(shape), _) if shape.coded => self.tiles::<i8, i32>(shape, round, thresholds),
            (Kernel::Tiles(shape), Format::F16) => self.tiles::<f16, f32>(shape, round, thresholds),
            (Kernel::Tiles(shape), Format::Bf16) => self.tiles::<bf16, f32>(shape, round, thresholds),
            (Kernel::Rows(shape), Format::F16) => self.rows::<f16>(shape, round, thresholds),
            (Kernel::Rows(shape), Format::Bf16) => self.rows::<bf16>(shape, round, thresholds),
        }
    }

    fn tiles<E: Numeric + CubeElement, A: Numeric + CubeElement>(
        &self,
        shape: Shape,
        round: &Round,
        thresholds: &Handle,
    ) {
        let (part, buffers, block) = (self.part, self.buffers, self.block(round));
        let (planes, width) = match &part.codes {
            Some(codes) if shape.coded => (&codes.handles[round.block], codes.width),
            _ => (&block.handle, part.width),
        };
        let run = run_of(round.take, self.ability);
        let layer_step = if shape.coded { part.documents() } else { 0 };
        // SAFETY: above.
        unsafe {
            score_tiles::launch_unchecked::<E, A>(
                self.client,
                CubeCount::Static(
                    (buffers.padded / shape.queries()) as u32,
                    round.take.div_ceil(run) as u32,
                    1,
                ),
                CubeDim::new_1d(shape.units() as u32),
                shape.lanes(),
                BufferArg::from_raw_parts(planes.clone(), part.layers * block.rows * width),
                BufferArg::from_raw_parts(buffers.queries.clone(), buffers.padded * width),
                self.layers(),
                self.live(),
                BufferArg::from_raw_parts(
                    buffers.offsets.clone(),
                    if shape.coded {
                        buffers.padded * self.ask.layers.len()
                    } else {
                        1
                    },
                ),
                self.of_queries(thresholds),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.region(round, width / shape.lanes(), run, layer_step),
                shape,
            );
        }
    }

    fn rows<E: Float + CubeElement>(&self, shape: RowShape, round: &Round, thresholds: &Handle) {
        let (part, buffers, block) = (self.part, self.buffers, self.block(round));
        // SAFETY: above.
        unsafe {
            score_rows::launch_unchecked::<E>(
                self.client,
                CubeCount::Static(round.take as u32, 1, 1),
                CubeDim::new_1d((shape.planes * shape.plane) as u32),
                BufferArg::from_raw_parts(block.handle.clone(), part.layers * block.rows * part.width),
                BufferArg::from_raw_parts(buffers.queries.clone(), buffers.padded * part.width),
                self.layers(),
                self.live(),
                self.of_queries(thresholds),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.region(round, part.width / LANES, 1, 0),
                shape,
            );
        }
    }

    pub fn select(&self, limits: &Thresholds, rank: usize) {
        let (buffers, units) = (self.buffers, self.ability.units);
        // SAFETY: above; a cube stays within its own query's candidates, which are `capacity`.
        unsafe {
            keep_best::launch_unchecked(
                self.client,
                CubeCount::Static(buffers.padded as u32, 1, 1),
                CubeDim::new_1d(units as u32),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                self.of_queries(&limits.thresholds),
                self.of_queries(&limits.margins),
                self.of_queries(&buffers.lost),
                rank as u32,
                buffers.capacity as u32,
                units as u32,
            );
        }
    }

    /// Scores the candidates that codes left from the rows, for `queries` of f32.
    pub fn refine(&self, queries: &Handle) {
        for block in &self.part.blocks {
            match self.part.format {
                Format::F16 => self.refine_block::<f16>(block, queries),
                Format::Bf16 => self.refine_block::<bf16>(block, queries),
            }
        }
    }

    fn refine_block<E: Float + CubeElement>(&self, block: &Block, queries: &Handle) {
        let (part, buffers, plane) = (self.part, self.buffers, self.ability.plane);
        let planes = if plane == 1 { 2 } else { 256 / plane };
        // Several cubes for each of few queries, so that all of the device has work.
        let strips = (self.ability.cubes * 8).div_ceil(buffers.padded).clamp(1, 64);
        // SAFETY: above.
        unsafe {
            refine::launch_unchecked::<E>(
                self.client,
                CubeCount::Static(buffers.padded as u32, strips as u32, 1),
                CubeDim::new_1d((planes * plane) as u32),
                BufferArg::from_raw_parts(block.handle.clone(), part.layers * block.rows * part.width),
                BufferArg::from_raw_parts(queries.clone(), buffers.padded * part.width),
                self.layers(),
                self.of_queries(&buffers.counts),
                self.candidates(&buffers.scores),
                self.candidates(&buffers.numbers),
                block.first as u32,
                block.documents as u32,
                block.rows as u32,
                (part.width / LANES) as u32,
                part.documents() as u32,
                buffers.capacity as u32,
                strips as u32,
                plane as u32,
                planes as u32,
            );
        }
    }

    fn block(&self, round: &Round) -> &Block {
        &self.part.blocks[round.block]
    }

    fn region(&self, round: &Round, width: usize, run: usize, layer_step: usize) -> RegionLaunch {
        let block = self.block(round);
        RegionLaunch::new(
            block.first as u32,
            block.documents as u32,
            block.rows as u32,
            width as u32,
            self.ask.layers.len() as u32,
            round.from as u32,
            round.take as u32,
            step(round.tiles) as u32,
            round.tiles as u32,
            run as u32,
            self.buffers.capacity as u32,
            layer_step as u32,
        )
    }

    fn layers(&self) -> BufferArg {
        // SAFETY: as long as what it was made of.
        unsafe { BufferArg::from_raw_parts(self.buffers.layers.clone(), self.ask.layers.len()) }
    }

    fn live(&self) -> BufferArg {
        let words = self.ask.live.map_or(1, |live| live.size() as usize / 4);
        // SAFETY: its own size, or that of one layer's number.
        unsafe { BufferArg::from_raw_parts(self.buffers.live.clone(), words) }
    }

    /// A buffer `[q]`.
    fn of_queries(&self, handle: &Handle) -> BufferArg {
        // SAFETY: `run` makes them so long.
        unsafe { BufferArg::from_raw_parts(handle.clone(), self.buffers.padded) }
    }

    /// A buffer `[q][capacity]`.
    fn candidates(&self, handle: &Handle) -> BufferArg {
        // SAFETY: `run` makes them so long.
        unsafe { BufferArg::from_raw_parts(handle.clone(), self.buffers.padded * self.buffers.capacity) }
    }
}
