//! Memory plan of a device: weights, intermediate results, keys and values. The plan is arithmetic
//! on a model's constants; this file loads nothing.

use serde::Serialize;
use tch::{Device, Kind};

use crate::config::ModelConfig;
use crate::cpu;
use crate::device;
use crate::error::Error;
use crate::gpu::{self, GpuSettings, KvKind};
use crate::kv::BLOCK_TOKENS;
use crate::model::{Decoder, Precision, products};
use crate::settings::{EngineConfig, KvDType};

/// Bytes of GPU memory that are reserved for CUDA's context, the libraries' kernels and workspaces,
/// and libtorch's allocator.
const GPU_RESERVE: usize = 3 << 29;

/// Bytes of a device's memory that the libraries take.
pub fn reserve_bytes(device: Device) -> usize {
    if device.is_cuda() { GPU_RESERVE } else { 0 }
}

/// The path of the engine on which a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExecutionPath {
    /// Unquantised on a CPU.
    Cpu,
    /// With bf16 activations on a GPU.
    Gpu(KvKind),
    /// All others: libtorch's own operations.
    Libtorch,
}

impl ExecutionPath {
    /// Path of a model on `device` in `precision`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for FP8 keys and values on a path without them.
    pub(crate) fn of(
        device: Device,
        precision: Precision,
        config: &EngineConfig,
    ) -> Result<Self, Error> {
        let path = match (device, precision.kind) {
            (Device::Cpu, Kind::Float | Kind::BFloat16) if !precision.is_quantized() => Self::Cpu,
            (Device::Cuda(_), Kind::BFloat16) => Self::Gpu(match config.kv_dtype {
                KvDType::Auto => KvKind::Bf16,
                KvDType::Fp8 => KvKind::Fp8,
            }),
            _ => Self::Libtorch,
        };
        match (config.kv_dtype, path) {
            (KvDType::Fp8, Self::Cpu | Self::Libtorch) => Err(Error::BadRequest(
                "kv_dtype fp8 goes with dtype bf16 on a GPU; set kv_dtype = \"auto\"".to_owned(),
            )),
            _ => Ok(path),
        }
    }

    /// Bytes of a step's intermediate results; 0 on paths that allocate them step by step.
    fn buffer_bytes(self, model: &ModelConfig, engine: &EngineConfig, max_context: usize) -> usize {
        match self {
            Self::Gpu(kv) => gpu_settings(engine, 0, max_context, kv).buffer_bytes(model),
            Self::Cpu | Self::Libtorch => 0,
        }
    }

    /// Bytes of keys and values per token.
    pub(crate) fn kv_bytes_per_token(self, config: &ModelConfig, kind: Kind) -> usize {
        match self {
            Self::Cpu => cpu::kv_bytes_per_token(config, kind),
            Self::Gpu(kv) => kv.bytes_per_token(config),
            Self::Libtorch => {
                let values = 2 * config.n_layers * config.n_kv_heads * config.head_dim;
                values * kind.elt_size_in_bytes()
            }
        }
    }
}

/// Bytes of a model's parameters. Unquantised matrices of an FP8 checkpoint are counted as FP8.
pub fn weight_bytes(config: &ModelConfig, precision: Precision) -> usize {
    let plain = precision.kind.elt_size_in_bytes();
    let matrix = |rows: usize, width: usize, is_fp8: bool| match is_fp8 {
        true => rows * width + 4 * rows,
        false => rows * width * plain,
    };
    let (hidden, width) = (config.hidden_size, config.intermediate_size);
    let q_width = config.n_heads * config.head_dim;
    let qkv_rows = q_width + 2 * config.n_kv_heads * config.head_dim;
    let layer = |rows, width| matrix(rows, width, precision.fp8_layers);
    let biases = if config.attention_bias { qkv_rows } else { 0 }
        + if config.has_output_bias() { hidden } else { 0 };
    let norms = 2 * hidden + if config.family.head_norms { 2 * config.head_dim } else { 0 };
    let per_layer = layer(qkv_rows, hidden)
        + layer(hidden, q_width)
        + layer(2 * width, hidden)
        + layer(hidden, width)
        + (norms + biases) * plain;
    let head = match config.tie_word_embeddings && !precision.fp8_head {
        true => 0,
        false => matrix(config.vocab_size, hidden, precision.fp8_head),
    };
    config.n_layers * per_layer + (config.vocab_size + 1) * hidden * plain + head
}

