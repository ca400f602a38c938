//! Streams: queues of work on the GPU, and libtorch's current stream.

use std::ffi::c_void;

use cudarc::driver::result::stream;

use super::context::failed;
use super::libtorch::{check, symbol_once};
use crate::error::Error;

/// A stream of libtorch's pool, or its default stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CudaStream(pub(super) *mut c_void);

// SAFETY: a handle of the driver; streams may be used from any thread.
unsafe impl Send for CudaStream {}

type FromPool = unsafe extern "C" fn(bool, i32, *mut *mut c_void) -> i32;
type SetCurrent = unsafe extern "C" fn(*mut c_void, i32) -> i32;
type GetCurrent = unsafe extern "C" fn(i32, *mut *mut c_void) -> i32;

impl CudaStream {
    /// Takes a stream of libtorch's pool.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn from_pool() -> Result<Self, Error> {
        let mut found = std::ptr::null_mut();
        // SAFETY: the signature is that of torch/csrc/stable/c/shim.h in 2.11.
        let code = unsafe {
            let function: FromPool =
                std::mem::transmute(symbol_once!(c"torch_get_cuda_stream_from_pool"));
            function(false, 0, &raw mut found)
        };
        check("taking a stream", code)?;
        Ok(Self(found))
    }

    /// The stream that libtorch's operations on the calling thread go to.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn current() -> Result<Self, Error> {
        let mut found = std::ptr::null_mut();
        // SAFETY: the signature is that of torch/csrc/inductor/aoti_torch/c/shim.h in 2.11.
        let code = unsafe {
            let function: GetCurrent =
                std::mem::transmute(symbol_once!(c"aoti_torch_get_current_cuda_stream"));
            function(0, &raw mut found)
        };
        check("reading the current stream", code)?;
        Ok(Self(found))
    }

    /// Sends libtorch's operations on the calling thread to this stream until the guard is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn enter(&self) -> Result<StreamGuard, Error> {
        let before = Self::current()?;
        self.make_current()?;
        Ok(StreamGuard { before })
    }

    fn make_current(&self) -> Result<(), Error> {
        // SAFETY: the signature is that of torch/csrc/stable/c/shim.h in 2.11; the stream is of
        // libtorch's pool, or its default stream.
        let code = unsafe {
            let function: SetCurrent =
                std::mem::transmute(symbol_once!(c"torch_set_current_cuda_stream"));
            function(self.0, 0)
        };
        check("changing the stream", code)
    }

    /// Waits until all work on the stream is done.
    ///
    /// # Errors
    /// [`Error::Device`], also for failures of work that was launched earlier.
    pub(crate) fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the stream is valid.
        unsafe { stream::synchronize(self.0.cast()) }.map_err(failed("waiting for the GPU"))
    }
}

/// Restores the previous current stream when dropped: see [`CudaStream::enter`].
pub(crate) struct StreamGuard {
    before: CudaStream,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        // a stream that was current can be made current again
        let _ = self.before.make_current();
    }
}
