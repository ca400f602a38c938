//! The gradient of a pass does not depend on how it is computed: the order of the samples, their
//! micro-batches, the chunks of the head, the activations that are kept; of all weights and of
//! adapters.

use joust_engine::model::KeptActivations;
use joust_engine::{Decoder, LoraConfig};
use joust_schema::seed::Seed;
use proptest::prelude::*;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::Learner;
use super::config::LearnerConfig;
use crate::objective::likelihood::Likelihood;
use crate::objective::policy::{PolicyObjective, SampledStep};
use crate::objective::{LossConfig, Objective, SamplerNumbers};
use crate::optim::{AdamW, OptimConfig};
use crate::sample::TrainingSample;
use crate::tiny::{alone, tiny_model};
use crate::weights::stage::ShardStage;
use crate::weights::{WeightBucket, Weights};

/// Loss and gradients of all parameters.
struct Outcome {
    loss: f64,
    gradients: Vec<(String, Tensor)>,
}

impl Outcome {
    /// Largest difference of a loss or gradient, relative to the largest value of its tensor.
    fn distance(&self, other: &Outcome) -> f64 {
        let loss = (self.loss - other.loss).abs() / self.loss.abs().max(1e-3);
        let pairs = self.gradients.iter().zip(&other.gradients);
        let gaps = pairs.map(|((name, a), (other_name, b))| {
            assert_eq!(name, other_name);
            let largest = a.abs().max().double_value(&[]).max(1e-6);
            (a - b).abs().max().double_value(&[]) / largest
        });
        gaps.fold(loss, f64::max)
    }
}

/// Groups of completions of one prompt with drawn tokens and numbers; some without advantage.
fn samples(lengths: &[(usize, Vec<usize>)], seed: u64) -> Vec<TrainingSample> {
    let mut samples = Vec::new();
    let has_kept = seed.is_multiple_of(2);
    for (group, (n_prompt, completions)) in lengths.iter().enumerate() {
        let seed = Seed::new(seed).child("group", group as u64);
        let draw = |seed: Seed, at: usize| (seed.child("token", at as u64).0 % 30) as u32;
        let prompt: Vec<u32> = (0..*n_prompt).map(|at| draw(seed, at)).collect();
        for (member, &n_tokens) in completions.iter().enumerate() {
            let seed = seed.child("member", member as u64);
            let completion: Vec<u32> = (0..n_tokens).map(|at| draw(seed, at)).collect();
            let number = |name: &str, at: usize| {
                -3.4 - (seed.child(name, at as u64).0 % 1000) as f32 / 2000.0
            };
            let numbers = |name: &str| Some((0..n_tokens).map(|at| number(name, at)).collect());
            samples.push(TrainingSample {
                behaviour: numbers("behaviour"),
                old: numbers("old"),
                reference: numbers("reference"),
                kept: has_kept
                    .then(|| (0..n_tokens).map(|at| (draw(seed, at) % 2) as f32).collect()),
                advantage: [1.2, -0.7, 0.0][(seed.0 % 3) as usize],
                ..TrainingSample::of_completion(&prompt, &completion, group)
            });
        }
    }
    samples
}

fn objective(name: &str, samples: &[TrainingSample]) -> Box<dyn Objective> {
    if name == "likelihood" {
        return Box::new(Likelihood::default());
    }
    let (name, entropy) =
        name.strip_suffix(" with entropy").map_or((name, 0.0), |name| (name, 0.3));
    let config = json!({
        "preset": name, "entropy": {"weight": entropy}, "kl": {"weight": 0.1},
        "correction": {"weights": "token", "truncate": 2.0},
    });
    let config: LossConfig = serde_json::from_value(config).unwrap();
    let n_trained: usize = samples.iter().map(TrainingSample::n_trained).sum();
    let step = SampledStep {
        temperature: 0.7,
        max_completion_length: 9,
        n_tokens_per_update: n_trained as f64,
    };
    Box::new(PolicyObjective::new(config.loss(SamplerNumbers::Same), step))
}

const OBJECTIVES: [&str; 5] = ["likelihood", "dapo", "grpo", "gspo", "dapo with entropy"];

/// The tiny model, perhaps with adapters whose matrices are all drawn.
fn model(is_tied: bool, has_adapters: bool) -> Decoder {
    let mut model = tiny_model(Kind::Double, is_tied);
    if has_adapters {
        let _guard = tch::no_grad_guard();
        model.attach_adapters(&LoraConfig { r: 3, ..LoraConfig::default() }, Seed::new(2));
        for (at, (_, mut matrix)) in model.adapter_parameters().into_iter().enumerate() {
            let n_values = matrix.numel() as i64;
            let values = Tensor::arange(n_values, (Kind::Double, Device::Cpu)) * 1.7 + at as i64;
            matrix.copy_(&(values.sin() * 0.3).view_as(&matrix));
        }
    }
    model
}

