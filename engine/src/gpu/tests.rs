//! The kernels, run by an emulator, against the reference operations; whole batches against the plain
//! decoder; and every kernel through CUDA's compiler.

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::arena::KvKind;
use super::batch::GpuBatch;
use super::cascade::CascadePlan;
use super::emulator::{self, EmulatorLauncher};
use super::forward::{GpuRunner, GpuSettings};
use super::kernel_ops::KernelOps;
use super::launch::{Launch, architecture, compile};
use super::measure::stage::values;
use super::measure::{MeasureSizes, measure_on_cpu};
use super::ops::{Activations, Heads, Ops};
use super::reference::ReferenceOps;
use super::source;
use super::tuning::{graph_rows, n_splits};
use crate::batch::{Batch, Row};
use crate::config::ModelConfig;
use crate::config::examples::tiny;
use crate::error::Error;
use crate::ffi::cuda::{Arg, Shape};
use crate::ffi::nvrtc;
use crate::fp8::{quantize, quantize_tokens};
use crate::kv::{Slot, Span};
use crate::model::{Decoder, Linear, Precision};

mod attention;
mod engine;

const CPU: Device = Device::Cpu;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 304,
        hidden_size: 64,
        intermediate_size: 96,
        head_dim: 16,
        max_position: 512,
        tie_word_embeddings: false,
        ..tiny()
    }
}

const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 16 };

fn bf16(x: &Tensor) -> Tensor {
    x.to_kind(Kind::BFloat16)
}

fn randn(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, CPU))
}

/// Empty activations of both forms.
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

/// A matrix in bf16.
fn plain(weight: &Tensor) -> Linear {
    Linear { weight: bf16(weight), scale: None, bias: None }
}

/// Fails where a few values more than a rounding apart, or any more than a step of the format.
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

/// A runner that is smaller than what it is given, so that it has to grow.
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

fn check_row_kernels(kernels: &dyn Ops, reference: &dyn Ops) {
    for (n, width) in [(0, 64), (1, 64), (3, 8), (5, 96), (2, 5_120), (65, 64)] {
        let next = (width > 8).then(|| plain(&randn(&[48, width])));
        let (x, more) = (randn(&[n, width]), bf16(&randn(&[n, width])));
        let weight = bf16(&(randn(&[width]) + 1.0));
        for more in [None, Some(&more)] {
            for (seen, wanted) in outs(n, width).iter().zip(&outs(n, width)) {
                let (a, b) = (x.copy(), x.copy());
                kernels.rmsnorm_residual(&a, more, &weight, 1e-6, seen, next.as_ref()).unwrap();
                reference.rmsnorm_residual(&b, more, &weight, 1e-6, wanted, None).unwrap();
                assert!(a.equal(&b), "the residual");
                check_close(seen, wanted, "rmsnorm_residual");
            }
        }
        let gate_up = bf16(&(randn(&[n, 2 * width]) * 3.0));
        for (seen, wanted) in outs(n, width).iter().zip(&outs(n, width)) {
            kernels.silu_mul(&gate_up, seen, next.as_ref()).unwrap();
            reference.silu_mul(&gate_up, wanted, None).unwrap();
            check_close(seen, wanted, "gate");
            kernels.quantize(&more, seen).unwrap();
            reference.quantize(&more, wanted).unwrap();
            check_close(seen, wanted, "quantize");
        }
    }
}

