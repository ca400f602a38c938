//! A step on hand-made rollouts: what moves, what does not, and what is refused.

use arrow::array::AsArray as _;
use arrow::datatypes::Float64Type;
use joust_engine::Decoder;
use joust_schema::ids::{GroupId, Member, PolicyVersion};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Reward, Rollout, Status};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::GrpoTrainer;
use super::config::GrpoConfig;
use super::online_dpo::OnlineDpo;
use super::step::{ScoredTables, StepInfo, StepOutcome};
use crate::advantage::AdvantageRule;
use crate::dpo::{DpoConfig, DpoPair, DpoTrainer};
use crate::error::Error;
use crate::golden::golden;
use crate::learner::config::LearnerConfig;
use crate::metrics::Metrics;
use crate::objective::{
    EntropyTerm, KlEstimator, KlPlace, KlTerm, LossConfig, Preset, SamplerNumbers,
};
use crate::optim::{OptimConfig, Schedule};
use crate::tiny::{alone, tiny_model};

fn model() -> Decoder {
    tiny_model(Kind::Float, true)
}

/// Two groups of two completions; member 0 is preferred in both.
fn tables() -> (Vec<Rollout>, Vec<Reward>) {
    let (mut rollouts, mut rewards) = (Vec::new(), Vec::new());
    for group in 0..2 {
        for member in 0..2u32 {
            let group_id = GroupId(format!("g{group}"));
            let n_tokens = 2 + member as usize + group;
            rollouts.push(Rollout {
                step: 1,
                group_id: group_id.clone(),
                member: Member(member),
                prompt_id: "p".into(),
                policy_version: PolicyVersion(0),
                prompt: String::new(),
                completion: String::new(),
                prompt_token_ids: vec![3, 4 + group as i32],
                completion_token_ids: (0..n_tokens)
                    .map(|t| 5 + member as i32 * 9 + t as i32)
                    .collect(),
                completion_logprobs: vec![-3.4; n_tokens],
                behaviour_logprobs: Some(vec![-3.4; n_tokens]),
                finish_reason: if member == 0 { FinishReason::Stop } else { FinishReason::Length },
                seed: 0,
            });
            rewards.push(Reward {
                group_id,
                member: Member(member),
                status: Status::Scored,
                reward: Some(1.0 - f64::from(member)),
                win_rate: None,
                rating: None,
                rating_stderr: None,
                wins: 0,
                losses: 0,
                rank: None,
                advantage: None,
            });
        }
    }
    (rollouts, rewards)
}

fn config() -> GrpoConfig {
    let optim = OptimConfig { lr: 1e-3, ..OptimConfig::default() };
    GrpoConfig {
        learner: LearnerConfig { optim, ..LearnerConfig::default() },
        ..GrpoConfig::default()
    }
}

fn info() -> StepInfo {
    StepInfo { step: 1, seed: Seed::new(0), temperature: 1.0, max_completion_length: 8 }
}

fn step(
    trainer: &mut GrpoTrainer,
    rollouts: &[Rollout],
    rewards: &[Reward],
) -> Result<StepOutcome, Error> {
    let tables = ScoredTables {
        rollouts: &Rollout::to_batch(rollouts).unwrap(),
        rewards: &Reward::to_batch(rewards).unwrap(),
        groups: &[2, 2].into_iter().collect(),
    };
    trainer.step(&tables, &info())
}

/// One step of a fresh trainer: the trainer, the advantages and the metrics.
fn run(
    config: &GrpoConfig,
    rollouts: &[Rollout],
    rewards: &[Reward],
) -> (GrpoTrainer, Vec<Option<f64>>, Metrics) {
    let reference = config.has_reference().then(|| model().into());
    let mut trainer =
        GrpoTrainer::new(model(), reference, config, 1, SamplerNumbers::Same, alone()).unwrap();
    let outcome = step(&mut trainer, rollouts, rewards).unwrap();
    let advantages = outcome.advantages.as_primitive::<Float64Type>().iter().collect();
    (trainer, advantages, outcome.metrics)
}

fn logprob_sum(model: &Decoder, rollout: &Rollout) -> f32 {
    let ids = |ids: &[i32]| ids.iter().map(|&id| id as u32).collect::<Vec<_>>();
    let (prompt, completion) = (ids(&rollout.prompt_token_ids), ids(&rollout.completion_token_ids));
    joust_engine::forced::logprobs(model, &prompt, &completion).unwrap().iter().sum()
}

