//! Runs parts of a step: clock, comparison with the reference operations, and the report of each
//! part. It does not know which parts exist.

use std::time::Instant;

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi::cuda::graph::CudaGraph;
use crate::ffi::cuda::stream::CudaStream;
use crate::gpu::ops::Activations;
use crate::model::Linear;

/// Measurement of one part at one size.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KernelMeasurement {
    /// Name of the part.
    pub part: String,
    /// Rows of the step.
    pub rows: usize,
    /// Maximum relative error against the reference. FP8 GEMM: of row norms against bf16; sampler:
    /// fraction of tokens that differ.
    pub deviation: Option<f64>,
    /// Whether the deviation is within rounding.
    pub is_right: Option<bool>,
    /// Time of one run, in microseconds.
    pub us: f64,
    /// Bytes that the part must read and write, per time, in GB/s.
    pub gb_per_s: f64,
    /// Multiplications and additions per time, in TFLOP/s.
    pub tflop_per_s: f64,
    /// Error of a part that failed; its other values are then empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl KernelMeasurement {
    /// Whether the part ran and, where it was compared, is right.
    pub fn is_good(&self) -> bool {
        self.failed.is_none() && self.is_right != Some(false)
    }
}

/// Maximum deviation that counts as right, relative to the row's largest value: little more than a
/// step of the number format, 1/14 in E4M3.
pub(super) const FP8_STEP: f64 = 1.0 / 13.0;
pub(super) const BF16_STEP: f64 = 1.0 / 127.0;

pub(super) fn tolerance(out: &Activations) -> f64 {
    match out {
        Activations::Plain(_) => BF16_STEP,
        Activations::Fp8(..) => FP8_STEP,
    }
}

/// Activations converted to [n, K] f32.
pub(in crate::gpu) fn values(out: &Activations) -> Tensor {
    match out {
        Activations::Plain(x) => x.to_kind(Kind::Float),
        Activations::Fp8(values, scale) => values.to_kind(Kind::Float) * scale.unsqueeze(1),
    }
}

/// Maximum difference of two activations relative to each row's largest value.
pub(super) fn deviation(seen: &Activations, wanted: &Activations) -> f64 {
    let (seen, wanted) = (values(seen), values(wanted));
    let largest = wanted.abs().amax([-1i64].as_slice(), true).clamp_min(1e-20);
    match ((seen - &wanted).abs() / largest).max().double_value(&[]) {
        off if off.is_nan() => f64::INFINITY,
        off => off,
    }
}

/// What the measurement of a part needs.
pub(super) struct MeasureStage<'a> {
    pub(super) device: Device,
    /// Stream of the work; none on a CPU.
    pub(super) stream: Option<CudaStream>,
    pub(super) reps: usize,
    /// Gets each part as soon as it is measured, because a later part may never end.
    pub(super) report: &'a mut dyn FnMut(KernelMeasurement),
}

impl MeasureStage<'_> {
    /// Times `reps` runs of a part: microseconds, GB/s and TFLOP/s of one run, whose bytes and
    /// operations are given.
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
            // started as one graph, so that launch overhead is not measured
            Some(stream) => {
                stream.synchronize()?;
                let recorded = CudaGraph::capture(stream, all)?;
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

    /// Times and reports a part; `compared` is its deviation and the limit.
    pub(super) fn add(
        &mut self,
        part: &str,
        rows: usize,
        compared: Option<(f64, f64)>,
        bytes: usize,
        flops: f64,
        run: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (us, gb_per_s, tflop_per_s) = self.time(bytes, flops, run)?;
        (self.report)(KernelMeasurement {
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

    /// Runs some parts. Where one fails, the rest of them is left out and the failure reported.
    pub(super) fn try_parts(
        &mut self,
        name: &str,
        rows: usize,
        run: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) {
        // reading tensors panics after a failure of the GPU
        let run = std::panic::AssertUnwindSafe(|| run(self));
        let failed = match std::panic::catch_unwind(run) {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("panicked".to_owned()),
        };
        if let Some(failed) = failed {
            (self.report)(KernelMeasurement {
                part: name.to_owned(),
                rows,
                failed: Some(failed.lines().next().unwrap_or_default().to_owned()),
                ..KernelMeasurement::default()
            });
        }
    }

    pub(super) fn randn(&self, shape: &[i64]) -> Result<Tensor, Error> {
        Ok(Tensor::f_randn(shape, (Kind::Float, self.device))?)
    }

    pub(super) fn bf16(&self, shape: &[i64]) -> Result<Tensor, Error> {
        Ok(self.randn(shape)?.f_to_kind(Kind::BFloat16)?)
    }

    /// A matrix that kernels may prefetch, as in a step.
    pub(super) fn next_product(&self, width: i64) -> Result<Linear, Error> {
        Ok(Linear { weight: self.bf16(&[1_024, width])?, scale: None, bias: None, adapters: None })
    }

    /// Memory for activations of both forms.
    pub(super) fn outs(&self, n: i64, width: i64) -> Result<[Activations; 2], Error> {
        let zeros = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, self.device));
        let bytes = zeros(&[n, width], Kind::Uint8)?;
        Ok([
            Activations::Plain(zeros(&[n, width], Kind::BFloat16)?),
            Activations::Fp8(bytes.f_view_dtype(Kind::Float8e4m3fn)?, zeros(&[n], Kind::Float)?),
        ])
    }

    /// Compares and times a kernel that writes activations, in both number formats.
    pub(super) fn both_forms(
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
