//! Devices that search for a database: opened at first use, told of once where there are none.

#[cfg(feature = "cuda")]
use std::collections::BTreeMap;
#[cfg(feature = "cuda")]
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[cfg(feature = "cuda")]
use stratal_kernels::cube::Searcher;
use stratal_kernels::{Candidate, Device, Options, Plane};

use crate::Result;

/// Multiply-adds of a search from which [`Device::Auto`] takes a GPU: about 5 ms of one CPU core, well above the 0.3 ms
/// that launches and copies took on an H200 (`benches/gpu` with 200,000 documents).
#[cfg(feature = "cuda")]
const WORTH_A_DEVICE: u64 = 1 << 28;

/// The devices of a database.
#[derive(Default)]
pub(crate) struct Devices {
    #[cfg(feature = "cuda")]
    open: Mutex<BTreeMap<usize, Arc<Searcher>>>,
    #[cfg(feature = "cuda")]
    told: OnceLock<()>,
}

/// A part as a device sees it. Its key must be that of the stored values for good.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))] // there is no device to see it
pub(crate) struct DevicePart<'a> {
    /// Names the stored values.
    pub key: u64,
    /// All layers, `[m]`.
    pub planes: &'a [Plane<'a>],
    /// Those to search.
    pub layers: &'a [u32],
}

/// What searches a request: the CPU, or a device that is there.
pub(crate) struct Chosen {
    #[cfg(feature = "cuda")]
    searcher: Option<Arc<Searcher>>,
    #[cfg(feature = "cuda")]
    asked: Device,
}

impl Devices {
    /// Opens what a search of `operations` multiply-adds was asked to run on.
    ///
    /// # Errors
    /// [`stratal_kernels::Error::NoDevice`] if a device was named that this build or this machine does not have.
    #[cfg(feature = "cuda")]
    pub fn choose(&self, asked: Device, operations: u64) -> Result<Chosen> {
        let searcher = match asked {
            Device::Cuda(index) => Some(self.open(index)?),
            Device::Auto if operations >= WORTH_A_DEVICE => match self.open(0) {
                Ok(searcher) => Some(searcher),
                Err(error) => {
                    self.tell(&error);
                    None
                }
            },
            _ => None,
        };
        Ok(Chosen { searcher, asked })
    }

    /// As with the feature `cuda`, in a build that has no devices.
    #[cfg(not(feature = "cuda"))]
    pub fn choose(&self, asked: Device, _operations: u64) -> Result<Chosen> {
        match asked {
            Device::Cuda(index) => Err(stratal_kernels::Error::NoDevice {
                index,
                reason: "this build has no GPU support: build with the feature `cuda`".to_owned(),
            }
            .into()),
            _ => Ok(Chosen {}),
        }
    }

    #[cfg(feature = "cuda")]
    fn open(&self, index: usize) -> Result<Arc<Searcher>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(searcher) = open.get(&index) {
            return Ok(Arc::clone(searcher));
        }
        let searcher = Arc::new(Searcher::cuda(index, None)?);
        open.insert(index, Arc::clone(&searcher));
        Ok(searcher)
    }

    /// Puts a searcher in the place of a CUDA device.
    #[cfg(feature = "cuda")]
    pub fn insert(&self, index: usize, searcher: Arc<Searcher>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(index, searcher);
    }

    /// Tells once, for a database, why the CPU searches where a GPU might have.
    #[cfg(feature = "cuda")]
    fn tell(&self, why: &dyn std::fmt::Display) {
        self.told
            .get_or_init(|| tracing::warn!("searching on the CPU, not on a GPU: {why}"));
    }
}

impl Chosen {
    /// Whether there is a device to ask.
    pub fn is_device(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.searcher.is_some();
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// The search of a part on the device, with the CPU's answer; `None` where the CPU must do it.
    ///
    /// # Errors
    /// [`stratal_kernels::Error::Device`] if a device that was asked for by its number fails.
    #[cfg(feature = "cuda")]
    pub fn search(
        &self,
        devices: &Devices,
        part: &DevicePart,
        queries: &[f32],
        dimension: usize,
        options: &Options,
    ) -> Result<Option<Vec<Vec<Candidate>>>> {
        let Some(searcher) = &self.searcher else {
            return Ok(None);
        };
        match searcher.search(part.key, queries, dimension, part.planes, part.layers, options) {
            Ok(found) => {
                if let Some(refusal) = found.refusal {
                    devices.tell(&format_args!("{refusal:?}"));
                }
                Ok(Some(found.answers))
            }
            Err(error @ stratal_kernels::Error::Device { .. }) if self.asked == Device::Auto => {
                devices.tell(&error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As with the feature `cuda`, in a build that has no devices.
    #[cfg(not(feature = "cuda"))]
    pub fn search(
        &self,
        _devices: &Devices,
        _part: &DevicePart,
        _queries: &[f32],
        _dimension: usize,
        _options: &Options,
    ) -> Result<Option<Vec<Vec<Candidate>>>> {
        Ok(None)
    }
}

/// The device of burn that an encoder's module works on: on CUDA the one that searches too, for CubeCL has one
/// client for each device of a process.
///
/// # Errors
/// [`stratal_kernels::Error::NoDevice`] if a device was named that this build or this machine does not have.
#[cfg(feature = "encoder")]
pub fn burn_device(asked: Device) -> Result<burn::tensor::Device> {
    match asked {
        Device::Cuda(index) => {
            #[cfg(feature = "cuda")]
            {
                stratal_kernels::cube::cuda_device(index)?;
                Ok(burn::tensor::Device::cuda(index))
            }
            #[cfg(not(feature = "cuda"))]
            Err(stratal_kernels::Error::NoDevice {
                index,
                reason: "this build has no GPU support: build with the feature `cuda`".to_owned(),
            }
            .into())
        }
        #[cfg(feature = "cuda")]
        Device::Auto if stratal_kernels::cube::cuda_device(0).is_ok() => Ok(burn::tensor::Device::cuda(0)),
        _ => Ok(burn::tensor::Device::flex()),
    }
}
