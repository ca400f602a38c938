//! Measures decode attention over separate contexts and over a shared prefix, and the storing of
//! keys and values.

use tch::{Kind, Tensor};

use super::stage::{BF16_STEP, FP8_STEP, MeasureStage, deviation, tolerance};
use crate::config::ModelConfig;
use crate::error::Error;
use crate::gpu::arena::{self, KvKind, LayerArena};
use crate::gpu::buffers;
use crate::gpu::cascade::{BUNDLE_ROWS, CascadePlan};
use crate::gpu::ops::{Activations, CascadeBundles, DecodeContexts, Heads, Ops};
use crate::gpu::tuning::n_splits;
use crate::kv::BLOCK_TOKENS;
use crate::model::HeadNorms;

/// Number of rows that are compared with the reference, which computes one row at a time.
const COMPARED_ROWS: i64 = 4;

/// Kernels and reference operations with the queries, keys and values of one measurement.
struct AttentionBench<'a, 'b> {
    stage: &'a mut MeasureStage<'b>,
    ops: [&'a dyn Ops; 2],
    heads: Heads,
    arenas: [LayerArena; 2],
    qkv: Tensor,
    /// Number of rows, and of blocks per row.
    n: i64,
    blocks_each: i64,
    bytes_per_token: usize,
}

/// Measures `n` rows with contexts of `context` tokens.
pub(super) fn measure(
    stage: &mut MeasureStage,
    config: &ModelConfig,
    ops: [&dyn Ops; 2],
    n: i64,
    context: usize,
    kv: KvKind,
) -> Result<(), Error> {
    let heads = buffers::heads(config);
    let blocks_each = context.div_ceil(BLOCK_TOKENS).max(1) as i64;
    let one_layer = ModelConfig { n_layers: 1, ..config.clone() };
    let arena = || -> Result<LayerArena, Error> {
        let n_blocks = (n * blocks_each) as usize;
        Ok(arena::allocate(&one_layer, n_blocks, kv, stage.device)?.remove(0))
    };
    let arenas = [arena()?, arena()?];
    let qkv = stage.bf16(&[n, heads.qkv_width()])?;
    let bytes_per_token = kv.bytes_per_token(&one_layer);
    let mut bench =
        AttentionBench { stage, ops, heads, arenas, qkv, n, blocks_each, bytes_per_token };
    bench.store(config, context, kv)?;
    bench.measure_unshared()?;
    match n > 1 && blocks_each > 1 {
        true => bench.measure_shared(),
        false => Ok(()),
    }
}

impl AttentionBench<'_, '_> {
    fn to_device(&self, tensor: Tensor) -> Result<Tensor, Error> {
        Ok(tensor.f_to_device(self.stage.device)?)
    }

    fn i32s(&self, values: &[i32]) -> Result<Tensor, Error> {
        self.to_device(Tensor::f_from_slice(values)?)
    }

    /// Fills every slot of both arenas, one offset of all blocks at a time, and measures the
    /// storing of one token per row.
    fn store(&mut self, config: &ModelConfig, context: usize, kv: KvKind) -> Result<(), Error> {
        const BLOCK: i64 = BLOCK_TOKENS as i64;
        let Self { n, blocks_each, heads, .. } = *self;
        let n_blocks = n * blocks_each;
        let inv_freq: Vec<f32> = (0..heads.head_dim / 2)
            .map(|pair| config.rope_theta.powf(-2.0 * pair as f64 / heads.head_dim as f64) as f32)
            .collect();
        let inv_freq = self.to_device(Tensor::f_from_slice(&inv_freq)?)?;
        let norms = match config.family.head_norms {
            true => Some(HeadNorms {
                q: self.stage.bf16(&[heads.head_dim])?,
                k: self.stage.bf16(&[heads.head_dim])?,
                eps: config.rms_norm_eps,
            }),
            false => None,
        };
        let norms = norms.as_ref();
        for start in 0..BLOCK {
            let slots: Vec<i32> =
                (0..n_blocks).map(|block| (block * BLOCK + start) as i32).collect();
            let positions: Vec<i32> =
                (0..n_blocks).map(|block| (block % blocks_each * BLOCK + start) as i32).collect();
            let qkv = self.stage.bf16(&[n_blocks, heads.qkv_width()])?;
            let slots = self.i32s(&slots)?;
            let positions = self.i32s(&positions)?;
            for (ops, arena) in self.ops.iter().zip(&self.arenas) {
                ops.rope_append(&qkv.copy(), &positions, &inv_freq, &slots, norms, arena)?;
            }
        }
        let [seen, wanted] = [self.stored(0)?, self.stored(1)?];
        let step = if kv.is_fp8() { FP8_STEP } else { BF16_STEP };
        let compared = Some((deviation(&seen, &wanted), step));
        let slots: Vec<i32> = (0..n).map(|row| (row * blocks_each * BLOCK) as i32).collect();
        let slots = self.i32s(&slots)?;
        let positions = self.i32s(&vec![context as i32 - 1; n as usize])?;
        let bytes = 4 * (n * heads.qkv_width()) as usize;
        let ([kernels, _], arena) = (self.ops, &self.arenas[1]);
        self.stage.add("rope_append", n as usize, compared, bytes, 0.0, &|| {
            kernels.rope_append(&self.qkv, &positions, &inv_freq, &slots, norms, arena)
        })
    }