fn distance(a: &Decoder, b: &Decoder) -> f64 {
    let pairs = a.named_parameters().into_iter().zip(b.named_parameters());
    pairs.map(|((_, a), (_, b))| (a - b).abs().max().double_value(&[])).fold(0.0, f64::max)
}

#[test]
fn step_makes_the_preferred_completion_more_probable() {
    let (rollouts, rewards) = tables();
    let (trainer, advantages, metrics) = run(&config(), &rollouts, &rewards);
    assert!(advantages[0].unwrap() > 0.7 && advantages[1].unwrap() < -0.7);
    let gain = |row: &Rollout| logprob_sum(trainer.policy(), row) - logprob_sum(&model(), row);
    assert!(gain(&rollouts[0]) > 0.0 && gain(&rollouts[1]) < 0.0);
    assert_eq!(metrics["updates"], 1.0);
    assert!(metrics["loss"].abs() < 1.0 && metrics["grad_norm"] > 0.0);
}

#[test]
fn step_does_not_depend_on_the_micro_batch() {
    let (rollouts, rewards) = tables();
    let (whole, _, _) = run(&config(), &rollouts, &rewards);
    let mut small = config();
    small.learner.micro_batch_rows = 1;
    let (parts, _, _) = run(&small, &rollouts, &rewards);
    // Adam's first update is ±lr whatever the gradient's size, but for gradients near 0
    assert!(distance(whole.policy(), parts.policy()) < 2e-4);
}

#[test]
fn step_learns_nothing_from_equal_and_missing_rewards() {
    let (rollouts, mut rewards) = tables();
    for row in &mut rewards {
        row.reward = Some(0.5);
    }
    rewards[3].reward = None;
    rewards[3].status = Status::JudgeFailed;
    let (trainer, advantages, metrics) = run(&config(), &rollouts, &rewards);
    assert_eq!(metrics, Metrics::from([("updates".to_owned(), 0.0)]), "there is no loss");
    assert_eq!(distance(trainer.policy(), &model()), 0.0);
    assert_eq!(advantages[3], None);
}

#[test]
fn mask_truncated_completions_takes_the_advantage_and_keeps_the_reward() {
    let (rollouts, rewards) = tables();
    let config = GrpoConfig { mask_truncated_completions: true, ..config() };
    let (_, advantages, _) = run(&config, &rollouts, &rewards);
    assert_eq!(advantages[1], None);
    assert!(advantages[0].unwrap() > 0.7, "it is compared with the truncated completion");
}

#[test]
fn several_updates_per_step_use_the_old_policy_and_the_reference() {
    let (rollouts, rewards) = tables();
    let mut config = GrpoConfig { num_iterations: 2, updates_per_pass: 2, ..config() };
    config.loss.kl.weight = 0.1;
    config.learner.optim.lr = 2e-2;
    let (trainer, _, metrics) = run(&config, &rollouts, &rewards);
    assert_eq!(trainer.n_updates(), 4);
    assert!(metrics["kl"] > 0.0, "{metrics:?}");
    assert!(metrics["clip_ratio/region_mean"] > 0.0, "{metrics:?}");
}

