//! The operations by the kernels: which one, with which values. How a kernel is declared and
//! checked is in `kernels` and `kernel`; how it is started, in `launch` on a GPU and in an emulator
//! in tests.

use tch::Tensor;

use super::arena::{KvKind, LayerArena};
use super::buffers;
use super::kernel::{ArgValue, Dim, Dims, Kernel};
use super::kernels::{
    ATTEND_CASCADE, ATTEND_DECODE, Forms, GATHER_KV, GEMM_W8A8_SKINNY_8, GEMM_W8A8_SKINNY_16,
    GEMM_W8A8_SKINNY_32, GEMM_W8A8_SKINNY_64, MAX_SHARED_WIDTH, MERGE_SPLITS, QUANTIZE_ROWS,
    RMSNORM_RESIDUAL, ROPE_APPEND, SAMPLE, SILU_MUL,
};
use super::launch::{GpuLauncher, Launch};
use super::ops::{Activations, DecodeContexts, Heads, Ops, Prefetch};
use super::source;
use super::tuning::{PREFETCH_BLOCKS, SKINNY_GEMM_MAX_TOKENS};
use crate::config::ModelConfig;
use crate::error::Error;
use crate::model::{HeadNorms, Linear};

/// See [`Ops`].
#[derive(Clone)]
pub(super) struct KernelOps<L> {
    pub(super) launcher: L,
    pub(super) heads: Heads,
    /// Maximum number of bytes of the next product's weights that a kernel prefetches.
    pub(super) fetch_ahead: i64,
}

impl KernelOps<GpuLauncher> {
    /// The kernels for a model's heads on the present GPU; each prefetches at most `fetch_ahead`
    /// bytes of the next product's weights.
    ///
    /// # Errors
    /// As [`GpuLauncher::new`].
    pub(super) fn on_gpu(heads: Heads, kv: KvKind, fetch_ahead: usize) -> Result<Self, Error> {
        let launcher = GpuLauncher::new(&heads, kv)?;
        let fetch_ahead = if launcher.can_prefetch { fetch_ahead } else { 0 };
        Ok(Self { launcher, heads, fetch_ahead: i64::try_from(fetch_ahead).unwrap_or(i64::MAX) })
    }
}

impl<L: Launch> KernelOps<L> {
    /// Checks the values of a kernel's parameters against its declaration and starts it.
    fn launch(
        &self,
        kernel: &Kernel,
        known: &[(Dim, i64)],
        values: &[ArgValue],
    ) -> Result<(), Error> {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = self.heads;
        let of_model = [
            (Dim::Heads, n_heads),
            (Dim::KvHeads, n_kv_heads),
            (Dim::HeadSize, head_dim),
            (Dim::QWidth, self.heads.q_width()),
            (Dim::QkvWidth, self.heads.qkv_width()),
        ];
        let dims = Dims::default().with(&of_model).with(known);
        match kernel.bind(dims, values) {
            Some((shape, args)) => self.launcher.launch(kernel.name, shape, &args),
            None => Ok(()),
        }
    }

    /// Starts the form of a kernel that writes activations of `n_rows` rows as `out` wants them,
    /// with blocks that prefetch a part of `next`.
    fn launch_form(
        &self,
        forms: &Forms,
        n_rows: i64,
        values: &[ArgValue],
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error> {
        let (kernel, outs) = match out {
            Activations::Plain(out) => (&forms.plain, vec![ArgValue::Tensor(out)]),
            Activations::Fp8(values, scale) => {
                (&forms.fp8, vec![ArgValue::Tensor(values), ArgValue::Tensor(scale)])
            }
        };
        let (weight, bytes_each) = self.prefetch(n_rows, next);
        let n_prefetchers = if bytes_each > 0 { PREFETCH_BLOCKS } else { 0 };
        let last = [ArgValue::Optional(weight), ArgValue::I32(bytes_each as i32)];
        let known = [(Dim::Prefetchers, n_prefetchers)];
        self.launch(kernel, &known, &[values, &outs, &last].concat())
    }

    /// The weights of the next product, and the bytes of them that each prefetching block asks for:
    /// none where there are no rows, or so many that they keep the GPU busy.
    fn prefetch<'a>(&self, n_rows: i64, next: Prefetch<'a>) -> (Option<&'a Tensor>, i64) {
        let has_time = (1..=SKINNY_GEMM_MAX_TOKENS).contains(&n_rows);
        let Some(Linear { weight, .. }) = next.filter(|_| has_time) else {
            return (None, 0);
        };
        let n_bytes = (weight.numel() * weight.kind().elt_size_in_bytes()) as i64;
        (Some(weight), n_bytes.min(self.fetch_ahead) / PREFETCH_BLOCKS / 16 * 16)
    }
}

