//! Measures the parts of a step one by one on the present GPU, at a model's shapes: whether each
//! kernel computes what the reference does, how long it takes and its bandwidth. It lies inside
//! `gpu` because it calls operations, arenas and buffers that nothing else outside `gpu` sees.

mod attention;
mod products;
pub(super) mod stage;

#[cfg(test)]
use tch::Device;
use tch::{Kind, Tensor};

use super::arena::KvKind;
use super::buffers;
use super::kernel_ops::{KernelOps, check_model};
use super::ops::Ops;
use super::reference::ReferenceOps;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::ffi::cuda::context;
use crate::ffi::cuda::stream::CudaStream;
use crate::settings::EngineConfig;
pub use stage::KernelMeasurement;
use stage::MeasureStage;

/// Sizes that are measured.
#[derive(Clone, Debug)]
pub struct MeasureSizes {
    /// Rows (tokens) of a step.
    pub rows: Vec<usize>,
    /// Tokens of each decoding row's context.
    pub context: usize,
    /// Whether keys and values are FP8.
    pub kv_fp8: bool,
    /// Number of runs per timing; 0 only compares.
    pub reps: usize,
}

/// Compares and measures all parts of a step of this model. `report` gets each part as it is done;
/// a part that fails does not stop the others.
///
/// # Errors
/// [`Error::Device`] without a GPU; [`Error::Unsupported`] for shapes that the kernels are not
/// written for.
pub fn measure(
    config: &ModelConfig,
    sizes: &MeasureSizes,
    report: &mut dyn FnMut(KernelMeasurement),
) -> Result<(), Error> {
    let _no_grad = tch::no_grad_guard();
    let missing = |_| Error::Device("libtorch finds no CUDA device to measure".to_owned());
    let device = crate::device::DeviceChoice::Cuda.resolve().map_err(missing)?;
    context::enter()?;
    tch::manual_seed(0);
    let heads = buffers::heads(config);
    let kv = if sizes.kv_fp8 { KvKind::Fp8 } else { KvKind::Bf16 };
    check_model(config, kv)?;
    let kernels = KernelOps::on_gpu(heads, kv, EngineConfig::default().fetch_ahead_mib << 20)?;
    let reference = ReferenceOps { heads };
    let stream = CudaStream::from_pool()?;
    let _stream = stream.enter()?;
    let mut stage = MeasureStage { device, stream: Some(stream), reps: sizes.reps, report };
    stage.try_parts("copy in memory", 0, copies);
    parts(&mut stage, config, &kernels, &reference, sizes);
    Ok(())
}

/// Measures all parts of a step at each number of rows.
fn parts(
    stage: &mut MeasureStage,
    config: &ModelConfig,
    kernels: &dyn Ops,
    reference: &dyn Ops,
    sizes: &MeasureSizes,
) {
    let kv = if sizes.kv_fp8 { KvKind::Fp8 } else { KvKind::Bf16 };
    for &n_rows in &sizes.rows {
        let n = n_rows as i64;
        stage.try_parts("rows", n_rows, |stage| rows(stage, config, kernels, reference, n));
        stage.try_parts("attention", n_rows, |stage| {
            attention::measure(stage, config, [kernels, reference], n, sizes.context, kv)
        });
        stage.try_parts("sampling", n_rows, |stage| sampling(stage, config, kernels, n));
        products::measure(stage, config, kernels, n);
    }
}

/// As [`measure`], on the CPU with the given kernels.
#[cfg(test)]
pub(super) fn measure_on_cpu(
    config: &ModelConfig,
    kernels: &dyn Ops,
    sizes: &MeasureSizes,
) -> Vec<KernelMeasurement> {
    let reference = ReferenceOps { heads: buffers::heads(config) };
    let mut found = Vec::new();
    let report = &mut |part| found.push(part);
    let mut stage = MeasureStage { device: Device::Cpu, stream: None, reps: sizes.reps, report };
    parts(&mut stage, config, kernels, &reference, sizes);
    found
}