#[test]
fn step_takes_the_divergence_out_of_rewards_where_the_config_says_so() {
    let (rollouts, rewards) = tables();
    let other = || {
        let reference = model();
        let _guard = tch::no_grad_guard();
        for (_, mut parameter) in reference.named_parameters() {
            let _ = parameter.g_mul_scalar_(0.9);
        }
        reference
    };
    let step_of = |preset: Preset, place: KlPlace| {
        let kl = KlTerm { weight: 0.5, estimator: KlEstimator::K1, place, ..KlTerm::default() };
        let loss = LossConfig { preset, kl, ..LossConfig::default() };
        let config = GrpoConfig { loss, ..config() };
        let mut trainer = GrpoTrainer::new(
            model(),
            Some(other().into()),
            &config,
            1,
            SamplerNumbers::Same,
            alone(),
        )
        .unwrap();
        let outcome = step(&mut trainer, &rollouts, &rewards).unwrap();
        let advantages = outcome.advantages.as_primitive::<Float64Type>().iter();
        (advantages.map(Option::unwrap).collect::<Vec<f64>>(), outcome.metrics)
    };
    let rows = rollouts.iter().zip(&rewards);
    let penalized: Vec<f64> = rows
        .map(|(row, reward)| {
            let kl = logprob_sum(&model(), row) - logprob_sum(&other(), row);
            reward.reward.unwrap() - 0.5 * f64::from(kl)
        })
        .collect();
    let (seen, metrics) = step_of(Preset::Rloo, KlPlace::Reward);
    for (row, seen) in seen.iter().enumerate() {
        // two members: each against the other
        let wanted = penalized[row] - penalized[row ^ 1];
        assert!((seen - wanted).abs() < 1e-4, "{row}: {seen}, wanted {wanted}");
    }
    let n_tokens: usize = rollouts.iter().map(|row| row.completion_token_ids.len()).sum();
    let rewards_sum: f64 = rewards.iter().map(|row| row.reward.unwrap()).sum();
    let wanted = (rewards_sum - penalized.iter().sum::<f64>()) / 0.5 / n_tokens as f64;
    assert!((metrics["kl"] - wanted).abs() < 1e-5, "{}: {wanted}", metrics["kl"]);
    assert!(wanted.abs() > 1e-3);
    // rewards of tokens: the first one's has the divergence of all
    let (of_tokens, _) = step_of(Preset::ReinforcePlusPlus, KlPlace::Reward);
    assert!(of_tokens.iter().sum::<f64>().abs() < 1.0 && of_tokens[0] > of_tokens[1]);
    let (in_loss, _) = step_of(Preset::Rloo, KlPlace::Loss);
    assert_eq!(in_loss, [1.0, -1.0, 1.0, -1.0]);
}

#[test]
fn step_refuses_a_negative_reward_where_the_mean_is_a_divisor() {
    let kl = KlTerm { weight: 0.1, place: KlPlace::Reward, ..KlTerm::default() };
    let with_kl = LossConfig { preset: Preset::MaxRl, kl, ..LossConfig::default() };
    let problems = GrpoConfig { loss: with_kl, ..config() }.validate();
    assert!(problems.len() == 1 && problems[0].contains("loss.kl.place is reward"), "{problems:?}");
    let (rollouts, mut rewards) = tables();
    rewards[1].reward = Some(-0.5);
    let loss = LossConfig { preset: Preset::MaxRl, ..LossConfig::default() };
    let config = GrpoConfig { loss, ..config() };
    let mut trainer =
        GrpoTrainer::new(model(), None, &config, 1, SamplerNumbers::Same, alone()).unwrap();
    let message = step(&mut trainer, &rollouts, &rewards).unwrap_err().to_string();
    assert!(message.contains("a reward is -0.5, wanted at least 0"), "{message}");
}

#[test]
fn step_refuses_tables_that_do_not_fit_together() {
    let (rollouts, rewards) = tables();
    let message = |rollouts: &[Rollout], rewards: &[Reward]| {
        let mut trainer =
            GrpoTrainer::new(model(), None, &config(), 1, SamplerNumbers::Same, alone()).unwrap();
        step(&mut trainer, rollouts, rewards).unwrap_err().to_string()
    };
    assert_eq!(message(&rollouts[..3], &rewards), "batch: rollouts has 3 rows, rewards has 4");
    assert_eq!(
        message(&rollouts[..3], &rewards[..3]),
        "batch: rollouts has 3 rows, the groups have 4"
    );
    let mut swapped = rewards.clone();
    swapped.swap(0, 1);
    assert_eq!(
        message(&rollouts, &swapped),
        "batch: row 0 is group g0 member 0 in rollouts, group g0 member 1 in rewards"
    );
    let (mut twice, mut twice_scored) = (rollouts.clone(), rewards.clone());
    twice[1].member = Member(0);
    twice_scored[1].member = Member(0);
    assert_eq!(
        message(&twice, &twice_scored),
        "batch: row 1 is group g0 member 0 after group g0 member 0, wanted the members of a group \
         in ascending order"
    );
    let mut without_logprobs = rollouts.clone();
    without_logprobs[0].completion_logprobs.clear();
    assert_eq!(
        message(&without_logprobs, &rewards),
        "batch: group g0 member 0: 0 log-probabilities for 2 tokens"
    );
    let mut empty = rollouts.clone();
    empty[0].completion_token_ids.clear();
    empty[0].completion_logprobs.clear();
    empty[0].behaviour_logprobs = Some(Vec::new());
    assert!(message(&empty, &rewards).contains("empty prompt or completion"));
}

