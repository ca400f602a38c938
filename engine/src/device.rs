//! Devices and number formats: the settings that choose them, and the capabilities of this machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind};

use crate::error::Error;
use crate::ffi;
use crate::model::Precision;

/// Device that a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A GPU if libtorch finds one, else the CPU: the first one, or that of the process's place
    /// among those of its host (`LOCAL_RANK`).
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of the process's place among those of its host, without others the first.
    Cuda,
}

/// Number format of weights and of the computation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// bf16 on a GPU, f32 on the CPU.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16. A CPU without bf16 instructions (AVX512-BF16, AMX) would be slower in it and
    /// computes in f32.
    Bf16,
}

/// Matrices of a model that are FP8: E4M3, with one scale per output channel, and inputs that are
/// quantised per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// On a GPU, the matrices that are FP8 in the checkpoint. On a CPU none: FP8 matrices are
    /// dequantised.
    #[default]
    Auto,
    /// None: FP8 checkpoints are dequantised.
    Off,
    /// The matrices of all layers, quantised while they are loaded. A CPU emulates the GPU's
    /// numbers, which is slow.
    Fp8,
    /// The matrices of all layers and the output head.
    Fp8WithHead,
}

impl Quantization {
    /// Number formats of a model's parameters on `device`. `is_fp8`: whether the checkpoint has FP8
    /// matrices.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for FP8 matrices on a GPU with activations other than bf16.
    pub fn resolve(self, device: Device, dtype: DType, is_fp8: bool) -> Result<Precision, Error> {
        let kind = dtype.resolve(device);
        let fp8_layers = match self {
            Self::Auto => is_fp8 && device.is_cuda(),
            Self::Off => false,
            Self::Fp8 | Self::Fp8WithHead => true,
        };
        if fp8_layers && device.is_cuda() && kind != Kind::BFloat16 {
            return Err(Error::BadRequest(format!(
                "FP8 on a GPU goes with dtype bf16, not {}; set dtype = \"bf16\" or \
                 quantization = \"off\"",
                dtype_name(kind)
            )));
        }
        Ok(Precision { kind, fp8_layers, fp8_head: self == Self::Fp8WithHead })
    }
}

/// Makes this process use the GPU with this index, before any of it is used. Each process of
/// several on a host has its own; without a choice it is the first one.
pub fn choose_gpu(idx: usize) {
    ffi::cuda::context::choose(idx);
}

/// The GPU that this process uses.
fn own_gpu() -> Device {
    Device::Cuda(ffi::cuda::context::gpu_idx())
}

impl DeviceChoice {
    /// The device, after checking that it exists.
    ///
    /// # Errors
    /// [`Error::Device`] where CUDA is requested and libtorch finds no CUDA device.
    pub fn resolve(self) -> Result<Device, Error> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto if !ffi::has_cuda_driver() => Ok(Device::Cpu),
            Self::Auto => Ok(if cuda_available() { own_gpu() } else { Device::Cpu }),
            Self::Cuda if cuda_available() => Ok(own_gpu()),
            Self::Cuda => Err(Error::Device(
                "cuda is requested, but libtorch finds no CUDA device; use device = \"cpu\""
                    .to_owned(),
            )),
        }
    }
}

impl DType {
    /// The number format on `device`.
    pub fn resolve(self, device: Device) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 if device == Device::Cpu && !ffi::simd::has_bf16() => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::Auto if device.is_cuda() => Kind::BFloat16,
            Self::Auto => Kind::Float,
        }
    }
}

impl DType {
    /// What a user has to know who has set this number format: that another one is used.
    pub fn notice(self, device: Device) -> Option<&'static str> {
        let is_other = self == Self::Bf16 && self.resolve(device) != Kind::BFloat16;
        is_other.then_some(
            "dtype bf16 becomes f32: this processor has no bf16 instructions (AVX512-BF16 or AMX); \
             the weights take twice the memory of bf16",
        )
    }
}

/// Whether libtorch finds a CUDA device. Where there is a driver, loads libtorch's CUDA library
/// first, because libtorch keeps the answer of the first query for the life of the process.
pub fn cuda_available() -> bool {
    ffi::has_cuda_driver() && ffi::load_libtorch_cuda() && Cuda::is_available()
}

/// Usable memory of a device, in bytes: the machine's total memory, or a GPU's free memory.
///
/// # Errors
/// [`Error::Device`] where the driver does not answer.
pub fn memory_bytes(device: Device) -> Result<usize, Error> {
    match device {
        Device::Cpu => Ok(ffi::memory_bytes()),
        _ => {
            release_cached_memory(device);
            Ok(ffi::cuda::context::memory()?.0)
        }
    }
}

/// Makes libtorch release its cached GPU memory, so that the memory of a dropped model is free for
/// the next one. libtorch has no C function for it, but releases its cache before it reports that
/// an allocation is too large.
fn release_cached_memory(device: Device) {
    const TOO_LARGE: i64 = 1 << 46;
    let refused = tch::Tensor::f_empty([TOO_LARGE], (Kind::Uint8, device));
    debug_assert!(refused.is_err(), "no device has 64 TiB");
}