/// Measures the device's memory bandwidth.
fn copies(stage: &mut MeasureStage) -> Result<(), Error> {
    let n_bytes = 1 << 30;
    let from = Tensor::f_zeros([n_bytes], (Kind::Uint8, stage.device))?;
    let to = from.zeros_like();
    let run = || {
        to.shallow_clone().f_copy_(&from)?;
        Ok(())
    };
    stage.add("copy in memory", 0, None, 2 * n_bytes as usize, 0.0, &run)
}

fn rows(
    stage: &mut MeasureStage,
    config: &ModelConfig,
    kernels: &dyn Ops,
    reference: &dyn Ops,
    n: i64,
) -> Result<(), Error> {
    let (hidden, width) = (config.hidden_size as i64, config.intermediate_size as i64);
    let ops = |is_kernel: bool| if is_kernel { kernels } else { reference };
    // zeros are added, so that every run has the same input
    let (x, zeros) = (stage.randn(&[n, hidden])?, stage.bf16(&[n, hidden])?.f_zeros_like()?);
    let weight = stage.bf16(&[hidden])?;
    let next = stage.next_product(hidden)?;
    stage.both_forms(
        "rmsnorm_residual",
        [n, hidden],
        10 * (n * hidden) as usize,
        &|is_kernel, out| {
            ops(is_kernel).rmsnorm_residual(&x, Some(&zeros), &weight, 1e-6, out, Some(&next))
        },
    )?;
    let gate_up = stage.bf16(&[n, 2 * width])?;
    let next = stage.next_product(width)?;
    stage.both_forms("silu_mul", [n, width], 4 * (n * width) as usize, &|is_kernel, out| {
        ops(is_kernel).silu_mul(&gate_up, out, Some(&next))
    })?;
    let x = stage.bf16(&[n, width])?;
    stage.both_forms("quantize", [n, width], 2 * (n * width) as usize, &|is_kernel, out| {
        ops(is_kernel).quantize(&x, out)
    })
}

/// Compares the sampler with the reference without filters; with top-p it is only timed.
fn sampling(
    stage: &mut MeasureStage,
    config: &ModelConfig,
    kernels: &dyn Ops,
    n: i64,
) -> Result<(), Error> {
    let logits = (stage.randn(&[n, config.vocab_size as i64])? * 3.0).f_to_kind(Kind::BFloat16)?;
    let device = stage.device;
    let draws = |top_p: f64| -> Result<Tensor, Error> {
        let of_row = Tensor::f_from_slice(&[0.6, top_p, 0.0, 0.37])?.f_unsqueeze(1)?;
        Ok(of_row.f_expand([4, n], false)?.f_contiguous()?.f_to_device(device)?)
    };
    let drawn = Tensor::f_zeros([3, n], (Kind::Double, stage.device))?;
    let reference = ReferenceOps { heads: buffers::heads(config) };
    for (name, top_p) in [("sample", 1.0), ("sample top_p 0.95", 0.95)] {
        let draws = draws(top_p)?;
        let run = || kernels.sample(&logits, &draws, &drawn);
        let compared = if top_p < 1.0 {
            None
        } else {
            let tokens = |ops: &dyn Ops| -> Result<Vec<f64>, Error> {
                ops.sample(&logits, &draws, &drawn)?;
                Ok(Vec::<f64>::try_from(drawn.f_get(0)?)?)
            };
            let (seen, wanted) = (tokens(kernels)?, tokens(&reference)?);
            // the two sum in different orders: a draw at the border of two tokens may give either
            let n_other = seen.iter().zip(&wanted).filter(|(a, b)| a != b).count();
            Some((n_other as f64 / n as f64, 0.05))
        };
        stage.add(name, n as usize, compared, 2 * logits.numel(), 0.0, &run)?;
    }
    Ok(())
}