fn grpo_config(case: &Value) -> GrpoConfig {
    let settings = &case["settings"];
    let or = |key: &str, default: Value| settings.get(key).cloned().unwrap_or(default);
    GrpoConfig {
        loss: LossConfig {
            preset: serde_json::from_value(case["loss_type"].clone()).unwrap(),
            kl: KlTerm { weight: or("beta", 0.0.into()).as_f64().unwrap(), ..KlTerm::default() },
            entropy: EntropyTerm {
                weight: or("entropy_coef", 0.0.into()).as_f64().unwrap(),
                top_share: or("top_entropy_quantile", 1.0.into()).as_f64().unwrap(),
            },
            ..LossConfig::default()
        },
        scale_rewards: serde_json::from_value(or("scale_rewards", Value::Null)).unwrap(),
        mask_truncated_completions: or("mask_truncated_completions", false.into()) == true,
        ..config()
    }
}

/// The tables of tests/golden/grpo_step.json with the rewards of a case.
fn golden_tables(golden: &Value, rewards: &Value) -> (Vec<Rollout>, Vec<Reward>) {
    let ids = |value: &Value| -> Vec<i32> { serde_json::from_value(value.clone()).unwrap() };
    let group_size = golden["group_size"].as_u64().unwrap() as usize;
    let completions = golden["completions"].as_array().unwrap();
    let rows = completions.iter().zip(rewards.as_array().unwrap()).enumerate();
    rows.map(|(idx, (completion, reward))| {
        let (group, member) = (idx / group_size, Member((idx % group_size) as u32));
        let group_id = GroupId(format!("g{group}"));
        let completion_token_ids = ids(completion);
        let ended = completion_token_ids.last().map(|&id| i64::from(id)) == golden["eos"].as_i64();
        let (mut rollouts, mut scored) = tables();
        let rollout = Rollout {
            group_id: group_id.clone(),
            member,
            prompt_token_ids: ids(&golden["prompts"][group]),
            completion_logprobs: vec![-3.0; completion_token_ids.len()],
            behaviour_logprobs: Some(vec![-3.0; completion_token_ids.len()]),
            completion_token_ids,
            finish_reason: if ended { FinishReason::Stop } else { FinishReason::Length },
            ..rollouts.remove(0)
        };
        let status = if reward.is_null() { Status::JudgeFailed } else { Status::Scored };
        let reward = reward.as_f64();
        (rollout, Reward { group_id, member, status, reward, ..scored.remove(0) })
    })
    .unzip()
}

#[test]
fn step_equals_trl_with_truncated_completions_and_missing_rewards() {
    let golden = golden("grpo_step.json");
    let path = format!("{}/../tests/golden/models/tiny-qwen2", env!("CARGO_MANIFEST_DIR"));
    let open = || {
        let files = joust_engine::folder::open(std::path::Path::new(&path)).unwrap();
        files.decoder(Device::Cpu, Kind::Float).unwrap()
    };
    let info = StepInfo {
        max_completion_length: golden["max_completion_length"].as_u64().unwrap() as usize,
        ..info()
    };
    for case in golden["cases"].as_array().unwrap() {
        let name = format!("{} {}", case["name"], case["loss_type"]);
        let config = grpo_config(case);
        let temperature = case["settings"]["temperature"].as_f64().unwrap_or(1.0);
        let info = StepInfo { temperature, ..info };
        let reference = config.has_reference().then(|| {
            let reference = open();
            let _guard = tch::no_grad_guard();
            let named = reference.named_parameters();
            let (_, head) = named.iter().find(|(name, _)| name.starts_with("lm_head")).unwrap();
            let _ = head.shallow_clone().g_mul_scalar_(0.5);
            reference.into()
        });
        let (rollouts, rewards) = golden_tables(&golden, &case["rewards"]);
        let tables = ScoredTables {
            rollouts: &Rollout::to_batch(&rollouts).unwrap(),
            rewards: &Reward::to_batch(&rewards).unwrap(),
            groups: &[4, 4].into_iter().collect(),
        };
        let mut trainer =
            GrpoTrainer::new(open(), reference, &config, 1, SamplerNumbers::Same, alone()).unwrap();
        let outcome = trainer.step(&tables, &info).unwrap();
        for key in ["loss", "grad_norm"] {
            let (seen, wanted) = (outcome.metrics[key], case[key].as_f64().unwrap());
            let allowed = 1e-4 * wanted.abs().max(0.1);
            assert!((seen - wanted).abs() < allowed, "{name}: {key} {seen}, TRL says {wanted}");
        }
        let advantages = outcome.advantages.as_primitive::<Float64Type>();
        for (row, wanted) in case["advantages"].as_array().unwrap().iter().enumerate() {
            let is_masked = config.mask_truncated_completions
                && rollouts[row].finish_reason == FinishReason::Length;
            let seen = advantages.iter().nth(row).flatten();
            match is_masked || rewards[row].reward.is_none() {
                true => assert_eq!(seen, None, "{name} row {row}"),
                false => assert!((seen.unwrap() - wanted.as_f64().unwrap()).abs() < 1e-5, "{name}"),
            }
        }
    }
}

