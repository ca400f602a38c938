//! Kernels, run by an emulator, against the reference operations; whole batches against the plain
//! decoder; and every kernel through CUDA's compiler. Each test draws from its own seed.

use std::cell::RefCell;

use joust_schema::seed::Seed;
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

use super::arena::KvKind;
use super::measure::stage::values;
use super::ops::{Activations, Heads};
use super::settings::GpuSettings;
use crate::batch::{BatchRow, ForwardBatch};
use crate::kv::{KvSlot, Span};
use crate::model::Linear;

mod attention;
mod batches;
mod compile;
mod engine;
mod gemm_skinny;
mod measure;
mod rows;
mod sample;

const CPU: Device = Device::Cpu;

/// Random tensors of one test, from its own seed.
struct RandomTensors(RefCell<Box<dyn FnMut() -> f64>>);

impl RandomTensors {
    fn new(seed: u64) -> Self {
        let mut rng = Seed(seed).rng();
        Self(RefCell::new(Box::new(move || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64)))
    }

    /// Uniform numbers in [0, 1), f64.
    fn uniform(&self, shape: &[i64]) -> Tensor {
        let n_values: i64 = shape.iter().product();
        let values: Vec<f64> = (0..n_values).map(|_| (self.0.borrow_mut())()).collect();
        Tensor::from_slice(&values).view(shape)
    }

    /// Normal numbers with mean 0 and variance 1, f32, by the Box–Muller transform.
    fn randn(&self, shape: &[i64]) -> Tensor {
        let radius = (self.uniform(shape).neg() + 1.0).log() * -2.0;
        let angle = self.uniform(shape) * (2.0 * std::f64::consts::PI);
        (radius.sqrt() * angle.cos()).to_kind(Kind::Float)
    }
}

const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 16, scale: 0.25 };

fn bf16(x: &Tensor) -> Tensor {
    x.to_kind(Kind::BFloat16)
}

/// Zeroed activations in both number formats.
fn outs(n: i64, width: i64) -> [Activations; 2] {
    let bytes = Tensor::zeros([n, width], (Kind::Uint8, CPU));
    [
        Activations::Plain(Tensor::zeros([n, width], (Kind::BFloat16, CPU))),
        Activations::Fp8(
            bytes.view_dtype(Kind::Float8e4m3fn),
            Tensor::zeros([n], (Kind::Float, CPU)),
        ),
    ]
}

/// A linear layer in bf16.
fn plain(weight: &Tensor) -> Linear {
    Linear { weight: bf16(weight), scale: None, bias: None, adapters: None }
}

/// Fails where more than a few values differ by more than a rounding, or any value by more than a
/// step of the number format.
fn check_close(seen: &Activations, wanted: &Activations, what: &str) {
    let (seen, wanted) = (values(seen), values(wanted));
    let step = match wanted.size()[0] {
        0 => return,
        _ => wanted.abs().amax([-1i64].as_slice(), true) / 14.0 + wanted.abs() / 8.0,
    };
    let off = (&seen - &wanted).abs();
    assert!(off.isfinite().all().int64_value(&[]) == 1, "{what}: no numbers");
    let far = (&off - step).gt(0.0).sum(Kind::Int64).int64_value(&[]);
    let differ = off.gt_tensor(&(wanted.abs() * 1e-3)).sum(Kind::Int64).int64_value(&[]);
    let allowed = 2 + wanted.numel() as i64 / 100;
    assert!(far == 0 && differ <= allowed, "{what}: {far} far off, {differ} differ");
}

/// Settings of a runner whose buffers are smaller than the tests' batches, so that they must grow.
fn settings(n_blocks: usize, kv: KvKind, shared_attention: bool) -> GpuSettings {
    GpuSettings {
        n_blocks,
        step_tokens: 8,
        max_batch: 2,
        max_context: 16,
        kv,
        kernels: false,
        graphs: false,
        shared_attention,
        fetch_ahead: 0,
    }
}

/// Adds a row: the tokens of a sequence from `position` on, with the logits of all of them wanted.
fn push(batch: &mut ForwardBatch, tokens: &[u32], position: usize, spans: &[(u32, u32)]) {
    let start = batch.tokens.len();
    let slots =
        spans.iter().flat_map(|&(block, n)| (0..n).map(move |offset| KvSlot { block, offset }));
    batch.slots.extend(slots.skip(position).take(tokens.len()));
    batch.tokens.extend(tokens);
    batch.positions.extend(position..position + tokens.len());
    let spans = spans.iter().map(|&(block, n_tokens)| Span { block, n_tokens });
    batch.rows.push(BatchRow { start, len: tokens.len(), position, spans: spans.collect() });
    batch.wanted.extend(start..start + tokens.len());
}
