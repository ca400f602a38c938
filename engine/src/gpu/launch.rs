//! Launching kernels: a trait, and its implementation for a GPU, which compiles them.

use std::collections::BTreeMap;

use super::arena::KvKind;
use super::ops::Heads;
use super::source::{self, KernelFile};
use crate::error::Error;
use crate::ffi::cuda;
use crate::ffi::cuda::kernel::{KernelArg, LaunchShape, LoadedKernel};
use crate::ffi::cuda::stream::CudaStream;
use crate::ffi::nvrtc;

/// Launches kernels by name.
pub(super) trait Launch: Send {
    fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) -> Result<(), Error>;
}

/// The first GPUs with FP8: Ada, then Hopper.
const MIN_CAPABILITY: (i32, i32) = (8, 9);
const HOPPER: (i32, i32) = (9, 0);

/// Kernels on the GPU, in the order of libtorch's current stream.
pub(super) struct GpuLauncher {
    loaded: BTreeMap<&'static str, LoadedKernel>,
    /// Whether the GPU has an instruction that prefetches memory into L2.
    pub(super) can_prefetch: bool,
}

impl GpuLauncher {
    /// Compiles the kernels for this machine's GPU and loads them.
    ///
    /// # Errors
    /// [`Error::Device`] with the compiler's messages; [`Error::Unsupported`] for shapes that the
    /// kernels are not written for.
    pub(super) fn new(heads: &Heads, kv: KvKind) -> Result<Self, Error> {
        let (name, capability) = cuda::context::capability()?;
        if capability < MIN_CAPABILITY {
            let (major, minor) = capability;
            return Err(Error::Device(format!(
                "the GPU kernels want compute capability 8.9 or more, {name} has {major}.{minor}; \
                 set gpu_kernels = false"
            )));
        }
        let mut kernels = BTreeMap::new();
        for file in source::files(heads, kv)? {
            let code = compile(&file, &architecture(capability))?;
            let names: Vec<&str> = file.kernels.iter().map(|kernel| kernel.name).collect();
            let loaded = cuda::kernel::load(&code, &names)?;
            kernels.extend(names.into_iter().zip(loaded));
        }
        Ok(Self { loaded: kernels, can_prefetch: capability >= HOPPER })
    }
}

/// The compiler's name of a compute capability. Instructions of Hopper alone need the `a`.
pub(super) fn architecture((major, minor): (i32, i32)) -> String {
    format!("sm_{major}{minor}{}", if major == 9 { "a" } else { "" })
}

/// Compiles one file to machine code.
pub(super) fn compile(file: &KernelFile, architecture: &str) -> Result<Vec<u8>, Error> {
    nvrtc::compile(&file.source(), architecture, &file.defines)
        .map_err(|words| Error::Device(format!("compiling {}: {words}", file.name)))
}

impl Launch for GpuLauncher {
    fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) -> Result<(), Error> {
        let loaded = self.loaded.get(kernel);
        let loaded = *loaded.expect("every kernel is in a file's list. This is a bug.");
        cuda::kernel::launch(loaded, shape, &CudaStream::current()?, args)
    }
}
