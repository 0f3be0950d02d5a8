//! CUDA devices: whether there is one is asked of the driver before anything that could panic is called,
//! so that a machine without one is an ordinary error, also where panics abort.

use cubecl::Device;
use cubecl::cuda::CudaDevice;
use cudarc::driver::{result, sys};

use super::Searcher;
use crate::Error;

/// The oldest driver that is used, as it reports itself: CUDA 12.0.
const OLDEST_DRIVER: i32 = 12_000;
/// The least compute capability: 7.0, the first whose units of a plane diverge safely.
const LEAST_CAPABILITY: i32 = 70;

/// The bytes of memory of CUDA device `index`, once it is known to be there and new enough.
///
/// # Errors
/// [`Error::NoDevice`] if there is no driver, or it is too old, or there is no such device. Nothing panics.
pub fn cuda_device(index: usize) -> Result<u64, Error> {
    memory_of(index).map_err(|reason| Error::NoDevice { index, reason })
}

/// Asks the driver, if it is there.
fn count() -> Result<usize, String> {
    // SAFETY: it only tries to load the driver's library.
    if !unsafe { sys::is_culib_present() } {
        return Err("the CUDA driver (libcuda) is not installed".to_owned());
    }
    // A library of that name that is no driver would panic at its first missing symbol.
    // SAFETY: loading a driver's library runs its own initialisers, as any use of it does.
    let complete = unsafe {
        let library = sys::culib();
        [
            c"cuInit",
            c"cuGetErrorString",
            c"cuDriverGetVersion",
            c"cuDeviceGetCount",
            c"cuDeviceGet",
            c"cuDeviceGetAttribute",
            c"cuDeviceTotalMem_v2",
            c"cuDevicePrimaryCtxRetain",
        ]
        .into_iter()
        .all(|name| library.get::<unsafe extern "C" fn()>(name).is_ok())
    };
    if !complete {
        return Err("the CUDA driver's library lacks functions that every driver has".to_owned());
    }
    result::init().map_err(|error| format!("the CUDA driver does not start: {:?}", error.0))?;
    let mut version = 0;
    // SAFETY: the driver writes its version there.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) }.result();
    if asked.is_err() || version < OLDEST_DRIVER {
        return Err(format!(
            "the CUDA driver is of version {}.{}, at least {}.0 is needed",
            version / 1000,
            version % 1000 / 10,
            OLDEST_DRIVER / 1000
        ));
    }
    let count = result::device::get_count().map_err(|error| format!("{:?}", error.0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The bytes of memory of a device that is there and new enough.
fn memory_of(index: usize) -> Result<u64, String> {
    let there = count()?;
    if index >= there {
        return Err(match there {
            0 => "the driver reports no device".to_owned(),
            1 => "the driver reports one device, number 0".to_owned(),
            _ => format!("the driver reports {there} devices, 0 to {}", there - 1),
        });
    }
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    // The error's own Debug asks the driver for words.
    let failed = |error: result::DriverError| format!("the driver does not describe it: {:?}", error.0);
    let device = result::device::get(index as i32).map_err(failed)?;
    // SAFETY: `device` is one that the driver has just handed out.
    let (major, minor, bytes) = unsafe {
        (
            result::device::get_attribute(device, MAJOR).map_err(failed)?,
            result::device::get_attribute(device, MINOR).map_err(failed)?,
            result::device::total_mem(device).map_err(failed)?,
        )
    };
    let capability = major * 10 + minor;
    if capability < LEAST_CAPABILITY {
        return Err(format!(
            "its compute capability is {major}.{minor}, at least 7.0 is needed"
        ));
    }
    Ok(bytes as u64)
}

impl Searcher {
    /// A searcher on CUDA device `index`. Parts take at most `budget` bytes there, by default three
    /// fifths of the device's memory.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if there is no driver, or it is too old, or there is no such device.
    pub fn cuda(index: usize, budget: Option<u64>) -> Result<Searcher, Error> {
        let memory = cuda_device(index)?;
        // CubeCL takes for granted that the device can be had, which another process may prevent.
        let device = result::device::get(index as i32);
        // SAFETY: the device has just been asked for by its number; the context is given back below.
        let context =
            device.and_then(|device| unsafe { result::primary_ctx::retain(device) }.map(|_| device));
        let device = context.map_err(|error| Error::NoDevice {
            index,
            reason: format!("it cannot be used: {:?}", error.0),
        })?;
        let client = Device::Cuda(CudaDevice::new(index)).client();
        // SAFETY: retained above, and CubeCL holds the context itself. If the driver refuses, it stays retained.
        let _ = unsafe { result::primary_ctx::release(device) };
        Ok(Searcher::new(client, budget.unwrap_or(memory / 5 * 3)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B81: no driver, or no such device, is an error that says what is missing.
    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let missing = Searcher::cuda(4096, None).map(|_| ());
        match missing {
            Err(Error::NoDevice { index: 4096, reason }) => assert!(!reason.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}
