//! The operations by the kernels of `engine/kernels`: which one, with how many threads, on what.
//!
//! Each file says there what its kernels take; here is checked that they get it. How a kernel is
//! started is known elsewhere: on the GPU by `launch`, in tests by an emulator on the CPU.

use tch::{Kind, Tensor};

use super::arena::{KvKind, LayerArena};
use super::buffers;
use super::launch::{Launch, OnGpu};
use super::ops::{Activations, Contexts, Heads, MOST_FEW, Next, Ops};
use super::sharing::BUNDLE_ROWS;
use super::source;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::ffi::cuda::{Arg, Shape};
use crate::model::Linear;

/// See [`Ops`].
#[derive(Clone)]
pub(super) struct Kernels<L> {
    pub(super) launcher: L,
    pub(super) heads: Heads,
    /// Most bytes of the next product's weights that a kernel fetches.
    pub(super) fetch_ahead: i64,
}

impl Kernels<OnGpu> {
    /// The kernels for a model's heads on the GPU that is there; each fetches at most `fetch_ahead` bytes
    /// of the next product's weights.
    ///
    /// # Errors
    /// As [`OnGpu::new`].
    pub(super) fn on_gpu(heads: Heads, kv: KvKind, fetch_ahead: usize) -> Result<Self, Error> {
        let launcher = OnGpu::new(&heads, kv)?;
        let fetch_ahead = if launcher.can_fetch { fetch_ahead } else { 0 };
        Ok(Self { launcher, heads, fetch_ahead: i64::try_from(fetch_ahead).unwrap_or(i64::MAX) })
    }
}

/// Widest row that the kernels keep in a block's shared memory, beside what they need themselves.
const MAX_SHARED_WIDTH: i64 = 12_224;

/// Threads of a block that takes eight values each of a row at a time.
fn row_block(width: i64) -> u32 {
    let eights = (width as u32).div_ceil(8);
    // where one turn is not enough, as few turns as possible, of equal length
    let turns = eights.div_ceil(1_024).max(1);
    eights.div_ceil(turns).next_multiple_of(32).min(1_024)
}

fn check(tensor: &Tensor, kind: Kind, name: &str) {
    assert!(
        tensor.kind() == kind && tensor.is_contiguous(),
        "a kernel's `{name}` is a contiguous tensor of {kind:?}. This is a bug."
    );
}

impl<L: Launch> Kernels<L> {
    /// One block a row.
    fn rows(
        &self,
        kernel: &str,
        n_rows: i64,
        block: u32,
        shared: i64,
        args: &[Arg],
    ) -> Result<(), Error> {
        if n_rows == 0 {
            return Ok(());
        }
        let shape = Shape { grid: [n_rows as u32, 1, 1], block, shared: shared as u32 };
        self.launcher.launch(kernel, shape, args)
    }

    /// Starts the form of a kernel that writes activations as they are wanted, one block a row and some
    /// that fetch what comes next.
    fn write(
        &self,
        kernel: &str,
        out: &Activations,
        [n_rows, width]: [i64; 2],
        shared: i64,
        args: &[Arg],
        next: Next,
    ) -> Result<(), Error> {
        let mut args = args.to_vec();
        let kernel = match out {
            Activations::Plain(out) => {
                check(out, Kind::BFloat16, "out");
                assert_eq!(out.size(), [n_rows, width], "the output's shape. This is a bug.");
                args.push(Arg::tensor(out));
                kernel.to_owned()
            }
            Activations::Fp8(values, scale) => {
                check(values, Kind::Float8e4m3fn, "out");
                check(scale, Kind::Float, "scale");
                assert_eq!(values.size(), [n_rows, width], "the output's shape. This is a bug.");
                assert_eq!(scale.size(), [n_rows], "the scales' shape. This is a bug.");
                args.extend([Arg::tensor(values), Arg::tensor(scale)]);
                format!("{kernel}_quantize")
            }
        };
        let (weights, bytes_each) = self.ahead(n_rows, next);
        args.extend([Arg::I32(n_rows as i32), weights, Arg::I32(bytes_each as i32)]);
        let n_blocks = if bytes_each > 0 { n_rows + FETCHING_BLOCKS } else { n_rows };
        self.rows(&kernel, n_blocks, row_block(width), shared, &args)
    }

