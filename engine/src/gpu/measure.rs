//! The parts of a step on the GPU that is here, one by one, at a model's shapes: whether each kernel
//! computes what its twin does, how long it takes and how fast it moves its bytes.

mod attention;
mod products;

use std::time::Instant;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::arena::KvKind;
use super::buffers;
use super::kernels::{Kernels, check_model};
use super::ops::{Activations, Ops};
use super::twins::Twins;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::ffi::cuda::{self, Graph, Stream};
use crate::model::Linear;
use crate::settings::EngineConfig;

/// What is measured, and at which sizes.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Rows (tokens) of a step.
    pub rows: Vec<usize>,
    /// Tokens of each decoding row's context.
    pub context: usize,
    /// Whether keys and values are FP8.
    pub kv_fp8: bool,
    /// Times that each part runs between two looks at the clock; 0 only compares.
    pub reps: usize,
}

/// One part at one size.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// Its name.
    pub part: String,
    /// Rows of the step.
    pub rows: usize,
    /// Largest distance from the twin relative to the row's largest value; of FP8 products that of the
    /// norms from bf16's; of the sampler the share of other tokens.
    pub deviation: Option<f64>,
    /// Whether the distance is as small as rounding makes it.
    pub is_right: Option<bool>,
    /// Time of one run, in microseconds.
    pub us: f64,
    /// Bytes that must be read and written over that time, in GB/s.
    pub gb_per_s: f64,
    /// Multiplications and additions over that time, in TFLOP/s.
    pub tflop_per_s: f64,
    /// Why there are no figures, where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Measured {
    /// Whether it ran, and computed what its twin does where it has one.
    pub fn is_good(&self) -> bool {
        self.failed.is_none() && self.is_right != Some(false)
    }
}

/// Largest distance that counts as right, relative to the row's largest value: little more than a step
/// of the number format, 1/14 in E4M3.
const FP8_STEP: f64 = 1.0 / 13.0;
const BF16_STEP: f64 = 1.0 / 127.0;

fn tolerance(out: &Activations) -> f64 {
    match out {
        Activations::Plain(_) => BF16_STEP,
        Activations::Fp8(..) => FP8_STEP,
    }
}

/// Activations as numbers: [n, K] f32.
pub(super) fn values(out: &Activations) -> Tensor {
    match out {
        Activations::Plain(x) => x.to_kind(Kind::Float),
        Activations::Fp8(values, scale) => values.to_kind(Kind::Float) * scale.unsqueeze(1),
    }
}

/// The largest distance between two activations relative to each row's largest value.
fn deviation(seen: &Activations, wanted: &Activations) -> f64 {
    let (seen, wanted) = (values(seen), values(wanted));
    let largest = wanted.abs().amax([-1i64].as_slice(), true).clamp_min(1e-20);
    match ((seen - &wanted).abs() / largest).max().double_value(&[]) {
        off if off.is_nan() => f64::INFINITY,
        off => off,
    }
}

/// A stage on which parts are run.
struct Stage<'a> {
    device: Device,
    /// None off the GPU.
    stream: Option<Stream>,
    reps: usize,
    /// Is told each part when it is measured: what comes later may never come.
    report: &'a mut dyn FnMut(Measured),
}