/// Forks of one long prompt and a stranger, each decoding a token: with what they share read once, and without.
fn check_shared_batches(kv: KvKind, ops: impl Fn() -> Box<dyn Ops>) {
    let model = Decoder::random(&config(), Seed(5), CPU, Kind::BFloat16);
    let prompt: Vec<u32> = (0..16 * 17).map(|at| (at * 29 + 5) % 304).collect();
    let shared: Vec<(u32, u32)> = (0..17).map(|block| (block, 16)).collect();
    let mut first = Batch::default();
    push(&mut first, &prompt, 0, &shared);
    push(&mut first, &[7, 8, 9], 0, &[(17, 3)]);
    let mut second = Batch::default();
    for fork in 0..3 {
        push(&mut second, &[fork + 40], prompt.len(), &[&shared[..], &[(18 + fork, 1)]].concat());
    }
    push(&mut second, &[200], 3, &[(17, 4)]);
    let sharing = CascadePlan::of(&GpuBatch::new(&second).decoding).unwrap();
    assert_eq!((sharing.n_shared, sharing.n_spans), (vec![17, 17, 17, 0], vec![17]));
    let logits = [true, false].map(|shared_attention| {
        let settings = settings(24, kv, shared_attention);
        let mut runner = GpuRunner::with_ops(&model, &settings, ops()).unwrap();
        let _ = runner.forward(&model, &first).unwrap();
        runner.forward(&model, &second).unwrap().to_kind(Kind::Float).copy()
    });
    let off = ((&logits[0] - &logits[1]).norm() / logits[1].norm()).double_value(&[]);
    assert!(off < 0.01, "{kv:?}: {off}");
}