/// Bytes of the packed copies of a model's matrices that products on a CPU keep beside them.
pub fn packed_bytes(config: &ModelConfig, device: Device, precision: Precision) -> usize {
    let copies = match (device, precision.kind) {
        (Device::Cpu, Kind::BFloat16) => 2,
        (Device::Cpu, Kind::Float) if products::prefers_onednn() => 1,
        _ => 0,
    };
    copies * weight_bytes(config, precision)
}

/// Memory plan of a model, made before it is loaded.
#[derive(Clone, Debug, Serialize)]
pub struct CapacityPlan {
    /// Usable bytes of the device's memory.
    pub memory_bytes: usize,
    /// Bytes of the weights.
    pub weight_bytes: usize,
    /// Bytes of a step's intermediate results, allocated once.
    pub buffer_bytes: usize,
    /// Bytes that the device's libraries take.
    pub reserve_bytes: usize,
    /// Bytes of keys and values per token.
    pub kv_bytes_per_token: usize,
    /// Capacity of the key/value memory in tokens, over all sequences.
    pub kv_tokens: usize,
    /// Maximum number of tokens per sequence.
    pub max_context: usize,
    /// Maximum number of running sequences.
    pub max_batch: usize,
    /// Whether the layers' matrices are FP8.
    pub is_fp8: bool,
}

impl CapacityPlan {
    /// Plans an engine in `memory` bytes of `device`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for contradictory settings, [`Error::Unsupported`] for shapes that the
    /// GPU path does not support.
    pub fn new(
        model: &ModelConfig,
        engine: &EngineConfig,
        device: Device,
        memory: usize,
    ) -> Result<Self, Error> {
        if let Some(problem) = engine.validate().into_iter().next() {
            return Err(Error::BadRequest(problem));
        }
        let precision = engine.quantization.resolve(device, engine.dtype, model.fp8.is_some())?;
        let path = ExecutionPath::of(device, precision, engine)?;
        if device.is_cuda() {
            check_fp8_widths(model, precision)?;
        }
        if let (ExecutionPath::Gpu(kv), true) = (path, engine.gpu_kernels) {
            gpu::check_model(model, kv)?;
        }
        let max_context = engine.max_context_of(model);
        let kv_bytes_per_token = path.kv_bytes_per_token(model, precision.kind);
        let weight_bytes = weight_bytes(model, precision);
        let buffer_bytes = path.buffer_bytes(model, engine, max_context);
        let reserve_bytes = reserve_bytes(device);
        let mut plan = Self {
            memory_bytes: memory,
            weight_bytes,
            buffer_bytes,
            reserve_bytes,
            kv_bytes_per_token,
            kv_tokens: 0,
            max_context,
            max_batch: engine.max_batch,
            is_fp8: precision.fp8_layers,
        };
        let available = kv_memory(device, memory, plan.fixed_bytes());
        let n_blocks = kv_blocks(engine, max_context, kv_bytes_per_token, available);
        plan.kv_tokens = n_blocks * BLOCK_TOKENS;
        Ok(plan)
    }

    /// Bytes that are needed independently of the sequences.
    pub fn fixed_bytes(&self) -> usize {
        self.weight_bytes + self.buffer_bytes + self.reserve_bytes
    }

    /// Checks that the plan fits into the device's memory.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the bytes needed and settings that need less;
    /// [`Error::BadRequest`] where keys and values have fewer than two blocks.
    pub fn check(&self, engine: &EngineConfig) -> Result<(), Error> {
        let wanted_kv = match engine.kv_memory_mib {
            0 => 2 * BLOCK_TOKENS * self.kv_bytes_per_token,
            mib => mib << 20,
        };
        if self.fixed_bytes() + wanted_kv <= self.memory_bytes {
            return match self.kv_tokens / BLOCK_TOKENS {
                0 | 1 => Err(too_few_blocks(engine.kv_memory_mib, self.kv_bytes_per_token)),
                _ => Ok(()),
            };
        }
        Err(Error::OutOfMemory {
            memory: self.memory_bytes,
            weights: self.weight_bytes,
            buffers: self.buffer_bytes + self.reserve_bytes,
            kv: wanted_kv,
            mends: if self.is_fp8 { "" } else { "quantization = \"fp8\", " },
        })
    }
}

