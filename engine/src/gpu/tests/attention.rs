//! Attention kernels: storing and gathering of keys and values, attention, and the merge of splits.

use tch::{Kind, Tensor};

use super::{CPU, HEADS, RandomTensors, bf16, check_close, outs, plain};
use crate::ModelConfig;
use crate::config::examples::tiny_with_head;
use crate::gpu::arena::{self, KvKind, LayerArena};
use crate::gpu::cascade::BUNDLE_ROWS;
use crate::gpu::emulator;
use crate::gpu::ops::{Activations, CascadeBundles, DecodeContexts, Heads, Ops};
use crate::gpu::reference::ReferenceOps;
use crate::model::HeadNorms;

const N_BLOCKS: usize = 12;

#[test]
fn attention_is_the_reference_with_bf16_kv() {
    check(HEADS, KvKind::Bf16, false, false, 21);
}

#[test]
fn attention_is_the_reference_with_fp8_kv() {
    check(HEADS, KvKind::Fp8, false, true, 22);
}

#[test]
fn attention_is_the_reference_with_normalised_heads_of_all_sizes_in_one_and_two_tiles() {
    // loads from a few bytes to several of 16 bytes
    let shapes = [(5, 1, 128), (14, 2, 64), (12, 1, 32), (9, 1, 256)];
    for (seed, (n_heads, n_kv_heads, head_dim)) in (23..).zip(shapes) {
        // the scale of a model with a factor of its own, as YaRN has
        let scale = 0.8 / (head_dim as f64).sqrt();
        let heads = Heads { n_heads, n_kv_heads, head_dim, scale };
        check(heads, KvKind::Bf16, true, true, seed);
        check(heads, KvKind::Fp8, true, false, seed);
    }
}

/// Stores keys and values of a few tokens, with padding between them, then attends to them.
fn check(heads: Heads, kv: KvKind, has_norms: bool, backwards: bool, seed: u64) {
    let draw = &RandomTensors::new(seed);
    let (kernels, reference): (&dyn Ops, &dyn Ops) =
        (&emulator::kernels(heads, kv, backwards), &ReferenceOps { heads });
    let head_dim = heads.head_dim;
    let config = ModelConfig {
        n_heads: heads.n_heads as usize,
        n_kv_heads: heads.n_kv_heads as usize,
        head_dim: head_dim as usize,
        ..tiny_with_head()
    };
    let inv_freq: Vec<f32> = (0..head_dim / 2)
        .map(|pair| 10_000f32.powf(-2.0 * pair as f32 / head_dim as f32))
        .collect();
    let inv_freq = Tensor::from_slice(&inv_freq);
    let arenas = [(); 2].map(|()| arena::allocate(&config, N_BLOCKS, kv, CPU).unwrap().remove(0));
    let n_tokens = 16 * N_BLOCKS as i64;
    // values whose sizes differ from token to token, because FP8 has one scale per token
    let value_width = heads.n_kv_heads * head_dim;
    let others = draw.randn(&[n_tokens, heads.qkv_width() - value_width]);
    let sizes = (draw.randn(&[n_tokens, 1]) * 2.0).exp();
    let qkv = bf16(&Tensor::cat(&[others, draw.randn(&[n_tokens, value_width]) * sizes], 1));
    // an attention sink for one head of the first row: nearly all weight on a value of zero
    let (of_query, of_key) = (qkv.get(0).narrow(0, 0, head_dim), heads.q_width());
    let sink = &of_query * (14.0 / (head_dim as f64).sqrt());
    qkv.get(0).narrow(0, of_key, head_dim).copy_(&sink);
    let _ = qkv.get(0).narrow(0, heads.qkv_width() - value_width, value_width).fill_(0.0);
    let slots: Vec<i32> =
        (0..n_tokens as i32).map(|slot| if slot % 7 == 3 { -1 } else { slot }).collect();
    let positions: Vec<i32> = (0..n_tokens).map(|at| (at * at) as i32).collect();
    let (slots, positions) = (Tensor::from_slice(&slots), Tensor::from_slice(&positions));
    let norms = has_norms.then(|| {
        let weight = || bf16(&(draw.randn(&[head_dim]) * 0.3 + 1.0));
        HeadNorms { q: weight(), k: weight(), eps: 0.02 }
    });
    let copies = [qkv.copy(), qkv.copy()];
    for ((ops, copy), arena) in [kernels, reference].iter().zip(&copies).zip(&arenas) {
        ops.rope_append(copy, &positions, &inv_freq, &slots, norms.as_ref(), arena).unwrap();
    }
    let queries = |qkv: &Tensor| Activations::Plain(qkv.narrow(1, 0, heads.q_width()).contiguous());
    check_close(&queries(&copies[0]), &queries(&copies[1]), "rotated queries");
    let all: Vec<i64> = (0..n_tokens).collect();
    let blocks = Tensor::from_slice(&all.iter().map(|slot| slot / 16).collect::<Vec<_>>());
    let offsets = Tensor::from_slice(&all.iter().map(|slot| slot % 16).collect::<Vec<_>>());
    let [seen, wanted] = [0, 1].map(|which| {
        let gathered = arenas[which].gather(&blocks, &offsets, Kind::Float).unwrap();
        Activations::Plain(Tensor::cat(&gathered, 0).view([-1, head_dim]))
    });
    check_close(&seen, &wanted, "stored keys and values");

    // slots in ascending and descending order, some of them twice
    let slots: Vec<i32> = (0..40).chain((9..n_tokens as i32).rev()).collect();
    let slots = Tensor::from_slice(&slots);
    let [seen, wanted] = [kernels, reference].map(|ops| {
        let size = [slots.size()[0], heads.n_kv_heads, head_dim];
        let out = [(); 2].map(|()| Tensor::full(size, f64::NAN, (Kind::BFloat16, CPU)));
        ops.gather_kv(&arenas[1], &slots, &out).unwrap();
        out
    });
    assert!(seen[0].equal(&wanted[0]) && seen[1].equal(&wanted[1]), "gathered");

    // both read the same arena
    let [_, qkv] = &copies;
    let [_, arena] = &arenas;
    spoil(arena, CUT.0, CUT.1);
    let ops = ComparedOps { draw, kernels, reference, heads, qkv, arena };
    check_unshared(&ops);
    check_shared(&ops);
}