    /// The weights of the next product, and how many bytes of them each fetching block asks for: none
    /// where rows are none, or so many that they keep the GPU busy.
    fn ahead(&self, n_rows: i64, next: Next) -> (Arg, i64) {
        let Some(Linear { weight, .. }) = next.filter(|_| (1..=MOST_FEW).contains(&n_rows)) else {
            return (Arg::NULL, 0);
        };
        let n_bytes = (weight.numel() * weight.kind().elt_size_in_bytes()) as i64;
        let each = n_bytes.min(self.fetch_ahead) / FETCHING_BLOCKS / 16 * 16;
        (Arg::tensor(weight), each)
    }
}

/// Blocks beside those of the rows, about one a multiprocessor.
const FETCHING_BLOCKS: i64 = 128;

impl<L: Launch> Ops for Kernels<L> {
    fn add_norm(
        &self,
        x: &Tensor,
        more: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
        out: &Activations,
        next: Next,
    ) -> Result<(), Error> {
        let (n_rows, width) = (x.size()[0], x.size()[1]);
        check(x, Kind::Float, "x");
        check(weight, Kind::BFloat16, "weight");
        if let Some(more) = more {
            check(more, Kind::BFloat16, "more");
            assert_eq!(more.size(), x.size(), "what is added has x's shape. This is a bug.");
        }
        let args = [
            Arg::tensor(x),
            more.map_or(Arg::NULL, Arg::tensor),
            Arg::tensor(weight),
            Arg::F32(eps as f32),
            Arg::I32(width as i32),
        ];
        self.write("add_norm", out, [n_rows, width], 4 * width, &args, next)
    }

    fn gate(&self, gate_up: &Tensor, out: &Activations, next: Next) -> Result<(), Error> {
        let (n_rows, width) = (gate_up.size()[0], gate_up.size()[1] / 2);
        check(gate_up, Kind::BFloat16, "gate_up");
        let args = [Arg::tensor(gate_up), Arg::I32(width as i32)];
        self.write("gate", out, [n_rows, width], 0, &args, next)
    }

    fn quantize(&self, x: &Tensor, out: &Activations) -> Result<(), Error> {
        let (n_rows, width) = (x.size()[0], x.size()[1]);
        check(x, Kind::BFloat16, "x");
        let Activations::Fp8(values, scale) = out else {
            let Activations::Plain(out) = out else { return Ok(()) };
            out.shallow_clone().f_copy_(x)?;
            return Ok(());
        };
        check(values, Kind::Float8e4m3fn, "out");
        check(scale, Kind::Float, "scale");
        let args = [
            Arg::tensor(x),
            Arg::I64(width),
            Arg::I32(width as i32),
            Arg::tensor(values),
            Arg::tensor(scale),
        ];
        self.rows("quantize_rows", n_rows, row_block(width), 0, &args)
    }

    fn rope_append(
        &self,
        qkv: &Tensor,
        positions: &Tensor,
        inv_freq: &Tensor,
        slots: &Tensor,
        arena: &LayerArena,
    ) -> Result<(), Error> {
        const HEADS_A_BLOCK: u32 = 4;
        check(qkv, Kind::BFloat16, "qkv");
        check(positions, Kind::Int, "positions");
        check(inv_freq, Kind::Float, "inv_freq");
        check(slots, Kind::Int, "slots");
        let n_rows = qkv.size()[0];
        assert_eq!(
            [positions.size()[0], slots.size()[0]],
            [n_rows; 2],
            "one a row. This is a bug."
        );
        if n_rows == 0 {
            return Ok(());
        }
        let Heads { n_heads, n_kv_heads, .. } = self.heads;
        let n_all = (n_heads + 2 * n_kv_heads) as u32;
        let shape = Shape {
            grid: [n_rows as u32, n_all.div_ceil(HEADS_A_BLOCK), 1],
            block: 32 * HEADS_A_BLOCK,
            shared: 0,
        };
        let [key_scales, value_scales] = scale_args(arena);
        self.launcher.launch(
            "rope_append",
            shape,
            &[
                Arg::tensor(qkv),
                Arg::tensor(positions),
                Arg::tensor(inv_freq),
                Arg::tensor(slots),
                Arg::I32(n_heads as i32),
                Arg::I32(n_kv_heads as i32),
                Arg::tensor(&arena.keys),
                Arg::tensor(&arena.values),
                key_scales,
                value_scales,
            ],
        )
    }