impl Stage<'_> {
    /// Runs a part until the clock can tell how long it takes. `bytes` and `flops` are those of one run.
    fn time(
        &self,
        bytes: usize,
        flops: f64,
        run: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(f64, f64, f64), Error> {
        if self.reps == 0 {
            return Ok((0.0, 0.0, 0.0));
        }
        let all = || (0..self.reps).try_for_each(|_| run());
        run()?;
        let start = match &self.stream {
            // started as a whole, so that the host's part of each start is not measured
            Some(stream) => {
                stream.synchronize()?;
                let recorded = Graph::capture(stream, all)?;
                recorded.launch(stream)?;
                stream.synchronize()?;
                let start = Instant::now();
                recorded.launch(stream)?;
                stream.synchronize()?;
                start
            }
            None => {
                let start = Instant::now();
                all()?;
                start
            }
        };
        let seconds = start.elapsed().as_secs_f64() / self.reps as f64;
        Ok((seconds * 1e6, bytes as f64 / seconds / 1e9, flops / seconds / 1e12))
    }

    /// Adds a part; `compared` is its deviation and what of it is allowed.
    fn add(
        &mut self,
        part: &str,
        rows: usize,
        compared: Option<(f64, f64)>,
        bytes: usize,
        flops: f64,
        run: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (us, gb_per_s, tflop_per_s) = self.time(bytes, flops, run)?;
        (self.report)(Measured {
            part: part.to_owned(),
            rows,
            deviation: compared.map(|(off, _)| off),
            is_right: compared.map(|(off, allowed)| off <= allowed),
            us,
            gb_per_s,
            tflop_per_s,
            failed: None,
        });
        Ok(())
    }

    /// Runs some parts; where one fails the rest of them is left out, and that is reported.
    fn try_parts(
        &mut self,
        name: &str,
        rows: usize,
        run: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) {
        // much of libtorch's reading of numbers panics where the GPU has failed
        let run = std::panic::AssertUnwindSafe(|| run(self));
        let failed = match std::panic::catch_unwind(run) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("panicked".to_owned()),
        };
        if let Some(failed) = failed {
            (self.report)(Measured {
                part: name.to_owned(),
                rows,
                failed: Some(failed.lines().next().unwrap_or_default().to_owned()),
                ..Measured::default()
            });
        }
    }

    fn randn(&self, shape: &[i64]) -> Result<Tensor, Error> {
        Ok(Tensor::f_randn(shape, (Kind::Float, self.device))?)
    }

    fn bf16(&self, shape: &[i64]) -> Result<Tensor, Error> {
        Ok(self.randn(shape)?.f_to_kind(Kind::BFloat16)?)
    }

    /// A matrix of which a part may be fetched, as in a step.
    fn next_product(&self, width: i64) -> Result<Linear, Error> {
        Ok(Linear { weight: self.bf16(&[1_024, width])?, scale: None, bias: None })
    }

    /// Memory for activations of both forms.
    fn outs(&self, n: i64, width: i64) -> Result<[Activations; 2], Error> {
        let zeros = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, self.device));
        let bytes = zeros(&[n, width], Kind::Uint8)?;
        Ok([
            Activations::Plain(zeros(&[n, width], Kind::BFloat16)?),
            Activations::Fp8(bytes.f_view_dtype(Kind::Float8e4m3fn)?, zeros(&[n], Kind::Float)?),
        ])
    }

    /// A kernel that writes activations, in both forms, against its twin.
    fn both_forms(
        &mut self,
        name: &str,
        [n, width]: [i64; 2],
        bytes_in: usize,
        run: &dyn Fn(bool, &Activations) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (out, wanted) in self.outs(n, width)?.iter().zip(&self.outs(n, width)?) {
            run(true, out)?;
            run(false, wanted)?;
            let compared = Some((deviation(out, wanted), tolerance(out)));
            let (form, size) = match out {
                Activations::Plain(_) => ("bf16", 2),
                Activations::Fp8(..) => ("fp8", 1),
            };
            let bytes = bytes_in + size * (n * width) as usize;
            let part = format!("{name} to {form}");
            self.add(&part, n as usize, compared, bytes, 0.0, &|| run(true, out))?;
        }
        Ok(())
    }
}

/// Compares and measures everything that a step of this model is made of. `report` is told each part as
/// it is done; a part that fails does not stop the others.
///
/// # Errors
/// [`Error::Device`] where there is no GPU; [`Error::Unsupported`] for shapes that the kernels are not
/// written for.
pub fn measure(
    config: &ModelConfig,
    sizes: &Sizes,
    report: &mut dyn FnMut(Measured),
) -> Result<(), Error> {
    let _no_grad = tch::no_grad_guard();
    let missing = |_| Error::Device("libtorch finds no CUDA device to measure".to_owned());
    let device = crate::device::DeviceChoice::Cuda.resolve().map_err(missing)?;
    cuda::enter()?;
    tch::manual_seed(0);
    let heads = buffers::heads(config);
    let kv = if sizes.kv_fp8 { KvKind::Fp8 } else { KvKind::Bf16 };
    check_model(config, kv)?;
    let kernels = Kernels::on_gpu(heads, kv, EngineConfig::default().fetch_ahead_mib << 20)?;
    let twins = Twins { heads };
    let stream = Stream::from_pool()?;
    let _stream = stream.enter()?;
    let mut stage = Stage { device, stream: Some(stream), reps: sizes.reps, report };
    stage.try_parts("copy in memory", 0, copies);
    parts(&mut stage, config, &kernels, &twins, sizes);
    Ok(())
}

