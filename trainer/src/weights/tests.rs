//! Ranks that have more or less of a model in parts learn the same. The ranks are processes, which
//! run the test that starts them.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use joust_dist::{Collectives, JoinOptions, World};
use joust_engine::device::DType;
use joust_engine::{Decoder, LoraConfig};
use joust_schema::seed::Seed;
use tch::{Kind, Tensor};

use crate::dpo::{DpoConfig, DpoPair, DpoTrainer};
use crate::learner::Learner;
use crate::learner::config::LearnerConfig;
use crate::objective::policy::{PolicyObjective, SampledStep};
use crate::objective::{LossConfig, SamplerNumbers};
use crate::optim::OptimConfig;
use crate::reference::SyncRefModel;
use crate::sample::TrainingSample;
use crate::tiny::tiny_model;
use crate::weights::stage::ShardStage;

const IS_RANK: &str = "JOUST_TEST_IS_RANK";

/// Runs the body in so many processes, of which each is this test once more.
fn on_ranks(name: &str, size: usize, body: impl Fn(&Arc<Collectives>)) {
    if std::env::var_os(IS_RANK).is_some() {
        if std::env::var("WORLD_SIZE").unwrap() == size.to_string() {
            let world = World::from_env().unwrap();
            body(&Arc::new(Collectives::join(world, JoinOptions::default()).unwrap()));
        }
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let start = |rank: usize| {
        let (rank, size) = (rank.to_string(), size.to_string());
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .envs([(IS_RANK, "1"), ("RANK", &rank), ("LOCAL_RANK", &rank)])
            .envs([("WORLD_SIZE", &size), ("LOCAL_WORLD_SIZE", &size)])
            .envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", &port), ("OMP_NUM_THREADS", "1")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let ranks: Vec<_> = (0..size).map(start).collect();
    let outputs = ranks.into_iter().map(|rank| rank.wait_with_output().unwrap());
    for output in outputs.collect::<Vec<_>>() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    }
}

/// What a learner has after some updates: losses and norms, and this rank's weights and moments.
struct Learned {
    numbers: Vec<f64>,
    values: Vec<Tensor>,
}

impl Learned {
    fn of(learner: &Learner, numbers: Vec<f64>) -> Self {
        let masters = learner.weights.buckets.iter().map(|it| it.master.copy());
        let means = learner.optimizer.means().flatten().map(|(_, mean)| mean.copy());
        Self { numbers, values: masters.chain(means).collect() }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.numbers == other.numbers
            && self.values.iter().zip(&other.values).all(|(a, b)| a.equal(b))
    }

    /// Largest difference of a weight.
    fn distance(&self, other: &Self) -> f64 {
        let pairs = self.values.iter().zip(&other.values).take(self.values.len() / 3);
        pairs.map(|(a, b)| (a - b).abs().max().double_value(&[])).fold(0.0, f64::max)
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    is_tied: bool,
    working: DType,
    checkpoints: bool,
    has_adapters: bool,
    /// Maximum number of rows per micro-batch.
    rows: usize,
}

fn draw(name: &str, at: u64) -> u32 {
    (Seed::new(7).child(name, at).0 % 30) as u32
}

fn tokens(name: &str, start: u64, n: u64) -> Vec<u32> {
    (start..start + n).map(|at| draw(name, at)).collect()
}

/// Groups of different sizes, so that ranks have different numbers of micro-batches.
fn samples() -> Vec<TrainingSample> {
    let groups: [&[u64]; 5] = [&[9, 8, 7, 9, 6], &[3, 5], &[4], &[2, 2, 6], &[5]];
    let mut samples = Vec::new();
    for (group, lengths) in groups.iter().enumerate() {
        let prompt = tokens("prompt", 10 * group as u64, 3 + group as u64);
        for (member, &n) in lengths.iter().enumerate() {
            let completion = tokens("completion", (100 * group + 10 * member) as u64, n);
            samples.push(TrainingSample {
                advantage: [1.2, -0.7, 0.4][member % 3],
                ..TrainingSample::of_completion(&prompt, &completion, group)
            });
        }
    }
    samples
}

fn learner(case: Case, shard: ShardStage, ranks: &Arc<Collectives>) -> Learner {
    let mut model: Decoder = tiny_model(Kind::Float, case.is_tied);
    let lora = case.has_adapters.then(LoraConfig::default);
    let config = LearnerConfig {
        shard,
        working_dtype: case.working,
        checkpoint_activations: case.checkpoints,
        micro_batch_rows: case.rows,
        lora,
        optim: OptimConfig { lr: 1e-3, weight_decay: 0.1, ..OptimConfig::default() },
        ..LearnerConfig::default()
    };
    config.attach_adapters(&mut model, Seed::new(3));
    Learner::new(model, &config, 3, Arc::clone(ranks)).unwrap()
}

/// Three updates of a policy that is held at a reference.
fn learned(case: Case, shard: ShardStage, ranks: &Arc<Collectives>) -> Learned {
    let mut learner = learner(case, shard, ranks);
    let reference = tiny_model(Kind::Float, case.is_tied).into();
    let reference = learner.weights.frozen(reference, Kind::Float, ranks).unwrap();
    let mut samples = samples();
    let of_reference = learner.reference_logprobs(&reference, &samples, 0.9).unwrap();
    let old = learner.logprobs(&samples, 0.9).unwrap();
    for ((sample, reference), old) in samples.iter_mut().zip(of_reference).zip(old) {
        (sample.reference, sample.old) = (Some(reference), Some(old));
    }
    let config = serde_json::json!({"preset": "grpo", "kl": {"weight": 0.1}});
    let config: LossConfig = serde_json::from_value(config).unwrap();
    let step =
        SampledStep { temperature: 0.9, max_completion_length: 9, n_tokens_per_update: 60.0 };
    let mut objective = PolicyObjective::new(config.loss(SamplerNumbers::Same), step);
    let mut numbers = Vec::new();
    for place in 0..3 {
        let samples: Vec<&TrainingSample> = samples.iter().collect();
        numbers.push(learner.pass(&samples, &mut objective).unwrap().unwrap());
        numbers.push(learner.update(place).unwrap().1);
    }
    learner.check_usable().unwrap();
    let entropies = learner.entropies(&samples, 0.9).unwrap();
    numbers.extend(entropies.concat().into_iter().map(f64::from));
    numbers.extend(learner.evaluate(&samples, &mut objective).unwrap());
    let master = learner.master().unwrap();
    numbers.push(
        master
            .named_parameters()
            .iter()
            .map(|(_, it)| it.to_kind(Kind::Double).sum(Kind::Double).double_value(&[]))
            .sum(),
    );
    Learned::of(&learner, numbers)
}

fn check_stages(size: usize, ranks: &Arc<Collectives>) {
    assert_eq!(ranks.world().size, size);
    let case = Case {
        is_tied: false,
        working: DType::F32,
        checkpoints: false,
        has_adapters: false,
        rows: 64,
    };
    let cases = [
        case,
        Case { is_tied: true, ..case },
        Case { checkpoints: true, working: DType::Bf16, ..case },
        Case { is_tied: true, checkpoints: true, rows: 2, ..case },
        Case { working: DType::Bf16, rows: 1, ..case },
        Case { rows: 2, ..case },
        Case { has_adapters: true, rows: 64, ..case },
        Case { has_adapters: true, rows: 2, ..case },
    ];
    for case in cases {
        let [one, two] =
            [ShardStage::Zero1, ShardStage::Zero2].map(|shard| learned(case, shard, ranks));
        let three = (!case.has_adapters).then(|| learned(case, ShardStage::Zero3, ranks));
        if let Some(three) = &three {
            assert!(two.is_same(three), "{case:?}: zero2 and zero3");
        }
        // sums over ranks and micro-batches have one order only where there is one micro-batch
        if case.rows == 64 {
            assert!(one.is_same(&two), "{case:?}: zero1 and zero2");
            continue;
        }
        let distance = one.distance(&two);
        assert!(distance < 2e-6, "{case:?}: {distance}");
    }
}

#[test]
fn two_ranks_learn_the_same_whatever_they_have_in_parts() {
    on_ranks("two_ranks_learn_the_same_whatever_they_have_in_parts", 2, |ranks| {
        check_stages(2, ranks);
    });
}

#[test]
fn three_ranks_learn_the_same_whatever_they_have_in_parts() {
    on_ranks("three_ranks_learn_the_same_whatever_they_have_in_parts", 3, |ranks| {
        check_stages(3, ranks);
    });
}

/// Preferences with a reference that moves, saved and restored in between by ranks with parts.
fn preferred(shard: ShardStage, ranks: &Arc<Collectives>) -> (Learned, Vec<Tensor>) {
    let mut config: DpoConfig =
        serde_json::from_value(serde_json::json!({"steps": 4, "max_length": 30})).unwrap();
    config.learner.shard = shard;
    config.learner.working_dtype = DType::Bf16;
    config.learner.optim.lr = 1e-3;
    config.sync_ref_model = Some(SyncRefModel { every: 2, mixup_alpha: 0.6 });
    let [model, reference] = [(); 2].map(|()| tiny_model(Kind::Float, false));
    let reference = reference.duplicate(reference.device(), Kind::BFloat16).unwrap();
    let mut trainer = DpoTrainer::new(model, reference, &config, 4, Arc::clone(ranks)).unwrap();
    let pairs: Vec<DpoPair> = (0..5)
        .map(|pair| DpoPair {
            prompt: tokens("prompt", 10 * pair, 3),
            chosen: tokens("chosen", 10 * pair, 4 + pair),
            rejected: tokens("rejected", 10 * pair, 6),
        })
        .collect();
    let mut numbers = Vec::new();
    for place in 0..4 {
        numbers.push(trainer.step(&pairs, place).unwrap()["loss"]);
        if place == 2 {
            let saved = trainer.reference.model.gathered(ranks).unwrap().named_parameters();
            let find = |name: &str| {
                saved.iter().find(|(known, _)| known == name).map(|(_, it)| it.shallow_clone())
            };
            trainer.reference.model.restore(find).unwrap();
            assert!(trainer.reference.model.restore(|_| None).is_err());
        }
    }
    let reference = trainer.reference.model.gathered(ranks).unwrap().named_parameters();
    let reference = reference.into_iter().map(|(_, it)| it.copy()).collect();
    (Learned::of(&trainer.learner, numbers), reference)
}

#[test]
fn ranks_hold_a_policy_at_the_same_moving_reference_whatever_they_have_in_parts() {
    let name = "ranks_hold_a_policy_at_the_same_moving_reference_whatever_they_have_in_parts";
    on_ranks(name, 2, |ranks| {
        let (one, reference) = preferred(ShardStage::Zero1, ranks);
        for shard in [ShardStage::Zero2, ShardStage::Zero3] {
            let (other, other_reference) = preferred(shard, ranks);
            assert!(one.is_same(&other), "{shard:?}: {:?} {:?}", one.numbers, other.numbers);
            assert!(reference.iter().zip(&other_reference).all(|(a, b)| a.equal(b)), "{shard:?}");
        }
    });
}

#[test]
fn ranks_with_parts_publish_whole_weights_and_fail_together() {
    on_ranks("ranks_with_parts_publish_whole_weights_and_fail_together", 2, |ranks| {
        let case = Case {
            is_tied: false,
            working: DType::Bf16,
            checkpoints: false,
            has_adapters: false,
            rows: 2,
        };
        let [mut one, mut three] =
            [ShardStage::Zero1, ShardStage::Zero3].map(|shard| learner(case, shard, ranks));
        let bf16 = Kind::BFloat16;
        let [a, b] = [&mut one, &mut three].map(|it| it.weights.publish_in(bf16.into(), ranks));
        let (a, b) = (a.unwrap(), b.unwrap());
        let same = |a: &Decoder, b: &Decoder| {
            let pairs = a.named_parameters().into_iter().zip(b.named_parameters());
            pairs.into_iter().all(|(a, b)| a.0 == b.0 && a.1.equal(&b.1))
        };
        assert!(same(&a, &b) && a.shares_weights_with(one.model()));
        let mut samples = samples();
        let before = Learned::of(&three, Vec::new());
        // the rank that has it finds out before the others have made all of their passes
        samples[0].advantage = f64::NAN;
        let step =
            SampledStep { temperature: 0.9, max_completion_length: 9, n_tokens_per_update: 60.0 };
        let loss = LossConfig::default().loss(SamplerNumbers::Same);
        let mut objective = PolicyObjective::new(loss, step);
        let with_nan: Vec<&TrainingSample> = samples.iter().collect();
        assert!(three.pass(&with_nan, &mut objective).is_err());
        assert!(before.is_same(&Learned::of(&three, Vec::new())));
        let finite = &with_nan[1..];
        three.pass(finite, &mut objective).unwrap();
        three.update(0).unwrap();
        let after = three.weights.published(ranks).unwrap();
        assert!(!same(&a, &b), "the copy follows");
        let whole = three.master().unwrap().duplicate(after.device(), bf16).unwrap();
        assert!(same(&after, &whole));
    });
}