#[test]
fn online_dpo_learns_as_dpo_from_the_best_and_the_worst_completion_of_each_group() {
    let (rollouts, mut rewards) = tables();
    // the second completion of the second group is preferred
    rewards[3].reward = Some(1.5);
    let learner = config().learner;
    let online = OnlineDpo { beta: 0.3, sft_weight: 0.5, ..OnlineDpo::default() };
    let config =
        GrpoConfig { online_dpo: Some(online), learner: learner.clone(), ..GrpoConfig::default() };
    let mut trainer =
        GrpoTrainer::new(model(), Some(model().into()), &config, 2, SamplerNumbers::Same, alone())
            .unwrap();
    let outcome = step(&mut trainer, &rollouts, &rewards).unwrap();

    let ids = |ids: &[i32]| ids.iter().map(|&id| id as u32).collect::<Vec<u32>>();
    let sides = outcome.advantages.as_primitive::<Float64Type>();
    let row_of = |rows: std::ops::Range<usize>, side: f64| {
        rows.clone().find(|&row| sides.iter().nth(row).flatten() == Some(side)).unwrap()
    };
    let mut pairs = Vec::new();
    let mut start = 0;
    for group in rollouts.chunk_by(|a, b| a.group_id == b.group_id) {
        let rows = start..start + group.len();
        start = rows.end;
        let (chosen, rejected) = (row_of(rows.clone(), 1.0), row_of(rows, -1.0));
        assert!(rewards[chosen].reward > rewards[rejected].reward);
        pairs.push(DpoPair {
            prompt: ids(&rollouts[chosen].prompt_token_ids),
            chosen: ids(&rollouts[chosen].completion_token_ids),
            rejected: ids(&rollouts[rejected].completion_token_ids),
        });
    }
    assert_eq!(sides.iter().flatten().count(), 2 * pairs.len());
    let dpo = DpoConfig { beta: 0.3, sft_weight: 0.5, learner, ..DpoConfig::default() };
    let mut offline = DpoTrainer::new(model(), model(), &dpo, 2, alone()).unwrap();
    let wanted = offline.step(&pairs, 0).unwrap();
    for key in ["loss", "grad_norm", "rewards/margins", "logps/chosen", "entropy"] {
        let (seen, wanted) = (outcome.metrics[key], wanted[key]);
        assert!((seen - wanted).abs() < 1e-6 * wanted.abs().max(1.0), "{key}: {seen}, {wanted}");
    }
    rewards.iter_mut().for_each(|reward| reward.reward = Some(0.5));
    let outcome = step(&mut trainer, &rollouts, &rewards).unwrap();
    assert_eq!(outcome.metrics["updates"], 0.0);
    let with_preset = LossConfig { preset: Preset::Grpo, ..LossConfig::default() };
    let wrong = GrpoConfig { online_dpo: Some(online), loss: with_preset, ..GrpoConfig::default() };
    assert!(wrong.validate()[0].contains("online_dpo is set, wanted loss"));
}