    /// Content of an arena, limited to a size that is compared quickly.
    fn stored(&self, which: usize) -> Result<Activations, Error> {
        let n_slots = (self.n * self.blocks_each).min(4_096) * BLOCK_TOKENS as i64;
        let slots = Tensor::f_arange(n_slots, (Kind::Int64, tch::Device::Cpu))?;
        let block = self.to_device(slots.f_divide_scalar_mode(BLOCK_TOKENS as i64, "floor")?)?;
        let offset = self.to_device(slots.f_remainder(BLOCK_TOKENS as i64)?)?;
        let gathered = self.arenas[which].gather(&block, &offset, Kind::Float)?;
        Ok(Activations::Plain(Tensor::f_cat(&gathered, 0)?.f_view([-1, self.heads.head_dim])?))
    }

    /// Measures attention over separate contexts, and the merge of its splits.
    fn measure_unshared(&mut self) -> Result<(), Error> {
        let [partial, lse] = self.attend("attend_decode", 0)?;
        let [kernels, reference] = self.ops;
        let bytes = 4 * partial.numel();
        let width = self.heads.q_width();
        let next = self.stage.next_product(width)?;
        self.stage.both_forms("merge_splits", [self.n, width], bytes, &|is_kernel, out| {
            let ops = if is_kernel { kernels } else { reference };
            ops.merge_splits(&partial, &lse, out, Some(&next))
        })
    }

    /// Measures attention over contexts that differ in the last block only.
    fn measure_shared(&mut self) -> Result<(), Error> {
        self.attend("attend_decode, shared prefix", self.blocks_each - 1).map(|_| ())
    }

    /// Measures the attention of rows whose contexts share their first `n_shared` blocks. Returns
    /// the splits.
    fn attend(&mut self, part: &str, n_shared: i64) -> Result<[Tensor; 2], Error> {
        let (n, blocks_each) = (self.n, self.blocks_each);
        let compared = self.compare(&self.contexts(n.min(COMPARED_ROWS), n_shared)?)?;
        let contexts = self.contexts(n, n_shared)?;
        let [partial, lse] = self.splits(&contexts)?;
        let n_blocks = (n_shared + n * (blocks_each - n_shared)) as usize;
        let bytes = n_blocks * BLOCK_TOKENS * self.bytes_per_token;
        let n_tokens = n * blocks_each * BLOCK_TOKENS as i64;
        let flops = 4.0 * n_tokens as f64 * self.heads.q_width() as f64;
        let ([kernels, _], arena) = (self.ops, &self.arenas[1]);
        let attend = || kernels.attend_decode(&self.qkv, arena, &contexts, &partial, &lse);
        self.stage.add(part, n as usize, Some(compared), bytes, flops, &attend)?;
        // without repetitions nothing has run yet
        attend()?;
        Ok([partial, lse])
    }

    /// The contexts of the first rows.
    fn contexts(&self, n_rows: i64, n_shared: i64) -> Result<DecodeContexts, Error> {
        let blocks_each = self.blocks_each;
        let block = |row: i64, at: i64| if at < n_shared { at } else { row * blocks_each + at };
        let spans: Vec<i32> = (0..n_rows)
            .flat_map(|row| (0..blocks_each).map(move |at| (block(row, at) << 5 | 16) as i32))
            .collect();
        let n_splits = n_splits(self.n as usize) as i64;
        let mut sharing = CascadePlan::none(n_rows as usize);
        sharing.add(&(0..n_rows as usize).collect::<Vec<_>>(), n_shared as usize);
        let shared = || -> Result<CascadeBundles, Error> {
            let rows = self.i32s(sharing.rows.as_flattened())?;
            Ok(CascadeBundles {
                n_shared: self.i32s(&sharing.n_shared)?,
                rows: rows.f_view([-1, BUNDLE_ROWS as i64])?,
                n_spans: self.i32s(&sharing.n_spans)?,
                n_splits,
            })
        };
        Ok(DecodeContexts {
            spans: self.i32s(&spans)?.f_view([n_rows, blocks_each])?,
            n_spans: self.i32s(&vec![blocks_each as i32; n_rows as usize])?,
            n_splits,
            cascade: if n_shared > 0 { Some(shared()?) } else { None },
        })
    }

    /// Deviation of the kernels from the reference, and its limit. Both read the same arena.
    fn compare(&self, contexts: &DecodeContexts) -> Result<(f64, f64), Error> {
        let attended = |ops: &dyn Ops| -> Result<Activations, Error> {
            let [out, _] = self.stage.outs(contexts.n_spans.size()[0], self.heads.q_width())?;
            let [partial, lse] = self.splits(contexts)?;
            ops.attend_decode(&self.qkv, &self.arenas[1], contexts, &partial, &lse)?;
            ops.merge_splits(&partial, &lse, &out, None)?;
            Ok(out)
        };
        let (out, wanted) = (attended(self.ops[0])?, attended(self.ops[1])?);
        Ok((deviation(&out, &wanted), tolerance(&out)))
    }

    /// Memory for the splits of all rows.
    fn splits(&self, contexts: &DecodeContexts) -> Result<[Tensor; 2], Error> {
        let [n_rows, n_splits] = [contexts.n_spans.size()[0], contexts.n_all_splits()];
        let zeros = |width: i64| {
            Tensor::f_zeros([n_rows, n_splits, width], (Kind::Float, self.stage.device))
        };
        Ok([zeros(self.heads.q_width())?, zeros(self.heads.n_heads)?])
    }
}