fn outcome(
    samples: &[TrainingSample],
    name: &str,
    (is_tied, has_adapters): (bool, bool),
    change: impl FnOnce(&mut Learner),
) -> Outcome {
    let model = model(is_tied, has_adapters);
    let mut learner = Learner::new(model, &LearnerConfig::default(), 1, alone()).unwrap();
    change(&mut learner);
    let samples: Vec<&TrainingSample> = samples.iter().collect();
    let mut objective = objective(name, &samples.iter().map(|s| (*s).clone()).collect::<Vec<_>>());
    let loss = learner.pass(&samples, &mut *objective).unwrap().unwrap();
    let named = learner.weights.gradients.trained_parameters().into_iter();
    Outcome { loss, gradients: named.collect() }
}

fn groups() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    prop::collection::vec((1usize..7, prop::collection::vec(1usize..9, 1..5)), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn gradients_do_not_depend_on_order_micro_batches_chunks_and_kept_activations(
        groups in groups(),
        seed in 0u64..1000,
        name in prop::sample::select(OBJECTIVES.to_vec()),
        kind in any::<(bool, bool)>(),
        micro_batch_rows in 1usize..6,
        micro_batch_tokens in 1usize..80,
        chunk_tokens in 1usize..40,
        keeps_all in any::<bool>(),
    ) {
        let samples = samples(&groups, seed);
        let whole = outcome(&samples, name, kind, |_| {});
        let order = Seed::new(seed).permutation(samples.len());
        let shuffled: Vec<TrainingSample> =
            order.into_iter().map(|row| samples[row].clone()).collect();
        let parts = outcome(&shuffled, name, kind, |learner| {
            learner.config.micro_batch_rows = micro_batch_rows;
            learner.config.micro_batch_tokens = micro_batch_tokens;
            learner.plan.chunk_tokens = chunk_tokens;
            if !keeps_all {
                learner.plan.kept = KeptActivations::LayerInputs;
            }
        });
        let distance = whole.distance(&parts);
        prop_assert!(distance < 1e-6, "{distance}");
    }
}

/// A learner whose passes compute in bf16, with working weights of this number format.
fn learner_in_bf16(working: Kind) -> Learner {
    let config = LearnerConfig {
        optim: OptimConfig { lr: 1e-5, ..OptimConfig::default() },
        ..LearnerConfig::default()
    };
    let mut learner = Learner::new(tiny_model(Kind::Float, false), &config, 3, alone()).unwrap();
    learner.weights = {
        let first = tiny_model(Kind::Float, false);
        Weights::new(first, working, ShardStage::Auto, &alone()).unwrap()
    };
    let parameters = learner.weights.buckets.iter().map(WeightBucket::parameters).collect();
    learner.optimizer = AdamW::new(parameters, &config.optim);
    learner.plan.compute = Kind::BFloat16;
    learner
}

#[test]
fn rounded_working_weights_learn_what_their_master_weights_learn() {
    let samples = samples(&[(5, vec![3, 8]), (2, vec![7, 4, 6])], 4);
    let samples: Vec<&TrainingSample> = samples.iter().collect();
    let [of_master, of_rounded] = [Kind::Float, Kind::BFloat16].map(|working| {
        let mut learner = learner_in_bf16(working);
        for update in 0..3 {
            learner.pass(&samples, &mut Likelihood::default()).unwrap().unwrap();
            learner.update(update).unwrap();
        }
        learner.weights
    });
    let first = tiny_model(Kind::Float, false);
    let (mut n_moved, mut n_lost) = (0, 0);
    let masters = of_master.master(&alone()).unwrap().named_parameters().into_iter();
    let rounded = of_rounded.master(&alone()).unwrap().named_parameters().into_iter();
    let working = of_rounded.model.named_parameters().into_iter();
    let _guard = tch::no_grad_guard();
    for ((((name, a), (_, b)), (_, working)), (_, first)) in
        masters.zip(rounded).zip(working).zip(first.named_parameters())
    {
        assert!(working.equal(&b.to_kind(Kind::BFloat16)), "{name}");
        // three updates of at most 1e-5; which of a value's nearest numbers is taken is bf16's
        let gap = (&a - &b).abs().max().double_value(&[]);
        assert!(gap < 3e-5, "{name}: {gap}");
        let count = |mask: &Tensor| mask.sum(Kind::Int64).int64_value(&[]);
        let moved = b.not_equal_tensor(&first);
        n_moved += count(&moved);
        let as_before = working.eq_tensor(&first.to_kind(Kind::BFloat16));
        n_lost += count(&moved.logical_and(&as_before));
    }
    // updates that bf16 alone would lose
    assert!(n_moved > 0 && n_lost > n_moved / 4, "{n_lost} of {n_moved}");
}