/// A block of which only the first tokens are in use.
const CUT: (i32, i32) = (3, 7);

/// Fills the slots of a block behind its first tokens with NaN.
fn spoil(arena: &LayerArena, block: i32, n_tokens: i32) {
    let rest = |tensor: &Tensor| {
        tensor.get(block.into()).narrow(1, n_tokens.into(), i64::from(16 - n_tokens))
    };
    for tensor in [&arena.keys, &arena.values] {
        let _ = match &arena.scales {
            None => rest(tensor).fill_(f64::NAN),
            Some(_) => rest(&tensor.view_dtype(Kind::Uint8)).fill_(0x7F),
        };
    }
    for scales in arena.scales.iter().flatten() {
        let _ = rest(scales).fill_(f64::NAN);
    }
}

/// Kernels and reference operations, and the queries and arena that both use.
struct ComparedOps<'a> {
    draw: &'a RandomTensors,
    kernels: &'a dyn Ops,
    reference: &'a dyn Ops,
    heads: Heads,
    qkv: &'a Tensor,
    arena: &'a LayerArena,
}

impl ComparedOps<'_> {
    /// Compares the attention of all rows, merged in f32, and the sums of exponentials; then the
    /// merge kernels on the same splits. The kernels round weights to the values' format: bf16, or
    /// f16 for FP8.
    fn compare(&self, contexts: &DecodeContexts, what: &str) {
        let (n, all) = (contexts.n_spans.size()[0], contexts.n_all_splits());
        let attended = |ops: &dyn Ops| {
            let partial =
                Tensor::full([n, all, self.heads.q_width()], f64::NAN, (Kind::Float, CPU));
            let lse = Tensor::full([n, all, self.heads.n_heads], f64::NAN, (Kind::Float, CPU));
            ops.attend_decode(self.qkv, self.arena, contexts, &partial, &lse).unwrap();
            [partial, lse]
        };
        let seen = attended(self.kernels);
        let ([y, sums], [wanted_y, wanted_sums]) =
            (self.merged(&seen), self.merged(&attended(self.reference)));
        let off = (&y - &wanted_y).norm_scalaropt_dim(2, [-1i64].as_slice(), false);
        let size = wanted_y.norm_scalaropt_dim(2, [-1i64].as_slice(), false);
        let off =
            (off / size.clamp_min(1e-9)).nan_to_num(f64::MAX, 0.0, 0.0).max().double_value(&[]);
        let bound = if self.arena.scales.is_some() { 1e-3 } else { 5e-3 };
        assert!(off < bound, "{what}, {:?}: {off} off", self.heads);
        let off = (sums - wanted_sums).abs().nan_to_num(0.0, 0.0, 0.0).max().double_value(&[]);
        assert!(off < 1e-4, "{what}, {:?}: sums {off} off", self.heads);

        let next = plain(&self.draw.randn(&[64, self.heads.q_width()]));
        let (seen_outs, wanted_outs) =
            (outs(n, self.heads.q_width()), outs(n, self.heads.q_width()));
        for (of_kernel, of_reference) in seen_outs.iter().zip(&wanted_outs) {
            self.kernels.merge_splits(&seen[0], &seen[1], of_kernel, Some(&next)).unwrap();
            self.reference.merge_splits(&seen[0], &seen[1], of_reference, None).unwrap();
            check_close(of_kernel, of_reference, "merge");
        }
    }

    /// All splits of each row merged: attention [R, Hq, D], and logarithms of the sums [R, Hq].
    fn merged(&self, [partial, lse]: &[Tensor; 2]) -> [Tensor; 2] {
        let Heads { n_heads, head_dim, .. } = self.heads;
        let size = lse.size();
        let partial = partial.view([size[0], size[1], n_heads, head_dim]);
        let weights = lse.softmax(1, Kind::Float).nan_to_num(0.0, 0.0, 0.0).unsqueeze(-1);
        // the attention of an empty split is not written
        let weighted = (&partial * &weights).where_self(&weights.gt(0.0), &partial.zeros_like());
        let y = weighted.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        [y, lse.logsumexp([1i64].as_slice(), false)]
    }
}

