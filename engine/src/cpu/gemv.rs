//! GEMV and skinny GEMM with bf16 weights, bound by memory: each weight is read once, in memory
//! order. oneDNN's products with one row reach only two thirds of the memory's bandwidth.

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::aligned::PageAligned;
use super::element::Element;
use crate::ffi::simd::{self, LANES, RUN};
use crate::ffi::tensors::{slice, slice_mut};
use crate::ffi::threads;

/// Number of outputs that are computed together.
const OUTPUTS: usize = RUN * LANES;

/// A weight [N, K] in runs of outputs: [N / 64, K / 2, 64] pairs; missing outputs of the last run
/// are 0.
pub(super) struct GemvWeight {
    runs: PageAligned<u32>,
    n_outputs: usize,
    n_pairs: usize,
}

impl GemvWeight {
    /// Lays out a weight; none where the processor has no bf16 products, or K is odd.
    pub(super) fn new(weight: &Tensor) -> Option<Self> {
        let (n_outputs, width) = (weight.size()[0] as usize, weight.size()[1] as usize);
        if !simd::has_bf16() || !width.is_multiple_of(2) {
            return None;
        }
        let n_pairs = width / 2;
        let per_run = simd::run_units(n_pairs);
        let mut runs = PageAligned::zeros(n_outputs.div_ceil(OUTPUTS) * per_run);
        let weight = weight.detach().contiguous();
        let rows = slice::<bf16>(&weight).chunks(OUTPUTS * width);
        let items: Vec<_> = runs.chunks_exact_mut(per_run).zip(rows).collect();
        threads::for_each(items, false, |(run, rows)| {
            for (lane, row) in rows.chunks_exact(width).enumerate() {
                for (at, pair) in bf16::units(row).enumerate() {
                    run[at * OUTPUTS + lane] = pair;
                }
            }
        });
        Some(Self { runs, n_outputs, n_pairs })
    }

    /// x·Wᵀ for 1 to [`simd::max_gemv_rows`] tokens: `x` [M, K] → [M, N].
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let n_rows = x.size()[0] as usize;
        let mut out =
            Tensor::empty([n_rows as i64, self.n_outputs as i64], (Kind::BFloat16, Device::Cpu));
        let x: Vec<u32> = bf16::units(slice::<bf16>(x)).collect();
        // several parts per thread balance the load when a thread is interrupted
        let per_run = simd::run_units(self.n_pairs);
        let per_part = (self.runs.len() / per_run).div_ceil(8);
        let weights = self.runs.chunks(per_part * per_run);
        let mut parts: Vec<(&[u32], Vec<&mut [bf16]>)> =
            weights.map(|weights| (weights, Vec::with_capacity(n_rows))).collect();
        for row in slice_mut::<bf16>(&mut out).chunks_exact_mut(self.n_outputs) {
            for ((_, outs), columns) in parts.iter_mut().zip(row.chunks_mut(per_part * OUTPUTS)) {
                outs.push(columns);
            }
        }
        threads::for_each(parts, false, |(weights, mut outs)| {
            simd::linear(&x, self.n_pairs, weights, |row, run, sums| {
                for (out, &sum) in outs[row][run * OUTPUTS..].iter_mut().zip(sums) {
                    *out = Element::from_f32(sum);
                }
            });
        });
        out
    }
}