/// All that a step is made of, at each number of rows.
fn parts(
    stage: &mut Stage,
    config: &ModelConfig,
    kernels: &dyn Ops,
    twins: &dyn Ops,
    sizes: &Sizes,
) {
    let kv = if sizes.kv_fp8 { KvKind::Fp8 } else { KvKind::Bf16 };
    for &n_rows in &sizes.rows {
        let n = n_rows as i64;
        stage.try_parts("rows", n_rows, |stage| rows(stage, config, kernels, twins, n));
        stage.try_parts("attention", n_rows, |stage| {
            attention::measure(stage, config, [kernels, twins], n, sizes.context, kv)
        });
        stage.try_parts("sampling", n_rows, |stage| sampling(stage, config, kernels, n));
        products::measure(stage, config, kernels, n);
    }
}

/// As [`measure`], on the CPU with kernels and clock of a test's choice.
#[cfg(test)]
pub(super) fn measure_on_cpu(
    config: &ModelConfig,
    kernels: &dyn Ops,
    sizes: &Sizes,
) -> Vec<Measured> {
    let twins = Twins { heads: buffers::heads(config) };
    let mut found = Vec::new();
    let report = &mut |part| found.push(part);
    let mut stage = Stage { device: Device::Cpu, stream: None, reps: sizes.reps, report };
    parts(&mut stage, config, kernels, &twins, sizes);
    found
}

/// What the device's memory can do at most.
fn copies(stage: &mut Stage) -> Result<(), Error> {
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
    stage: &mut Stage,
    config: &ModelConfig,
    kernels: &dyn Ops,
    twins: &dyn Ops,
    n: i64,
) -> Result<(), Error> {
    let (hidden, width) = (config.hidden_size as i64, config.intermediate_size as i64);
    let ops = |is_kernel: bool| if is_kernel { kernels } else { twins };
    // zeros are added, so that every run finds the same
    let (x, zeros) = (stage.randn(&[n, hidden])?, stage.bf16(&[n, hidden])?.f_zeros_like()?);
    let weight = stage.bf16(&[hidden])?;
    let next = stage.next_product(hidden)?;
    stage.both_forms("add_norm", [n, hidden], 10 * (n * hidden) as usize, &|is_kernel, out| {
        ops(is_kernel).add_norm(&x, Some(&zeros), &weight, 1e-6, out, Some(&next))
    })?;
    let gate_up = stage.bf16(&[n, 2 * width])?;
    let next = stage.next_product(width)?;
    stage.both_forms("gate", [n, width], 4 * (n * width) as usize, &|is_kernel, out| {
        ops(is_kernel).gate(&gate_up, out, Some(&next))
    })?;
    let x = stage.bf16(&[n, width])?;
    stage.both_forms("quantize", [n, width], 2 * (n * width) as usize, &|is_kernel, out| {
        ops(is_kernel).quantize(&x, out)
    })
}

/// The sampler against the one on the CPU, unfiltered; with top-p it is only measured.
fn sampling(
    stage: &mut Stage,
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
    let drawn = Tensor::f_zeros([2, n], (Kind::Double, stage.device))?;
    let twins = Twins { heads: buffers::heads(config) };
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
            let (seen, wanted) = (tokens(kernels)?, tokens(&twins)?);
            // the two sum in different orders: a draw at the edge of two tokens may go either way
            let n_other = seen.iter().zip(&wanted).filter(|(a, b)| a != b).count();
            Some((n_other as f64 / n as f64, 0.05))
        };
        stage.add(name, n as usize, compared, 2 * logits.numel(), 0.0, &run)?;
    }
    Ok(())
}