fn check_sampler(kernels: &dyn Ops, reference: &dyn Ops) {
    let n = 24;
    let logits = bf16(&(randn(&[n, 304]) * 4.0));
    let of = |values: &[f64]| -> Vec<f64> {
        (0..n as usize).map(|r| values[r % values.len()]).collect()
    };
    let draws = |top_p: &[f64], top_k: &[f64]| {
        let uniform = Tensor::rand([1, n], (Kind::Double, CPU));
        let given = [of(&[0.0, 1.0, 0.6, 2.0]), of(top_p), of(top_k)].concat();
        Tensor::cat(&[Tensor::from_slice(&given).view([3, n]), uniform], 0)
    };
    let drawn = |ops: &dyn Ops, draws: &Tensor| {
        let drawn = Tensor::full([2, n], f64::NAN, (Kind::Double, CPU));
        ops.sample(&logits, draws, &drawn).unwrap();
        [0, 1].map(|which| Vec::<f64>::try_from(drawn.get(which)).unwrap())
    };
    // unfiltered, or one token left: both draw in token order
    for (top_p, top_k) in [([1.0, 1.0], [0.0, 0.0]), ([1.0, 1e-6], [1.0, 0.0])] {
        let draws = draws(&top_p, &top_k);
        let ([tokens, logprobs], wanted) = (drawn(kernels, &draws), drawn(reference, &draws));
        assert_eq!(tokens, wanted[0]);
        for (a, b) in logprobs.iter().zip(&wanted[1]) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
    // filtered: the kernel draws in token order from the same set, which is checked against a sort
    let draws = draws(&[0.9, 0.5, 1.0], &[0.0, 20.0, 5.0, 3.0]);
    let [tokens, _] = drawn(kernels, &draws);
    let number = |which: i64, row: usize| draws.double_value(&[which, row as i64]);
    for (row, &token) in tokens.iter().enumerate().filter(|(row, _)| row % 4 != 0) {
        let weights = (logits.get(row as i64).to_kind(Kind::Double) / number(0, row))
            .softmax(-1, Kind::Double);
        let weights = Vec::<f64>::try_from(weights).unwrap();
        let mut order: Vec<usize> = (0..304).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let top_k = number(2, row) as usize;
        order.truncate(if top_k == 0 { 304 } else { top_k });
        let total: f64 = order.iter().map(|&at| weights[at]).sum();
        let mut sum = 0.0;
        let n_kept = order.iter().position(|&at| {
            sum += weights[at];
            sum >= number(1, row) * total
        });
        let mut kept = order[..=n_kept.unwrap_or(order.len() - 1)].to_vec();
        kept.sort_unstable();
        let total: f64 = kept.iter().map(|&at| weights[at]).sum();
        let mut sum = 0.0;
        let wanted = kept.iter().find(|&&at| {
            sum += weights[at];
            sum > number(3, row) * total
        });
        assert_eq!(token as usize, *wanted.unwrap(), "row {row}");
    }
    let broken = logits.get(1).copy();
    let _ = broken.narrow(0, 5, 1).fill_(f64::NAN);
    logits.get(1).copy_(&broken);
    assert!(!drawn(kernels, &draws)[1][1].is_finite());
}

#[test]
fn an_engine_on_the_kernels_says_what_the_plain_one_says() {
    for kv in [KvKind::Bf16, KvKind::Fp8] {
        engine::check(kv);
    }
}

#[test]
fn kernels_compute_what_their_twins_do() {
    tch::manual_seed(7);
    for (kv, backwards) in [(KvKind::Bf16, false), (KvKind::Fp8, true)] {
        let kernels = emulator::kernels(HEADS, kv, backwards);
        let reference = ReferenceOps { heads: HEADS };
        check_row_kernels(&kernels, &reference);
        attention::check(&kernels, &reference, HEADS, kv);
        check_sampler(&kernels, &reference);
        check_few_products(&kernels, &reference);
        check_batches(kv, || Box::new(kernels.clone()));
        check_shared_batches(kv, || Box::new(kernels.clone()));
        check_measurement(kv, &kernels);
        check_batches(kv, || Box::new(ReferenceOps { heads: HEADS }));
    }
    // one and two tiles of query heads; loads of a few bytes to several of 16
    let shapes = [(5, 1, 128), (14, 2, 64), (12, 1, 32), (9, 1, 256)];
    for (n_heads, n_kv_heads, head_dim) in shapes {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        for (kv, backwards) in [(KvKind::Bf16, true), (KvKind::Fp8, false)] {
            let kernels = emulator::kernels(heads, kv, backwards);
            attention::check(&kernels, &ReferenceOps { heads }, heads, kv);
        }
    }
}

/// Three sequences that begin alike, and one that does not, over two steps: prompts, then a mixture of
/// decoding and a prompt's second chunk. All tokens' logits against the plain decoder's.
fn check_batches(kv: KvKind, ops: impl Fn() -> Box<dyn Ops>) {
    let config = config();
    let plain = Decoder::random(&config, Seed(3), CPU, Kind::BFloat16);
    let fp8 = Precision { kind: Kind::BFloat16, fp8_layers: true, fp8_head: false };
    let mixed = Precision { fp8_head: true, ..fp8 };
    for precision in [Kind::BFloat16.into(), fp8, mixed] {
        let model = plain.duplicate(CPU, precision).unwrap();
        let settings = settings(12, kv, true);
        let mut runner = GpuRunner::with_ops(&model, &settings, ops()).unwrap();
        let prompt: Vec<u32> = (0..37).map(|at| (at * 29 + 5) % 304).collect();
        let other: Vec<u32> = (0..9).map(|at| (at * 53 + 11) % 304).collect();
        let mut first = Batch::default();
        push(&mut first, &prompt[..20], 0, &[(0, 16), (1, 4)]);
        push(&mut first, &other, 0, &[(4, 9)]);
        let mut second = Batch::default();
        let shared = [(0, 16), (1, 4)];
        let longer = [&shared[..], &[(2, 1)]].concat();
        // a fork of the prompt, its next chunk behind a cut block, and the other sequence
        push(&mut second, &[17], 20, &longer);
        push(&mut second, &prompt[20..], 20, &[&shared[..], &[(3, 16), (5, 1)]].concat());
        push(&mut second, &[200], 9, &[(4, 10)]);
        let seen = [first, second].map(|batch| {
            let logits = runner.forward(&model, &batch).unwrap();
            logits.to_kind(Kind::Float).copy()
        });
        let wanted = |tokens: &[u32]| {
            let _guard = tch::no_grad_guard();
            let ids: Vec<i64> = tokens.iter().map(|&id| i64::from(id)).collect();
            let hidden =
                model.hidden(&Tensor::from_slice(&ids).unsqueeze(0), Kind::BFloat16).unwrap();
            model.logits(&hidden.squeeze_dim(0)).unwrap()
        };
        let fork = wanted(&[&prompt[..20], &[17]].concat()).narrow(0, 20, 1);
        let (whole, rest) = (wanted(&prompt), wanted(&[&other[..], &[200]].concat()));
        let wanted = [
            Tensor::cat(&[whole.narrow(0, 0, 20), rest.narrow(0, 0, 9)], 0),
            Tensor::cat(&[fork, whole.narrow(0, 20, 17), rest.narrow(0, 9, 1)], 0),
        ];
        // the plain decoder rounds to bf16 in more places; FP8 of keys and values adds its own
        let bound = if kv == KvKind::Fp8 { 0.08 } else { 0.04 };
        for (seen, wanted) in seen.iter().zip(&wanted) {
            let off = ((seen - wanted).norm() / wanted.norm()).double_value(&[]);
            assert!(off < bound, "{precision:?} {kv:?}: {off}");
        }
    }
}

/// Products of up to 64 tokens, with and without a bias, at widths that fill no whole turn.
fn check_few_products(kernels: &dyn Ops, reference: &dyn Ops) {
    for (n, width, n_out) in [(1, 64, 48), (8, 80, 16), (9, 1_552, 64), (17, 96, 304), (64, 48, 80)]
    {
        for has_bias in [false, true] {
            let weight = randn(&[n_out, width]) * (randn(&[n_out, 1]) * 2.0).exp();
            let quantized = quantize("w", &weight).unwrap();
            let linear = Linear {
                weight: quantized.values,
                scale: Some(quantized.scale),
                bias: has_bias.then(|| bf16(&randn(&[n_out]))),
            };
            let x = quantize_tokens(&(randn(&[n, width]) * (randn(&[n, 1]) * 2.0).exp())).unwrap();
            let product = |ops: &dyn Ops| {
                let out = Tensor::full([n, n_out], f64::NAN, (Kind::BFloat16, CPU));
                ops.gemm_w8a8_skinny(&linear, &x.values, &x.scale.view([-1]), &out).unwrap();
                Activations::Plain(out)
            };
            check_close(&product(kernels), &product(reference), "few tokens");
        }
    }
}

/// What `joust bench gpu` reports, of kernels that are right and of one that is not.
fn check_measurement(kv: KvKind, kernels: &KernelOps<EmulatorLauncher>) {
    let sizes = MeasureSizes { rows: vec![1, 3], context: 40, kv_fp8: kv == KvKind::Fp8, reps: 1 };
    let measured = measure_on_cpu(&config(), kernels, &sizes);
    let wrong: Vec<_> = measured.iter().filter(|part| !part.is_good()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let compared = measured.iter().filter(|part| part.is_right.is_some());
    // one part is only there for more than one row
    assert_eq!((measured.len(), compared.count()), (2 * 27 + 1, 2 * 21 + 1));
    assert!(measured.iter().all(|part| part.us > 0.0));
    let forgetful =
        KernelOps { launcher: Forgetful(kernels.launcher.clone()), heads: HEADS, fetch_ahead: 0 };
    let forgotten = measure_on_cpu(&config(), &forgetful, &sizes);
    let wrong = forgotten.iter().filter(|part| part.is_right == Some(false));
    assert!(wrong.map(|part| &part.part[..]).eq(["silu_mul to bf16", "silu_mul to fp8"].repeat(2)));
    // one that fails takes its own parts with it, and no others
    let launcher = Failing(kernels.launcher.clone());
    let failing = KernelOps { launcher, heads: HEADS, fetch_ahead: 0 };
    let failed = measure_on_cpu(&config(), &failing, &sizes);
    let bad = failed.iter().filter(|part| !part.is_good());
    assert!(bad.map(|part| &part.part[..]).eq(["sampling", "sampling"]));
    assert_eq!(failed.len(), measured.len() - 2 * 2 + 2);
}

/// A launcher that fails at one kernel.
struct Failing(EmulatorLauncher);

impl Launch for Failing {
    fn launch(&self, kernel: &str, shape: Shape, args: &[Arg]) -> Result<(), Error> {
        match kernel {
            "sample" => Err(Error::Device("out of order".to_owned())),
            _ => self.0.launch(kernel, shape, args),
        }
    }
}

/// A launcher that forgets one kernel.
struct Forgetful(EmulatorLauncher);

impl Launch for Forgetful {
    fn launch(&self, kernel: &str, shape: Shape, args: &[Arg]) -> Result<(), Error> {
        match kernel.starts_with("silu_mul") {
            true => Ok(()),
            false => self.0.launch(kernel, shape, args),
        }
    }
}

/// Adds the tokens of a sequence from `position` on, all of them wanted.
fn push(batch: &mut Batch, tokens: &[u32], position: usize, spans: &[(u32, u32)]) {
    let start = batch.tokens.len();
    let slots =
        spans.iter().flat_map(|&(block, n)| (0..n).map(move |offset| Slot { block, offset }));
    batch.slots.extend(slots.skip(position).take(tokens.len()));
    batch.tokens.extend(tokens);
    batch.positions.extend(position..position + tokens.len());
    let spans = spans.iter().map(|&(block, n_tokens)| Span { block, n_tokens });
    batch.rows.push(Row { start, len: tokens.len(), position, spans: spans.collect() });
    batch.wanted.extend(start..start + tokens.len());
}

#[test]
fn decoding_rows_come_first_and_wanted_tokens_are_found_again() {
    let mut batch = Batch::default();
    push(&mut batch, &[1, 2, 3], 0, &[(0, 3)]);
    push(&mut batch, &[4], 17, &[(1, 16), (2, 2)]);
    push(&mut batch, &[5], 2, &[(3, 3)]);
    let table = GpuBatch::new(&batch);
    assert_eq!(table.tokens, [4, 5, 1, 2, 3]);
    assert_eq!(table.positions, [17, 2, 0, 1, 2]);
    assert_eq!(table.slots, [33, 50, 0, 1, 2]);
    assert_eq!(table.decoding, [vec![1 << 5 | 16, 2 << 5 | 2], vec![3 << 5 | 3]]);
    assert_eq!(table.wanted, [2, 3, 4, 0, 1]);
    assert!(!table.is_plain_decode());
    batch.rows.remove(0);
    assert_eq!(GpuBatch::new(&batch).decoding.len(), 2);
}

#[test]
fn batches_are_filled_up_to_few_sizes() {
    let sizes: std::collections::BTreeSet<usize> = (1..=256).map(graph_rows).collect();
    assert!(sizes.len() < 30 && (1..=256).all(|n| (n..n + 16).contains(&graph_rows(n))));
    assert!((1..=256).all(|n| graph_rows(graph_rows(n)) == graph_rows(n)));
    // a small batch gives almost every one of a large GPU's 132 multiprocessors something to do
    assert!((1..=256).all(|n| n * n_splits(n) * 8 >= 128));
}

#[test]
fn cudas_compiler_takes_every_kernel() {
    let beside_torch = crate::ffi::libtorch_path().and_then(|path| Some(path.parent()?.to_owned()));
    let has_cuda = beside_torch.is_some_and(|dir| dir.join("libtorch_cuda.so").exists());
    if !has_cuda && !nvrtc::is_present() {
        crate::tests_not_run("the kernels' compilation: this libtorch comes without CUDA");
        return;
    }
    // RRM-32B, Qwen2.5-1.5B, and the shapes of the tests
    let shapes = [(40, 8, 128), (12, 2, 128), (4, 2, 16)];
    for (n_heads, n_kv_heads, head_dim) in shapes {
        for kv in [KvKind::Bf16, KvKind::Fp8] {
            let heads = Heads { n_heads, n_kv_heads, head_dim };
            for file in source::files(&heads, kv).unwrap() {
                let code = compile(&file, &architecture((9, 0))).unwrap();
                assert!(code.starts_with(b"\x7fELF"), "{}", file.name);
            }
        }
    }
    let heads = Heads { n_heads: 40, n_kv_heads: 8, head_dim: 128 };
    for capability in [(8, 9), (10, 0), (12, 0)] {
        for file in source::files(&heads, KvKind::Fp8).unwrap() {
            compile(&file, &architecture(capability)).unwrap();
        }
    }
    let mut broken = source::files(&heads, KvKind::Bf16).unwrap().remove(0);
    broken.text = "this is no kernel";
    let error = compile(&broken, "sm_90a").unwrap_err().to_string();
    assert!(error.contains("gemm_skinny.cu") && error.contains("error"), "{error}");
    let odd = source::files(&Heads { head_dim: 80, ..heads }, KvKind::Bf16).unwrap_err();
    assert!(odd.to_string().contains("head_dim 80"), "{odd}");
}