/// Chooses device and number formats of a model, and refuses a model that does not fit into a GPU.
pub(crate) fn choose(
    model: &ModelConfig,
    config: &EngineConfig,
) -> Result<(Device, Precision), Error> {
    let device = config.device.resolve()?;
    let precision = config.quantization.resolve(device, config.dtype, model.fp8.is_some())?;
    if device.is_cuda() {
        let memory = device::memory_bytes(device)?;
        CapacityPlan::new(model, config, device, memory)?.check(config)?;
    }
    Ok((device, precision))
}

/// Path of a loaded model, and number of blocks of keys and values that fit beside it.
pub(crate) fn path_and_blocks(
    model: &Decoder,
    config: &EngineConfig,
    max_context: usize,
) -> Result<(ExecutionPath, usize), Error> {
    let device = model.device();
    let path = ExecutionPath::of(device, model.precision(), config)?;
    let per_token = path.kv_bytes_per_token(model.config(), model.kind());
    // the weights are already in the GPU's memory, which is counted without them
    let set_aside = path.buffer_bytes(model.config(), config, max_context) + GPU_RESERVE;
    let available = kv_memory(device, device::memory_bytes(device)?, set_aside);
    match kv_blocks(config, max_context, per_token, available) {
        0 | 1 => {
            let mib =
                if config.kv_memory_mib == 0 { available >> 20 } else { config.kv_memory_mib };
            Err(too_few_blocks(mib, per_token))
        }
        n_blocks => Ok((path, n_blocks)),
    }
}

fn too_few_blocks(mib: usize, kv_bytes_per_token: usize) -> Error {
    Error::BadRequest(format!(
        "kv_memory_mib is {mib}, wanted at least {} for two blocks of {BLOCK_TOKENS} tokens",
        (2 * BLOCK_TOKENS * kv_bytes_per_token).div_ceil(1 << 20)
    ))
}

/// Bytes of `memory` for keys and values: an eighth of the machine's memory, or the rest of a GPU's
/// memory after `set_aside`.
fn kv_memory(device: Device, memory: usize, set_aside: usize) -> usize {
    match device {
        Device::Cpu => memory / 8,
        _ => memory.saturating_sub(set_aside),
    }
}

/// Number of blocks of keys and values: as many as the settings give, or at most as many as
/// `max_batch` full contexts need and `available` bytes hold.
fn kv_blocks(
    engine: &EngineConfig,
    max_context: usize,
    kv_bytes_per_token: usize,
    available: usize,
) -> usize {
    let block_bytes = BLOCK_TOKENS * kv_bytes_per_token;
    match engine.kv_memory_mib {
        0 => {
            let wanted = engine.max_batch.saturating_mul(max_context.div_ceil(BLOCK_TOKENS) + 1);
            wanted.min(available / block_bytes)
        }
        mib => (mib << 20) / block_bytes,
    }
}

/// Settings of the GPU path.
pub(crate) fn gpu_settings(
    engine: &EngineConfig,
    n_blocks: usize,
    max_context: usize,
    kv: KvKind,
) -> GpuSettings {
    GpuSettings {
        n_blocks,
        step_tokens: engine.step_tokens,
        max_batch: engine.max_batch,
        max_context,
        kv,
        kernels: engine.gpu_kernels,
        graphs: engine.cuda_graphs,
        shared_attention: engine.shared_attention,
        fetch_ahead: engine.fetch_ahead_mib.saturating_mul(1 << 20),
    }
}

/// Refuses FP8 matrices with a dimension that is no multiple of 16, which FP8 tensor cores need.
///
/// # Errors
/// [`Error::Unsupported`] names the dimension.
fn check_fp8_widths(config: &ModelConfig, precision: Precision) -> Result<(), Error> {
    let q_width = config.n_heads * config.head_dim;
    let of_layers = [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_attention_heads times head_dim", q_width),
        ("num_key_value_heads times head_dim", config.n_kv_heads * config.head_dim),
    ];
    let of_head = [("hidden_size", config.hidden_size), ("vocab_size", config.vocab_size)];
    let checked = of_layers.iter().filter(|_| precision.fp8_layers);
    let mut checked = checked.chain(of_head.iter().filter(|_| precision.fp8_head));
    match checked.find(|(_, width)| width % 16 != 0) {
        Some((name, width)) => Err(Error::unsupported(format!(
            "FP8 on a GPU with {name} {width} (wanted a multiple of 16)"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