/// GPU memory in use by all processes together, in bytes; none without a GPU.
pub fn gpu_used_bytes() -> Option<usize> {
    let (free, all) = ffi::cuda::context::memory().ok()?;
    Some(all - free)
}

/// Names of number formats in settings and reports.
const NAMES: [(&str, Kind); 4] = [
    ("f32", Kind::Float),
    ("bf16", Kind::BFloat16),
    ("f16", Kind::Half),
    ("f8_e4m3", Kind::Float8e4m3fn),
];

/// Name of a number format, as the settings spell it.
pub fn dtype_name(kind: Kind) -> &'static str {
    NAMES.iter().find(|(_, named)| *named == kind).map_or("other", |(name, _)| name)
}

/// Number of threads that one operation may use.
pub fn n_threads() -> i32 {
    tch::get_num_threads()
}

/// Peak memory of this process, in bytes.
pub fn peak_memory_bytes() -> usize {
    ffi::peak_memory_bytes()
}

/// Sets the number of threads that one operation may use, for the whole process.
pub fn set_threads(n_threads: usize) {
    tch::set_num_threads(n_threads as i32);
}

/// Libtorch, devices and processor of this machine, as `joust doctor` reports them.
#[derive(Clone, Debug, Serialize)]
pub struct MachineReport {
    /// libtorch's version.
    pub libtorch: String,
    /// Whether libtorch's CUDA library could be loaded.
    pub libtorch_cuda: bool,
    /// Number of CUDA devices.
    pub n_cuda_devices: i64,
    /// The first CUDA device.
    pub gpu: Option<Gpu>,
    /// Whether CUDA's run-time compiler could be loaded; the GPU kernels need it.
    pub cuda_compiler: bool,
    /// Number of threads that one operation may use.
    pub n_intra_op_threads: i32,
    /// Number of threads that independent operations may use.
    pub n_inter_op_threads: i32,
    /// Number of processors that this process may run on.
    pub n_processors: usize,
    /// Present processor features for vector and low-precision arithmetic.
    pub cpu_features: Vec<&'static str>,
    /// Support of each number format on the CPU.
    pub dtypes: Vec<DTypeSupport>,
}

/// A GPU, as its driver reports it.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    /// Name of the model.
    pub name: String,
    /// Compute capability, for example (9, 0) for Hopper.
    pub compute_capability: (i32, i32),
    /// Total memory, in bytes.
    pub memory_bytes: usize,
    /// Free memory, in bytes.
    pub free_bytes: usize,
}

fn gpu() -> Result<Gpu, Error> {
    let (name, compute_capability) = ffi::cuda::context::capability()?;
    let (free_bytes, memory_bytes) = ffi::cuda::context::memory()?;
    Ok(Gpu { name, compute_capability, memory_bytes, free_bytes })
}

/// Support of one number format on the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct DTypeSupport {
    /// Name of the format.
    pub dtype: &'static str,
    /// Whether a small matrix product works.
    pub matmul: bool,
    /// Whether values can be stored in it.
    pub storage: bool,
    /// Name of the format that an engine computes in where this one is set; none where it cannot
    /// be set.
    pub computed_in: Option<&'static str>,
}

/// Examines libtorch, the devices and the processor.
pub fn report() -> MachineReport {
    let libtorch_cuda = ffi::load_libtorch_cuda();
    let dtypes = NAMES.map(|(dtype, kind)| {
        let stored = tch::Tensor::ones([16, 16], (Kind::Float, Device::Cpu)).f_to_kind(kind);
        let storage = stored.is_ok();
        // FP8 products are known to be refused, and libtorch prints a whole trace when it refuses
        let matmul = kind != Kind::Float8e4m3fn
            && stored.is_ok_and(|stored| stored.f_matmul(&stored).is_ok());
        let set = match kind {
            Kind::Float => Some(DType::F32),
            Kind::BFloat16 => Some(DType::Bf16),
            _ => None,
        };
        let computed_in = set.map(|set| dtype_name(set.resolve(Device::Cpu)));
        DTypeSupport { dtype, matmul, storage, computed_in }
    });
    let n_cuda_devices = if libtorch_cuda { Cuda::device_count() } else { 0 };
    MachineReport {
        libtorch: ffi::libtorch_version(),
        libtorch_cuda,
        n_cuda_devices,
        gpu: if n_cuda_devices > 0 { gpu().ok() } else { None },
        cuda_compiler: ffi::nvrtc::is_present(),
        n_intra_op_threads: tch::get_num_threads(),
        n_inter_op_threads: tch::get_num_interop_threads(),
        n_processors: std::thread::available_parallelism().map_or(1, |n| n.get()),
        cpu_features: cpu_features(),
        dtypes: dtypes.to_vec(),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    let known = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
        ("amx-bf16", ffi::simd::has_amx_bf16()),
    ];
    known.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}
