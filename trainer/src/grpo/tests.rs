//! A step on hand-made rollouts: what moves, what does not, and what is refused.

use arrow::array::AsArray as _;
use arrow::datatypes::Float64Type;
use joust_engine::Decoder;
use joust_engine::config::{Family, ModelConfig, PassthroughKeys};
use joust_schema::ids::{GroupId, Member, PolicyVersion};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Reward, Rollout, Status};
use tch::{Device, Kind};

use super::GrpoTrainer;
use super::config::GrpoConfig;
use super::step::{ScoredTables, StepInfo, StepOutcome};
use crate::error::Error;
use crate::learner::LearnerConfig;
use crate::metrics::Metrics;
use crate::optim::OptimConfig;

fn model() -> Decoder {
    let config = ModelConfig {
        family: Family::QWEN2,
        vocab_size: 30,
        hidden_size: 16,
        intermediate_size: 24,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 8,
        max_position: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        tie_word_embeddings: true,
        attention_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
        torch_dtype: None,
        fp8: None,
        kept: PassthroughKeys::default(),
    };
    Decoder::random(&config, Seed::new(1), Device::Cpu, Kind::Float)
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
    StepInfo { seed: Seed::new(0), temperature: 1.0, max_completion_length: 8 }
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
    let reference = (config.beta > 0.0).then(model);
    let mut trainer = GrpoTrainer::new(model(), reference, config, 1).unwrap();
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
    let gain = |row: &Rollout| logprob_sum(trainer.model(), row) - logprob_sum(&model(), row);
    assert!(gain(&rollouts[0]) > 0.0 && gain(&rollouts[1]) < 0.0);
    assert_eq!(metrics["updates"], 1.0);
    assert_eq!(metrics["completions/clipped_ratio"], 0.5);
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
    assert!(distance(whole.model(), parts.model()) < 2e-4);
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
    assert_eq!(metrics["updates"], 0.0);
    assert_eq!(distance(trainer.model(), &model()), 0.0);
    assert_eq!(advantages[3], None);
    assert_eq!(metrics["frac_reward_missing"], 0.25);
}

#[test]
fn mask_truncated_completions_takes_the_advantage_and_keeps_the_reward() {
    let (rollouts, rewards) = tables();
    let config = GrpoConfig { mask_truncated_completions: true, ..config() };
    let (_, advantages, metrics) = run(&config, &rollouts, &rewards);
    assert_eq!(advantages[1], None);
    assert!(advantages[0].unwrap() > 0.7, "it is compared with the truncated completion");
    assert_eq!(metrics["reward"], 0.5);
}

#[test]
fn several_updates_per_step_use_the_old_policy_and_the_reference() {
    let (rollouts, rewards) = tables();
    let mut config = GrpoConfig { num_iterations: 2, updates_per_pass: 2, beta: 0.1, ..config() };
    config.learner.optim.lr = 2e-2;
    let (trainer, _, metrics) = run(&config, &rollouts, &rewards);
    assert_eq!(trainer.n_updates(), 4);
    assert!(metrics["kl"] > 0.0, "{metrics:?}");
    assert!(metrics["clip_ratio/region_mean"] > 0.0, "{metrics:?}");
}

#[test]
fn step_refuses_tables_that_do_not_fit_together() {
    let (rollouts, rewards) = tables();
    let message = |rollouts: &[Rollout], rewards: &[Reward]| {
        let mut trainer = GrpoTrainer::new(model(), None, &config(), 1).unwrap();
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
    assert!(message(&empty, &rewards).contains("empty prompt or completion"));
}
