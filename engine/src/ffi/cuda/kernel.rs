//! Kernels on the GPU: loading their machine code and launching them.

use std::ffi::{CString, c_void};

use cudarc::driver::result::{launch_kernel, module};
use cudarc::driver::sys;
use tch::Tensor;

use super::context::{self, failed};
use super::stream::CudaStream;
use crate::error::Error;

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KernelArg {
    Pointer(*mut c_void),
    I32(i32),
    I64(i64),
    F32(f32),
}

impl KernelArg {
    /// The address of a tensor's first value.
    pub(crate) fn tensor(tensor: &Tensor) -> Self {
        Self::Pointer(tensor.data_ptr())
    }

    /// An address that the kernel does not read.
    pub(crate) const NULL: Self = Self::Pointer(std::ptr::null_mut());

    /// Address of the value, as launches take arguments.
    pub(crate) fn address(&self) -> *mut c_void {
        match self {
            Self::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::I32(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::I64(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

/// Blocks and threads of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaunchShape {
    /// Number of blocks in each dimension.
    pub(crate) grid: [u32; 3],
    /// Number of threads per block.
    pub(crate) block: u32,
    /// Dynamic shared memory per block, in bytes.
    pub(crate) shared: u32,
}

/// A kernel on the GPU, loaded for the life of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadedKernel(sys::CUfunction);

// SAFETY: a handle of the driver may be used from any thread whose context is current.
unsafe impl Send for LoadedKernel {}

/// Loads machine code and finds the kernels `names` in it, in their order.
///
/// # Errors
/// [`Error::Device`] where the code is not for this GPU, or lacks one of the kernels.
pub(crate) fn load(code: &[u8], names: &[&str]) -> Result<Vec<LoadedKernel>, Error> {
    context::enter()?;
    // SAFETY: `code` is what the compiler made; the module is never unloaded.
    let loaded =
        unsafe { module::load_data(code.as_ptr().cast()) }.map_err(failed("loading kernels"))?;
    let find = |name: &&str| {
        let c_name = CString::new(*name).expect("a kernel's name has no zero byte. This is a bug.");
        // SAFETY: the module is loaded.
        let function = unsafe { module::get_function(loaded, c_name) };
        function.map(LoadedKernel).map_err(failed(name))
    };
    names.iter().map(find).collect()
}

/// Launches a kernel on `stream`. The caller has checked that the arguments match the kernel's
/// declaration, and that the tensors are as large as the kernel assumes.
///
/// # Errors
/// [`Error::Device`] where the driver refuses the launch.
pub(crate) fn launch(
    kernel: LoadedKernel,
    shape: LaunchShape,
    stream: &CudaStream,
    args: &[KernelArg],
) -> Result<(), Error> {
    let mut addresses: Vec<*mut c_void> = args.iter().map(KernelArg::address).collect();
    let [x, y, z] = shape.grid;
    // SAFETY: the kernel is loaded. The addresses are valid until the call returns, and the call
    // copies the values behind them. The tensors live as long as the work on the stream: they are
    // freed in the stream's order, or after its work has ended.
    unsafe {
        launch_kernel(
            kernel.0,
            (x, y, z),
            (shape.block, 1, 1),
            shape.shared,
            stream.0.cast(),
            &mut addresses,
        )
    }
    .map_err(failed("launching a kernel"))
}