    fn gather(&self, arena: &LayerArena, slots: &Tensor, out: &[Tensor; 2]) -> Result<(), Error> {
        check(slots, Kind::Int, "slots");
        let Heads { n_kv_heads, head_dim, .. } = self.heads;
        let n_slots = slots.size()[0];
        for out in out {
            check(out, Kind::BFloat16, "out");
            assert_eq!(out.size(), [n_slots, n_kv_heads, head_dim], "This is a bug.");
        }
        let [key_scales, value_scales] = scale_args(arena);
        let args = [
            Arg::tensor(&arena.keys),
            Arg::tensor(&arena.values),
            key_scales,
            value_scales,
            Arg::tensor(slots),
            Arg::I32(n_kv_heads as i32),
            Arg::tensor(&out[0]),
            Arg::tensor(&out[1]),
        ];
        self.rows("gather", n_slots, row_block(n_kv_heads * head_dim), 0, &args)
    }

    fn attend(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        contexts: &Contexts,
        partial: &Tensor,
        lse: &Tensor,
    ) -> Result<(), Error> {
        check(qkv, Kind::BFloat16, "qkv");
        check(&contexts.spans, Kind::Int, "spans");
        check(&contexts.n_spans, Kind::Int, "n_spans");
        check(partial, Kind::Float, "partial");
        check(lse, Kind::Float, "lse");
        let (n_rows, n_splits) = (contexts.n_spans.size()[0], contexts.n_splits);
        let n_all_splits = contexts.n_all_splits();
        let Heads { n_heads, n_kv_heads, head_dim } = self.heads;
        assert!(qkv.size()[0] >= n_rows, "a query a row. This is a bug.");
        assert_eq!(partial.size(), [n_rows, n_all_splits, n_heads * head_dim], "This is a bug.");
        assert_eq!(lse.size(), [n_rows, n_all_splits, n_heads], "This is a bug.");
        if n_rows == 0 {
            return Ok(());
        }
        let shape = Shape {
            grid: [n_rows as u32, n_kv_heads as u32, n_splits as u32],
            block: 128,
            shared: 0,
        };
        let [key_scales, value_scales] = scale_args(arena);
        let args = |which: &[Arg], n_splits: i64| {
            let before = [
                Arg::tensor(qkv),
                Arg::I64(self.heads.qkv_width()),
                Arg::tensor(&arena.keys),
                Arg::tensor(&arena.values),
                key_scales,
                value_scales,
                Arg::tensor(&contexts.spans),
            ];
            let after = [
                Arg::I32(contexts.spans.size()[1] as i32),
                Arg::I32(n_kv_heads as i32),
                Arg::I32(n_splits as i32),
                Arg::I32(n_all_splits as i32),
                Arg::F32(1.0 / (head_dim as f32).sqrt()),
                Arg::tensor(partial),
                Arg::tensor(lse),
            ];
            [&before, which, &after].concat()
        };
        let n_shared = contexts.shared.as_ref().map(|shared| Arg::tensor(&shared.n_shared));
        let which = [Arg::tensor(&contexts.n_spans), n_shared.unwrap_or(Arg::NULL)];
        self.launcher.launch("attend", shape, &args(&which, n_splits))?;
        let Some(shared) = &contexts.shared else { return Ok(()) };
        check(&shared.n_shared, Kind::Int, "n_shared");
        check(&shared.rows, Kind::Int, "rows");
        check(&shared.n_spans, Kind::Int, "n_spans");
        let n_bundles = shared.n_spans.size()[0];
        assert_eq!(shared.rows.size(), [n_bundles, BUNDLE_ROWS as i64], "This is a bug.");
        if n_bundles == 0 {
            return Ok(());
        }
        // a warp has two rows, or one with more than eight query heads a key/value head
        let warp_rows = if n_heads / n_kv_heads <= 8 { 2 } else { 1 };
        let shape = Shape {
            grid: [n_bundles as u32, n_kv_heads as u32, shared.n_splits as u32],
            block: 32 * BUNDLE_ROWS as u32 / warp_rows,
            shared: 0,
        };
        let which = [Arg::tensor(&shared.rows), Arg::tensor(&shared.n_spans)];
        self.launcher.launch("attend_shared", shape, &args(&which, shared.n_splits))
    }

