//! The GPU's context, its memory and its capability. It knows nothing of streams and kernels.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::result::{ctx, device, primary_ctx};
use cudarc::driver::{DriverError, sys};

use crate::error::Error;
use crate::ffi;

/// Turns the driver's error of an action into [`Error::Device`].
pub(super) fn failed(what: &str) -> impl Fn(DriverError) -> Error + '_ {
    move |error| Error::Device(format!("{what}: {error:?}"))
}

static GPU_IDX: AtomicUsize = AtomicUsize::new(0);

/// Makes this process use the GPU with this index, before any of it is used.
pub(crate) fn choose(idx: usize) {
    GPU_IDX.store(idx, Ordering::Release);
}

/// Index of the GPU that this process uses.
pub(crate) fn gpu_idx() -> usize {
    GPU_IDX.load(Ordering::Acquire)
}

/// Makes libtorch's context current on the calling thread.
///
/// # Errors
/// [`Error::Device`] where there is no driver or no GPU.
pub(crate) fn enter() -> Result<(), Error> {
    static CONTEXT: OnceLock<Result<usize, String>> = OnceLock::new();
    let context = CONTEXT.get_or_init(|| {
        if !ffi::has_cuda_driver() {
            return Err("there is none".to_owned());
        }
        let retained = || -> Result<usize, DriverError> {
            cudarc::driver::result::init()?;
            // SAFETY: the device is valid; the context is retained for the life of the process.
            Ok(unsafe { primary_ctx::retain(device::get(gpu_idx() as i32)?)? } as usize)
        };
        retained().map_err(|error| format!("{error:?}"))
    });
    let context = match context {
        Ok(context) => context,
        Err(reason) => return Err(Error::Device(format!("CUDA's driver finds no GPU: {reason}"))),
    };
    // SAFETY: the context is the device's primary one, which was retained above.
    unsafe { ctx::set_current(*context as sys::CUcontext) }.map_err(failed("setting the context"))
}

/// Free and total memory of the GPU, in bytes.
///
/// # Errors
/// As [`enter`].
pub(crate) fn memory() -> Result<(usize, usize), Error> {
    enter()?;
    cudarc::driver::result::mem_get_info().map_err(failed("reading the GPU's memory"))
}

/// The GPU's name and compute capability, (9, 0) for Hopper.
///
/// # Errors
/// As [`enter`].
pub(crate) fn capability() -> Result<(String, (i32, i32)), Error> {
    enter()?;
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let query = || -> Result<(String, (i32, i32)), DriverError> {
        let gpu = device::get(gpu_idx() as i32)?;
        // SAFETY: the device is valid.
        let number = |attribute| unsafe { device::get_attribute(gpu, attribute) };
        Ok((device::get_name(gpu)?, (number(MAJOR)?, number(MINOR)?)))
    };
    query().map_err(failed("reading the GPU's properties"))
}