impl<L: Launch> Ops for KernelOps<L> {
    fn rmsnorm_residual(
        &self,
        x: &Tensor,
        added: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error> {
        let values = [
            ArgValue::Tensor(x),
            ArgValue::Optional(added),
            ArgValue::Tensor(weight),
            ArgValue::F32(eps as f32),
        ];
        self.launch_form(&RMSNORM_RESIDUAL, x.size()[0], &values, out, next)
    }

    fn silu_mul(&self, gate_up: &Tensor, out: &Activations, next: Prefetch) -> Result<(), Error> {
        self.launch_form(&SILU_MUL, gate_up.size()[0], &[ArgValue::Tensor(gate_up)], out, next)
    }

    fn quantize(&self, x: &Tensor, out: &Activations) -> Result<(), Error> {
        match out {
            Activations::Plain(out) => Ok(out.shallow_clone().f_copy_(x)?),
            Activations::Fp8(values, scale) => self.launch(
                &QUANTIZE_ROWS,
                &[(Dim::Prefetchers, 0)],
                &[ArgValue::Tensor(x), ArgValue::Tensor(values), ArgValue::Tensor(scale)],
            ),
        }
    }

    fn rope_append(
        &self,
        qkv: &Tensor,
        positions: &Tensor,
        inv_freq: &Tensor,
        slots: &Tensor,
        norms: Option<&HeadNorms>,
        arena: &LayerArena,
    ) -> Result<(), Error> {
        let before = [qkv, positions, inv_freq, slots].map(ArgValue::Tensor);
        let norm_values = [
            ArgValue::Optional(norms.map(|norms| &norms.q)),
            ArgValue::Optional(norms.map(|norms| &norms.k)),
            ArgValue::F32(norms.map_or(0.0, |norms| norms.eps as f32)),
        ];
        let values = [&before[..], &norm_values, &arena_values(arena)].concat();
        self.launch(&ROPE_APPEND, &[], &values)
    }

    fn gather_kv(
        &self,
        arena: &LayerArena,
        slots: &Tensor,
        out: &[Tensor; 2],
    ) -> Result<(), Error> {
        let after = [slots, &out[0], &out[1]].map(ArgValue::Tensor);
        self.launch(&GATHER_KV, &[], &[&arena_values(arena)[..], &after].concat())
    }

    fn attend_decode(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        contexts: &DecodeContexts,
        partial: &Tensor,
        lse: &Tensor,
    ) -> Result<(), Error> {
        let attend = |kernel: &Kernel, which: [ArgValue; 2], n_splits: i64| {
            let known = [(Dim::Splits, n_splits), (Dim::AllSplits, contexts.n_all_splits())];
            let scale = ArgValue::F32(self.heads.scale as f32);
            let after = [scale, ArgValue::Tensor(partial), ArgValue::Tensor(lse)];
            let values = [
                &[ArgValue::Tensor(qkv)][..],
                &arena_values(arena),
                &[ArgValue::Tensor(&contexts.spans)],
                &which,
                &after,
            ];
            self.launch(kernel, &known, &values.concat())
        };
        let cascade = contexts.cascade.as_ref();
        let n_shared = cascade.map(|cascade| &cascade.n_shared);
        let which = [ArgValue::Tensor(&contexts.n_spans), ArgValue::Optional(n_shared)];
        attend(&ATTEND_DECODE, which, contexts.n_splits)?;
        match cascade {
            Some(cascade) => {
                let which = [&cascade.rows, &cascade.n_spans].map(ArgValue::Tensor);
                attend(&ATTEND_CASCADE, which, cascade.n_splits)
            }
            None => Ok(()),
        }
    }

    fn merge_splits(
        &self,
        partial: &Tensor,
        lse: &Tensor,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error> {
        let values = [ArgValue::Tensor(partial), ArgValue::Tensor(lse)];
        self.launch_form(&MERGE_SPLITS, lse.size()[0], &values, out, next)
    }

    fn gemm_w8a8_skinny(
        &self,
        linear: &Linear,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let weight_scale = linear.scale.as_ref();
        let weight_scale =
            weight_scale.expect("only FP8 matrices are given FP8 inputs. This is a bug.");
        let sides = linear.weight.size();
        let n = values.size()[0];
        let kernel = match n {
            0 => return Ok(()),
            1..=8 => &GEMM_W8A8_SKINNY_8,
            9..=16 => &GEMM_W8A8_SKINNY_16,
            17..=32 => &GEMM_W8A8_SKINNY_32,
            33..=SKINNY_GEMM_MAX_TOKENS => &GEMM_W8A8_SKINNY_64,
            _ => panic!("a skinny GEMM of {n} tokens. This is a bug."),
        };
        let is_aligned = sides.iter().all(|side| side % 16 == 0);
        assert!(is_aligned, "{}: a matrix of {sides:?}. This is a bug.", kernel.name);
        let values = [
            ArgValue::Tensor(&linear.weight),
            ArgValue::Tensor(weight_scale),
            ArgValue::Tensor(values),
            ArgValue::Tensor(scale),
            ArgValue::Optional(linear.bias.as_ref()),
            ArgValue::Tensor(out),
        ];
        self.launch(kernel, &[], &values)
    }

    fn sample(&self, logits: &Tensor, draws: &Tensor, drawn: &Tensor) -> Result<(), Error> {
        self.launch(&SAMPLE, &[], &[logits, draws, drawn].map(ArgValue::Tensor))
    }
}

/// Keys and values of a layer and their scales, as four parameters.
fn arena_values(arena: &LayerArena) -> [ArgValue<'_>; 4] {
    let scales = arena.scales.as_ref();
    [
        ArgValue::Tensor(&arena.keys),
        ArgValue::Tensor(&arena.values),
        ArgValue::Optional(scales.map(|[keys, _]| keys)),
        ArgValue::Optional(scales.map(|[_, values]| values)),
    ]
}

/// Refuses models of other widths and heads than the kernels are written for.
///
/// # Errors
/// [`Error::Unsupported`]
pub(crate) fn check_model(config: &ModelConfig, kv: KvKind) -> Result<(), Error> {
    let heads = buffers::heads(config);
    let widths = [
        ("hidden_size", config.hidden_size as i64),
        ("heads times head_dim", heads.q_width()),
        ("intermediate_size", config.intermediate_size as i64),
    ];
    let odd = widths.iter().find(|(_, width)| width % 8 != 0);
    let odd = odd.map(|(name, width)| format!("{name} {width} (wanted a multiple of 8)"));
    let wide = widths[..2].iter().find(|(_, width)| *width > MAX_SHARED_WIDTH);
    let wide =
        wide.map(|(name, width)| format!("{name} {width} (wanted at most {MAX_SHARED_WIDTH})"));
    match odd.or(wide) {
        Some(width) => Err(Error::Unsupported {
            what: format!("{width} on the GPU's kernels"),
            advice: Some(source::WITHOUT_KERNELS),
        }),
        None => source::files(&heads, kv).map(|_| ()),
    }
}