    fn merge(
        &self,
        partial: &Tensor,
        lse: &Tensor,
        out: &Activations,
        next: Next,
    ) -> Result<(), Error> {
        check(partial, Kind::Float, "partial");
        check(lse, Kind::Float, "lse");
        let (n_rows, width) = (lse.size()[0], self.heads.q_width());
        let args = [
            Arg::tensor(partial),
            Arg::tensor(lse),
            Arg::I32(lse.size()[1] as i32),
            Arg::I32(width as i32),
        ];
        self.write("merge", out, [n_rows, width], 4 * width, &args, next)
    }

    fn few_product(
        &self,
        linear: &Linear,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let own = linear.scale.as_ref();
        let own = own.expect("only FP8 matrices are given FP8 inputs. This is a bug.");
        let (n_out, width) = (linear.weight.size()[0], linear.weight.size()[1]);
        let n = values.size()[0];
        check(&linear.weight, Kind::Float8e4m3fn, "weight");
        check(own, Kind::Float, "weight_scale");
        check(values, Kind::Float8e4m3fn, "x");
        check(scale, Kind::Float, "x_scale");
        check(out, Kind::BFloat16, "out");
        if let Some(bias) = &linear.bias {
            check(bias, Kind::BFloat16, "bias");
        }
        assert!(n <= MOST_FEW && n_out % 16 == 0 && width % 16 == 0, "This is a bug.");
        assert_eq!((values.size(), out.size()), (vec![n, width], vec![n, n_out]), "This is a bug.");
        assert_eq!(own.numel() as i64, n_out, "a scale a row. This is a bug.");
        // tokens in tiles of 8, and output channels of a block
        let (kernel, channels) = match n {
            0 => return Ok(()),
            1..=8 => ("few_product_1", 16),
            9..=16 => ("few_product_2", 16),
            17..=32 => ("few_product_4", 32),
            _ => ("few_product_8", 32),
        };
        let grid = [(n_out as u32).div_ceil(channels), 1, 1];
        self.launcher.launch(
            kernel,
            Shape { grid, block: 192, shared: 0 },
            &[
                Arg::tensor(&linear.weight),
                Arg::tensor(own),
                Arg::tensor(values),
                Arg::tensor(scale),
                linear.bias.as_ref().map_or(Arg::NULL, Arg::tensor),
                Arg::I32(n as i32),
                Arg::I32(width as i32),
                Arg::I32(n_out as i32),
                Arg::tensor(out),
            ],
        )
    }

    fn sample(&self, logits: &Tensor, draws: &Tensor, drawn: &Tensor) -> Result<(), Error> {
        check(logits, Kind::BFloat16, "logits");
        check(draws, Kind::Double, "draws");
        check(drawn, Kind::Double, "drawn");
        let (n_rows, vocab) = (logits.size()[0], logits.size()[1]);
        assert_eq!(
            (draws.size(), drawn.size()),
            (vec![4, n_rows], vec![2, n_rows]),
            "This is a bug."
        );
        let args = [
            Arg::tensor(logits),
            Arg::I32(vocab as i32),
            Arg::I32(n_rows as i32),
            Arg::tensor(draws),
            Arg::tensor(drawn),
        ];
        self.rows("sample", n_rows, 1_024, 0, &args)
    }
}

fn scale_args(arena: &LayerArena) -> [Arg; 2] {
    match &arena.scales {
        Some([keys, values]) => [Arg::tensor(keys), Arg::tensor(values)],
        None => [Arg::NULL; 2],
    }
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
        ("vocab_size", config.vocab_size as i64),
    ];
    let odd = widths.iter().find(|(_, width)| width % 8 != 0);
    let odd = odd.map(|(name, width)| format!("{name} {width} is no multiple of 8"));
    let wide = widths[..2].iter().find(|(_, width)| *width > MAX_SHARED_WIDTH);
    let wide = wide.map(|(name, width)| format!("{name} {width} is more than {MAX_SHARED_WIDTH}"));
    match odd.or(wide) {
        Some(reason) => Err(Error::Unsupported {
            what: format!("the GPU kernels: {reason}; set gpu_kernels = false"),
        }),
        None => source::files(&heads, kv).map(|_| ()),
    }
}