#[test]
fn schedule_goes_on_in_steps_without_an_update() {
    let (rollouts, rewards) = tables();
    let mut flat = rewards.clone();
    flat.iter_mut().for_each(|row| row.reward = Some(0.1));
    let mut config = GrpoConfig { updates_per_pass: 2, ..config() };
    config.learner.optim.schedule.kind = Schedule::Linear;
    let peak = config.learner.optim.lr;
    let mut trainer =
        GrpoTrainer::new(model(), None, &config, 4, SamplerNumbers::Same, alone()).unwrap();
    let mut step = |number: u64, rewards: &[Reward]| {
        let tables = ScoredTables {
            rollouts: &Rollout::to_batch(&rollouts).unwrap(),
            rewards: &Reward::to_batch(rewards).unwrap(),
            groups: &[2, 2].into_iter().collect(),
        };
        trainer.step(&tables, &StepInfo { step: number, ..info() }).unwrap().metrics
    };
    // eight places of the schedule, two per step; the metric is that of the step's last update
    let metrics = step(1, &rewards);
    assert!((metrics["learning_rate"] / peak - 7.0 / 8.0).abs() < 1e-12, "{metrics:?}");
    assert_eq!(step(2, &flat)["updates"], 0.0);
    assert_eq!(step(3, &flat)["updates"], 0.0);
    let metrics = step(4, &rewards);
    assert!((metrics["learning_rate"] / peak - 1.0 / 8.0).abs() < 1e-12, "{metrics:?}");
    assert_eq!(metrics["updates"], 2.0);
}

#[test]
fn step_fails_where_the_update_makes_weights_that_are_not_finite() {
    let (rollouts, rewards) = tables();
    let mut trainer =
        GrpoTrainer::new(model(), None, &config(), 1, SamplerNumbers::Same, alone()).unwrap();
    // no config has it: the check must not depend on the bounds of the keys
    trainer.learner.config.optim.lr = f64::INFINITY;
    let error = step(&mut trainer, &rollouts, &rewards).unwrap_err();
    assert!(matches!(error, Error::BadWeights { update: 1 }), "{error}");
    assert!(trainer.learner.check_usable().is_err());
}

#[test]
fn weights_are_not_usable_where_they_or_the_logits_are_not_finite() {
    let usable = |change: &dyn Fn(&mut Tensor)| {
        let trainer =
            GrpoTrainer::new(model(), None, &config(), 1, SamplerNumbers::Same, alone()).unwrap();
        let guard = tch::no_grad_guard();
        for (_, tensor) in trainer.learner.model().named_parameters() {
            change(&mut tensor.detach());
        }
        drop(guard);
        trainer.learner.check_usable().is_ok()
    };
    assert!(usable(&|_| {}));
    // each of them finite, their products are not
    assert!(!usable(&|tensor| drop(tensor.fill_(1e30))));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        // a single number in the tensors with biases, of which the first token sees nothing
        assert!(!usable(&|tensor| drop(tensor.view([-1]).get(-1).fill_(value))));
    }
}

#[test]
fn advantage_rule_is_that_of_the_preset_unless_keys_differ() {
    let of = |config: Value| -> GrpoConfig { serde_json::from_value(config).unwrap() };
    let rule = |config: Value| {
        let AdvantageRule { baseline, scale } = of(config).advantage_rule();
        json!([baseline, scale])
    };
    for (preset, wanted) in [
        ("dapo", ["group_mean", "group"]),
        ("dr_grpo", ["group_mean", "group"]),
        ("rloo", ["leave_one_out", "none"]),
        ("reinforce++", ["none", "whiten"]),
        ("reinforce++_baseline", ["group_mean", "whiten"]),
    ] {
        let loss = json!({"preset": preset});
        assert_eq!(rule(json!({"loss": loss})), json!(wanted), "{preset}");
        let batch = json!({"loss": loss, "scale_rewards": "batch"});
        assert_eq!(rule(batch.clone())[1], "batch", "{preset}");
        let problems = of(batch).validate().join("; ");
        assert_eq!(problems.contains("scale_rewards divides"), preset == "reinforce++", "{preset}");
    }
    let sync = json!({"every": 2});
    let without = of(json!({"sync_ref_model": sync})).validate().join("; ");
    assert!(without.contains("wanted loss.kl.weight above 0"), "{without}");
    let with = json!({"sync_ref_model": sync, "loss": {"kl": {"weight": 0.1}}});
    assert!(of(with.clone()).validate().is_empty());
    let mut adapters = with;
    adapters["learner"] = json!({"lora": {"r": 2}});
    let adapters = of(adapters).validate().join("; ");
    assert!(adapters.contains("sync_ref_model is set with learner.lora"), "{adapters}");
}