/// The spans (block, tokens) of each context, one row of `capacity` per context.
fn packed(contexts: &[impl AsRef<[(i32, i32)]>], capacity: usize) -> Tensor {
    let mut spans = vec![0; contexts.len() * capacity];
    for (row, context) in spans.chunks_mut(capacity).zip(contexts) {
        for (at, (block, n)) in context.as_ref().iter().enumerate() {
            row[at] = block << 5 | n;
        }
    }
    Tensor::from_slice(&spans).view([contexts.len() as i64, capacity as i64])
}

/// Contexts without cascade: whole blocks, cut blocks, one token, and padding; blocks that rows
/// share; more blocks than warps.
fn check_unshared(ops: &ComparedOps) {
    let long: Vec<(i32, i32)> = (4..N_BLOCKS as i32).map(|block| (block, 16)).collect();
    let contexts: [&[(i32, i32)]; 6] = [
        &[(0, 16), (4, 16), (5, 2)],
        &[(0, 16), CUT, (4, 3), (1, 1)],
        &[(2, 1)],
        &[],
        &long,
        &[(0, 3)],
    ];
    let n_spans: Vec<i32> = contexts.iter().map(|context| context.len() as i32).collect();
    for n_splits in [1, 2, 7] {
        let contexts = DecodeContexts {
            spans: packed(&contexts, 9),
            n_spans: Tensor::from_slice(&n_spans),
            n_splits,
            cascade: None,
        };
        ops.compare(&contexts, "attention");
    }
}

/// Cascade attention: two bundles of rows that share two whole spans and a cut one, a row without
/// further spans, rows without a shared prefix, padding, an absent bundle, and a bundle of two rows
/// with more spans than stages of the kernel.
fn check_shared(ops: &ComparedOps) {
    let start = [(0, 16), (5, 16), CUT];
    let long: Vec<(i32, i32)> = (1..N_BLOCKS as i32).rev().map(|block| (block, 5)).collect();
    let mut contexts: Vec<Vec<(i32, i32)>> =
        (0..11).map(|row| [&start[..], &[(1 + row % 2, 1 + row)]].concat()).collect();
    contexts[4].truncate(3);
    contexts.insert(2, vec![(0, 16), (4, 16)]);
    contexts.insert(6, vec![]);
    contexts.push(long.clone());
    contexts.push([&long[..], &[(0, 9)]].concat());
    let n_rows = contexts.len() as i32;
    let alike = |start: &[(i32, i32)]| -> Vec<i32> {
        (0..n_rows).filter(|row| contexts[*row as usize].starts_with(start)).collect()
    };
    let mut rows = alike(&start);
    assert_eq!(rows.len(), 11);
    rows.resize(2 * BUNDLE_ROWS, -1);
    rows.extend([0; BUNDLE_ROWS]);
    rows.extend(alike(&long));
    rows.resize(4 * BUNDLE_ROWS, -1);
    let n_shared = |row: i32| match &contexts[row as usize] {
        context if context.starts_with(&start) => start.len() as i32,
        context if context.starts_with(&long) => long.len() as i32,
        _ => 0,
    };
    let n_shared: Vec<i32> = (0..n_rows).map(n_shared).collect();
    let n_spans: Vec<i32> = contexts.iter().map(|context| context.len() as i32).collect();
    for (n_splits, n_shared_splits) in [(1, 1), (2, 4), (7, 2)] {
        let contexts = DecodeContexts {
            spans: packed(&contexts, N_BLOCKS),
            n_spans: Tensor::from_slice(&n_spans),
            n_splits,
            cascade: Some(CascadeBundles {
                n_shared: Tensor::from_slice(&n_shared),
                rows: Tensor::from_slice(&rows).view([4, BUNDLE_ROWS as i64]),
                n_spans: Tensor::from_slice(&[3, 3, 0, long.len() as i32]),
                n_splits: n_shared_splits,
            }),
        };
        ops.compare(&contexts, "shared attention");
    }
}
