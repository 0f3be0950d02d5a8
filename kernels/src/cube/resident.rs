//! Parts that were brought to the device, kept there within a budget, given up by use.

use cubecl::bytes::Bytes;
use cubecl::prelude::Client;
use cubecl::server::Handle;

use super::bound::Documents;
use super::codes::{Codes, Plan};
use super::form::{Format, block, scale_of};
use super::shape::{LANES, WIDTH_VECTORS};
use crate::Plane;

/// Rows are padded to whole blocks of documents of every kernel.
pub(crate) const ROW_MULTIPLE: usize = 512;
/// The most rows of a block: tile numbers are multiplied in 32 bits.
pub(crate) const BLOCK_ROWS: usize = 1 << 20;

/// Rows of all layers of a part, in one buffer `[m][rows][width]`.
#[derive(Debug)]
pub(crate) struct Block {
    pub handle: Handle,
    pub first: usize,
    pub documents: usize,
    pub rows: usize,
}

/// A part on the device.
#[derive(Debug)]
pub(crate) struct Resident {
    pub key: u64,
    pub blocks: Vec<Block>,
    pub format: Format,
    pub exponent: i32,
    pub layers: usize,
    pub dimension: usize,
    pub width: usize,
    pub known: Documents,
    pub bytes: u64,
    /// The same rows in int8, where there is room for them and they are of use.
    pub codes: Option<Codes>,
    used: u64,
}

impl Resident {
    /// Whether what is multiplied is what is stored, but for a power of two.
    pub fn is_exact(&self) -> bool {
        self.known.residual == 0.0
    }

    pub fn documents(&self) -> usize {
        self.blocks.iter().map(|block| block.documents).sum()
    }
}

/// Why a part cannot be searched on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It takes more memory than the budget allows.
    Budget {
        /// The bytes it takes.
        needed: u64,
        /// The budget.
        budget: u64,
    },
    /// A stored component is not finite.
    NotFinite,
    /// More results are asked for than the kernels keep candidates.
    ManyResults {
        /// The largest `k` there is room for.
        limit: usize,
    },
}

/// What is on the device, oldest use first to go.
#[derive(Debug)]
pub(crate) struct Residents {
    parts: Vec<Resident>,
    budget: u64,
    block_bytes: usize,
    clock: u64,
}

impl Residents {
    pub fn new(budget: u64, block_bytes: usize) -> Residents {
        Residents {
            parts: Vec::new(),
            budget,
            block_bytes,
            clock: 0,
        }
    }

    /// The bytes that parts take on the device.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The bytes of them that codes take.
    pub fn code_bytes(&self) -> u64 {
        let codes = self.parts.iter().filter_map(|part| part.codes.as_ref());
        codes.map(|codes| codes.bytes).sum()
    }

    /// Notes how many of the `asked` queries that were searched through a part's codes only its rows could answer. Where
    /// codes are too coarse for what is asked, the part does without from then on.
    pub fn note(&mut self, client: &Client, key: u64, asked: usize, failed: usize) {
        let Some(part) = self.parts.iter_mut().find(|part| part.key == key) else {
            return;
        };
        if part
            .codes
            .as_mut()
            .is_some_and(|codes| codes.serve_badly(asked, failed))
        {
            part.bytes -= part.codes.take().map_or(0, |codes| codes.bytes);
            // As where a part is given up.
            let _ = client.memory_cleanup();
        }
    }

    /// Gives up a part.
    pub fn forget(&mut self, key: u64) -> bool {
        let before = self.parts.len();
        self.parts.retain(|part| part.key != key);
        self.parts.len() != before
    }

    /// The part `key`, brought to the device if it is not there; and the bytes that were brought.
    pub fn part(
        &mut self,
        client: &Client,
        key: u64,
        planes: &[Plane],
        coded: bool,
    ) -> Result<(&Resident, u64), Refusal> {
        self.clock += 1;
        let (dimension, documents) = (planes[0].dimension(), planes[0].rows());
        let fits = |part: &Resident| {
            part.key == key
                && part.layers == planes.len()
                && part.dimension == dimension
                && part.documents() == documents
        };
        let mut brought = 0;
        let at = match self.parts.iter().position(fits) {
            Some(at) => at,
            None => {
                self.forget(key);
                let part = self.bring(client, key, planes, coded)?;
                brought = part.bytes;
                self.parts.push(part);
                self.parts.len() - 1
            }
        };
        let part = &mut self.parts[at];
        part.used = self.clock;
        Ok((part, brought))
    }

    fn bring(
        &mut self,
        client: &Client,
        key: u64,
        planes: &[Plane],
        coded: bool,
    ) -> Result<Resident, Refusal> {
        let (dimension, documents) = (planes[0].dimension(), planes[0].rows());
        let width = dimension.next_multiple_of(WIDTH_VECTORS * LANES);
        let of_row = planes.len() * width * 2;
        let rows = documents.next_multiple_of(ROW_MULTIPLE) as u64;
        let mut needed = rows * of_row as u64;
        if needed > self.budget {
            return Err(Refusal::Budget {
                needed,
                budget: self.budget,
            });
        }
        let exponent = scale_of(planes).ok_or(Refusal::NotFinite)?;
        // Codes are of less use than another part would be.
        let of_codes = rows * (planes.len() * Codes::width(dimension)) as u64;
        let has_room = coded && self.bytes() + needed + of_codes <= self.budget;
        let plan = if has_room {
            Plan::of(planes, exponent)
        } else {
            None
        };
        if plan.is_some() {
            needed += of_codes;
        }
        let mut gave_up = false;
        while self.bytes() + needed > self.budget {
            let Some(oldest) = (0..self.parts.len()).min_by_key(|&at| self.parts[at].used) else {
                break;
            };
            self.parts.swap_remove(oldest);
            gave_up = true;
        }
        if gave_up {
            // Freed memory goes back to the device, for whoever else is on it. If that fails, it stays
            // with the pool that the next allocation comes from.
            let _ = client.memory_cleanup();
        }

        let format = Format::of(planes);
        let at_once =
            (self.block_bytes / of_row / ROW_MULTIPLE * ROW_MULTIPLE).clamp(ROW_MULTIPLE, BLOCK_ROWS);
        let mut known = Documents::default();
        let mut codes = plan.map(|plan| Codes::new(plan, of_codes));
        let mut blocks = Vec::new();
        let mut first = 0;
        while first < documents {
            let here = at_once.min(documents - first);
            let rows = here.next_multiple_of(ROW_MULTIPLE);
            let (bits, of_block) = block(planes, format, exponent, first, here, rows, width);
            known.length = known.length.max(of_block.length);
            known.residual = known.residual.max(of_block.residual);
            if let Some(codes) = &mut codes {
                codes.add(client, planes, exponent, first, here, rows);
            }
            blocks.push(Block {
                handle: client.create(Bytes::from_elems(bits)),
                first,
                documents: here,
                rows,
            });
            first += here;
        }
        Ok(Resident {
            key,
            blocks,
            format,
            exponent,
            layers: planes.len(),
            dimension,
            width,
            known,
            bytes: needed,
            codes,
            used: self.clock,
        })
    }
}
