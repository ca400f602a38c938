//! Whole batches on the GPU path, by kernels and by the reference operations.

use joust_schema::seed::Seed;
use tch::{Kind, Tensor};

use super::{CPU, HEADS, push, settings};
use crate::batch::ForwardBatch;
use crate::config::ModelConfig;
use crate::config::examples::{tiny_qwen3, tiny_with_head};
use crate::gpu::arena::KvKind;
use crate::gpu::batch::GpuBatch;
use crate::gpu::cascade::CascadePlan;
use crate::gpu::emulator;
use crate::gpu::forward::GpuRunner;
use crate::gpu::ops::Ops;
use crate::gpu::reference::ReferenceOps;
use crate::gpu::tuning::{graph_rows, n_splits};
use crate::model::tests::with_uneven_norms;
use crate::model::{Decoder, Precision};
use crate::sampler::RowSampling;

fn kernels(kv: KvKind) -> Box<dyn Ops> {
    Box::new(emulator::kernels(HEADS, kv, kv == KvKind::Fp8))
}

#[test]
fn batches_by_kernels_are_those_of_the_plain_decoder_with_bf16_kv() {
    check_batches(KvKind::Bf16, || kernels(KvKind::Bf16));
}

#[test]
fn batches_by_kernels_are_those_of_the_plain_decoder_with_fp8_kv() {
    check_batches(KvKind::Fp8, || kernels(KvKind::Fp8));
}

#[test]
fn batches_by_reference_operations_are_those_of_the_plain_decoder() {
    for kv in [KvKind::Bf16, KvKind::Fp8] {
        check_batches(kv, || Box::new(ReferenceOps { heads: HEADS }));
    }
}

#[test]
fn batches_with_cascade_attention_are_those_without() {
    for kv in [KvKind::Bf16, KvKind::Fp8] {
        check_shared_batches(kv, || kernels(kv));
    }
}

/// Sequences with a common prefix and one without it, over two steps: prompts, then a mixture of
/// decoding and a prompt's second chunk. Compares the logits of all tokens with the plain
/// decoder's.
fn check_batches(kv: KvKind, ops: impl Fn() -> Box<dyn Ops>) {
    let fp8 = Precision { kind: Kind::BFloat16, fp8_layers: true, fp8_head: false };
    let mixed = Precision { fp8_head: true, ..fp8 };
    // a vocabulary that is no multiple of 8 has longer rows of logits
    let cases =
        [(304, Kind::BFloat16.into()), (304, fp8), (304, mixed), (301, Kind::BFloat16.into())];
    let of_families = [tiny_with_head(), tiny_qwen3()];
    for (family, (vocab_size, precision)) in
        of_families.iter().flat_map(|family| cases.map(|case| (family, case)))
    {
        let config = ModelConfig { vocab_size, ..family.clone() };
        let plain = with_uneven_norms(&config, 3, Kind::BFloat16);
        let model = plain.duplicate(CPU, precision).unwrap();
        let settings = settings(12, kv, true);
        let mut runner = GpuRunner::with_ops(&model, &settings, ops()).unwrap();
        let prompt: Vec<u32> = (0..37).map(|at| (at * 29 + 5) % vocab_size as u32).collect();
        let other: Vec<u32> = (0..9).map(|at| (at * 53 + 11) % vocab_size as u32).collect();
        let mut first = ForwardBatch::default();
        push(&mut first, &prompt[..20], 0, &[(0, 16), (1, 4)]);
        push(&mut first, &other, 0, &[(4, 9)]);
        let mut second = ForwardBatch::default();
        let shared = [(0, 16), (1, 4)];
        let longer = [&shared[..], &[(2, 1)]].concat();
        // a fork of the prompt, the prompt's next chunk after a cut block, and the other sequence
        push(&mut second, &[17], 20, &longer);
        push(&mut second, &prompt[20..], 20, &[&shared[..], &[(3, 16), (5, 1)]].concat());
        push(&mut second, &[200], 9, &[(4, 10)]);
        let seen = [first, second].map(|batch| {
            let logits = runner.forward(&model, &batch).unwrap();
            let n_padded = logits.size()[1] - vocab_size as i64;
            assert_eq!(n_padded, (vocab_size.next_multiple_of(8) - vocab_size) as i64);
            check_samples(&runner, &logits, vocab_size as u32);
            logits.to_kind(Kind::Float).narrow(1, 0, vocab_size as i64).copy()
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
        // the plain decoder rounds to bf16 in more places, above all normalised heads; FP8 keys
        // and values add roundings
        let bound = match kv {
            KvKind::Fp8 => 0.08,
            KvKind::Bf16 if config.family.head_norms => 0.06,
            KvKind::Bf16 => 0.04,
        };
        for (seen, wanted) in seen.iter().zip(&wanted) {
            let off = ((seen - wanted).norm() / wanted.norm()).double_value(&[]);
            let of_what = config.family.model_type;
            assert!(off < bound, "{of_what} {precision:?} {kv:?}: {off}");
        }
    }
}

/// Samples with and without filters: never a token beyond the vocabulary.
fn check_samples(runner: &GpuRunner, logits: &Tensor, vocab_size: u32) {
    let settings = [(1.0, 1.0, 0), (0.0, 1.0, 0), (5.0, 1.0, 0), (1.0, 0.9, 0), (2.0, 1.0, 303)];
    for (at, (temperature, top_p, top_k)) in settings.into_iter().enumerate() {
        for uniform in [0.0, 0.37, 1.0 - 1e-12] {
            let draw = RowSampling { row: at, temperature, top_p, top_k, uniform };
            let drawn = runner.sample(logits, &[draw]).unwrap();
            assert!(drawn[0].token < vocab_size, "{draw:?}: {}", drawn[0].token);
            assert!(drawn[0].logprob.is_finite());
        }
    }
}

/// Forks of one long prompt and an unrelated sequence, each decoding one token: with and without
/// cascade attention.
fn check_shared_batches(kv: KvKind, ops: impl Fn() -> Box<dyn Ops>) {
    let model = Decoder::random(&tiny_with_head(), Seed(5), CPU, Kind::BFloat16);
    let prompt: Vec<u32> = (0..16 * 17).map(|at| (at * 29 + 5) % 304).collect();
    let shared: Vec<(u32, u32)> = (0..17).map(|block| (block, 16)).collect();
    let mut first = ForwardBatch::default();
    push(&mut first, &prompt, 0, &shared);
    push(&mut first, &[7, 8, 9], 0, &[(17, 3)]);
    let mut second = ForwardBatch::default();
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

#[test]
fn gpu_batch_puts_decoding_rows_first_and_finds_wanted_tokens_again() {
    let mut batch = ForwardBatch::default();
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
fn graph_rows_are_few_sizes_close_to_the_number_of_rows() {
    let sizes: std::collections::BTreeSet<usize> = (1..=256).map(graph_rows).collect();
    assert!(sizes.len() < 30 && (1..=256).all(|n| (n..n + 16).contains(&graph_rows(n))));
    assert!((1..=256).all(|n| graph_rows(graph_rows(n)) == graph_rows(n)));
}

#[test]
fn n_splits_gives_a_small_batch_work_for_a_large_gpu() {
    // with 8 key/value heads, almost all of 132 multiprocessors get work
    assert!((1..=256).all(|n| n * n_splits(n) * 8 >= 128));
}
