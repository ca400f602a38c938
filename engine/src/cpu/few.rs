//! Products of few tokens with bf16 weights: each weight is read once, in the order in which it
//! lies in memory, and that takes the time. oneDNN's products with one row reach two thirds of the
//! memory's speed.

use half::bf16;
use tch::{Device, Kind, Tensor};

use super::element::Element as _;
use crate::ffi::simd::{self, LANES};
use crate::ffi::tensors::{slice, slice_mut};
use crate::ffi::threads;

/// A weight [N, K] in blocks of 16 outputs: [N / 16, K / 2, 16] pairs.
pub(super) struct FewRows {
    blocks: Vec<u32>,
    n_outputs: usize,
    n_pairs: usize,
}

impl FewRows {
    /// Lays a weight out; none where the processor has no bf16 products, or K is odd.
    pub(super) fn new(weight: &Tensor) -> Option<Self> {
        let (n_outputs, width) = (weight.size()[0] as usize, weight.size()[1] as usize);
        if !simd::has_bf16() || !width.is_multiple_of(2) {
            return None;
        }
        let n_pairs = width / 2;
        let per_block = n_pairs * LANES;
        let mut blocks = vec![0u32; n_outputs.div_ceil(LANES) * per_block];
        let weight = weight.detach().contiguous();
        let rows = slice::<bf16>(&weight).chunks(LANES * width);
        let items: Vec<_> = blocks.chunks_exact_mut(per_block).zip(rows).collect();
        threads::for_each(items, false, |(block, rows)| {
            for (lane, row) in rows.chunks_exact(width).enumerate() {
                for (at, pair) in bf16::units(row).enumerate() {
                    block[at * LANES + lane] = pair;
                }
            }
        });
        Some(Self { blocks, n_outputs, n_pairs })
    }

    /// x·Wᵀ for 1 to [`simd::few`] tokens: `x` [M, K] → [M, N].
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let n_rows = x.size()[0] as usize;
        let mut out =
            Tensor::empty([n_rows as i64, self.n_outputs as i64], (Kind::BFloat16, Device::Cpu));
        let x: Vec<u32> = bf16::units(slice::<bf16>(x)).collect();
        // four parts a thread even out what one of them loses to others
        let n_blocks = self.blocks.len() / (self.n_pairs * LANES);
        let per_part = n_blocks.div_ceil(8).next_multiple_of(4);
        let weights = self.blocks.chunks(per_part * self.n_pairs * LANES);
        let mut parts: Vec<(&[u32], Vec<&mut [bf16]>)> =
            weights.map(|weights| (weights, Vec::with_capacity(n_rows))).collect();
        for row in slice_mut::<bf16>(&mut out).chunks_exact_mut(self.n_outputs) {
            for ((_, outs), columns) in parts.iter_mut().zip(row.chunks_mut(per_part * LANES)) {
                outs.push(columns);
            }
        }
        threads::for_each(parts, false, |(weights, mut outs)| {
            simd::linear(&x, self.n_pairs, weights, |row, block, values| {
                let out = outs[row][block * LANES..].iter_mut();
                for (out, &value) in out.zip(values) {
                    *out = bf16::from_f32(value);
                }
            });
        });
        out
    }
}
