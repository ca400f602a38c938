//! `joust bench train`: steps of GRPO on random prompts and rewards, with the time of each part.

use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use joust_dist::Collectives;
use joust_engine::{
    Decoder, Engine, EngineConfig, Request, RequestId, Sample, SamplingParams, Tokenizer, folder,
};
use joust_schema::ids::{GroupId, Member, PolicyVersion};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{Reward, Rollout, Status};
use joust_trainer::objective::SamplerNumbers;
use joust_trainer::{FirstWeights, GrpoConfig, GrpoTrainer, ScoredTables, StepInfo, TrainSeconds};
use serde::Serialize;
use tch::Kind;

use super::model::{BenchModel, peak_rss_mb};
use crate::output;

/// Arguments of `joust bench train`.
#[derive(Args)]
pub(crate) struct TrainBenchArgs {
    #[command(flatten)]
    model: BenchModel,
    /// Number of prompts per step.
    #[arg(long, default_value_t = 8)]
    prompts: usize,
    /// Number of completions per prompt.
    #[arg(long, default_value_t = 8)]
    completions: u32,
    /// Number of tokens per prompt.
    #[arg(long, default_value_t = 64)]
    prompt_tokens: usize,
    /// Number of tokens per completion.
    #[arg(long, default_value_t = 64)]
    completion_tokens: usize,
    /// Number of measured steps, after one that warms up.
    #[arg(long, default_value_t = 2)]
    steps: u64,
    /// Adds the divergence from a reference model to the loss.
    #[arg(long)]
    reference: bool,
    /// Keeps only the input of each layer for the gradient, and computes each layer a second time.
    #[arg(long)]
    checkpoint_activations: bool,
    /// Maximum size of a tensor of logits in training, in MiB.
    #[arg(long, default_value_t = GrpoConfig::default().learner.logits_mib)]
    logits_mib: usize,
    /// Maximum number of tokens per micro-batch, with the prompt of a group once.
    #[arg(long, default_value_t = GrpoConfig::default().learner.micro_batch_tokens)]
    micro_batch_tokens: usize,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Seconds are means per step. On a GPU, work counts where its result is waited for.
#[derive(Serialize)]
struct TrainBench {
    bench: &'static str,
    model: String,
    device: &'static str,
    dtype: &'static str,
    threads: i32,
    prompts: usize,
    completions: u32,
    prompt_tokens: usize,
    completion_tokens: usize,
    steps: u64,
    checkpoint_activations: bool,
    logits_mib: usize,
    micro_batch_tokens: usize,
    sampling_s: f64,
    reference_s: Option<f64>,
    forward_s: f64,
    backward_s: f64,
    optimizer_s: f64,
    /// Sampled tokens per second of sampling.
    sampling_tokens_per_s: f64,
    /// Tokens of prompts and completions per second of training.
    training_tokens_per_s: f64,
    /// Peak host memory until the first step.
    loading_rss_mb: f64,
    /// Peak host memory of the whole run.
    peak_rss_mb: f64,
}

pub(crate) fn run(args: TrainBenchArgs) -> anyhow::Result<()> {
    let engine = args.model.engine.config();
    let settings = EngineConfig {
        max_batch: (args.prompts * args.completions as usize).max(1),
        max_queue: 0,
        max_context: match engine.max_context {
            0 => args.prompt_tokens + args.completion_tokens,
            limit => limit,
        },
        ..engine
    };
    let (mut trainer, mut engine) = open(&args, &settings)?;
    let loading_rss_mb = peak_rss_mb();
    let (mut sampling_s, mut before) = (0.0, TrainSeconds::default());
    for step in 0..=args.steps {
        if step == 1 {
            (sampling_s, before) = (0.0, trainer.seconds());
        }
        let started = Instant::now();
        let samples = engine.generate(requests(&args, &engine, step))?;
        sampling_s += started.elapsed().as_secs_f64();
        engine.release()?;
        train(&mut trainer, &args, step, samples)?;
        engine.publish(trainer.policy())?;
    }
    let after = trainer.seconds();
    let per_step =
        |part: fn(&TrainSeconds) -> f64| (part(&after) - part(&before)) / args.steps.max(1) as f64;
    let sampling_s = sampling_s / args.steps.max(1) as f64;
    let n_rows = args.prompts as f64 * f64::from(args.completions);
    let training_s = per_step(TrainSeconds::total);
    print(
        &TrainBench {
            bench: "train",
            model: args.model.name(),
            device: if trainer.policy().device().is_cuda() { "cuda" } else { "cpu" },
            dtype: joust_engine::device::dtype_name(trainer.compute_kind()),
            threads: joust_engine::device::n_threads(),
            prompts: args.prompts,
            completions: args.completions,
            prompt_tokens: args.prompt_tokens,
            completion_tokens: args.completion_tokens,
            steps: args.steps,
            checkpoint_activations: args.checkpoint_activations,
            logits_mib: args.logits_mib,
            micro_batch_tokens: args.micro_batch_tokens,
            sampling_s,
            reference_s: args.reference.then(|| per_step(|seconds| seconds.fixed_s)),
            forward_s: per_step(|seconds| seconds.forward_s),
            backward_s: per_step(|seconds| seconds.backward_s),
            optimizer_s: per_step(|seconds| seconds.optimizer_s),
            sampling_tokens_per_s: n_rows * args.completion_tokens as f64 / sampling_s,
            training_tokens_per_s: n_rows * (args.prompt_tokens + args.completion_tokens) as f64
                / training_s,
            loading_rss_mb,
            peak_rss_mb: peak_rss_mb(),
        },
        args.json,
    )
}

/// The policy in training, and an engine that samples from it: with the same weights where both
/// compute in the same number format.
fn open(args: &TrainBenchArgs, settings: &EngineConfig) -> anyhow::Result<(GrpoTrainer, Engine)> {
    let device = settings.device.resolve()?;
    let (policy, tokenizer) = match args.model.random_weights {
        true => {
            let config = folder::open_config(&args.model.model)?;
            let policy =
                Decoder::drawn_on_device(&config, Seed::new(0), device, Kind::Float.into())?;
            (policy, Tokenizer::from_folder(&args.model.model)?)
        }
        false => {
            let files = folder::open(&args.model.model)?;
            (files.decoder(device, Kind::Float)?, files.tokenizer)
        }
    };
    let reference = args.reference.then(|| policy.duplicate(device, Kind::Float)).transpose()?;
    let mut config = GrpoConfig::default();
    config.loss.kl.weight = if args.reference { 0.01 } else { 0.0 };
    config.learner.compute_dtype = settings.dtype;
    config.learner.working_dtype = settings.dtype;
    config.learner.checkpoint_activations = args.checkpoint_activations;
    config.learner.logits_mib = args.logits_mib;
    config.learner.micro_batch_tokens = args.micro_batch_tokens;
    let n_steps = args.steps + 1;
    let trainer = GrpoTrainer::new(
        policy,
        reference.map(FirstWeights::from),
        &config,
        n_steps,
        SamplerNumbers::Same,
        Arc::new(Collectives::single(device)),
    )?;
    let policy = trainer.policy();
    let precision = settings.quantization.resolve(device, settings.dtype, false)?;
    let sampler = match precision == policy.kind().into() {
        true => policy.shared(),
        false => policy.duplicate(device, precision)?,
    };
    let engine = Engine::new(sampler, Arc::new(tokenizer), settings)?;
    Ok((trainer, engine))
}

/// Random prompts, each different.
fn requests(args: &TrainBenchArgs, engine: &Engine, step: u64) -> Vec<Request> {
    let n_vocab = engine.model().config().vocab_size as u64;
    let request = |prompt: usize| {
        let seed = Seed::new(step).child("prompt", prompt as u64);
        let token = |at: usize| (seed.child("token", at as u64).0 % n_vocab) as u32;
        let params = SamplingParams {
            n: args.completions,
            max_tokens: args.completion_tokens,
            temperature: 1.0,
            seed: seed.child("sampling", 0).0,
            ignore_eos: true,
            ..SamplingParams::default()
        };
        let tokens = (0..args.prompt_tokens).map(token).collect();
        Request::new(RequestId(prompt as u64), tokens, params)
    };
    (0..args.prompts).map(request).collect()
}

/// One step on samples with random rewards.
fn train(
    trainer: &mut GrpoTrainer,
    args: &TrainBenchArgs,
    step: u64,
    mut samples: Vec<Sample>,
) -> anyhow::Result<()> {
    samples.sort_by_key(|sample| (sample.request_id, sample.index));
    let n_vocab = trainer.policy().config().vocab_size as u64;
    let seed = Seed::new(step);
    let prompt_tokens = |prompt: u64| {
        let seed = seed.child("prompt", prompt);
        (0..args.prompt_tokens).map(move |at| (seed.child("token", at as u64).0 % n_vocab) as i32)
    };
    let (mut rollouts, mut rewards) = (Vec::new(), Vec::new());
    for (row, sample) in samples.into_iter().enumerate() {
        let (group_id, member) = (GroupId(sample.request_id.0.to_string()), Member(sample.index));
        rollouts.push(Rollout {
            step: step as i64,
            group_id: group_id.clone(),
            member,
            prompt_id: group_id.0.as_str().into(),
            policy_version: PolicyVersion(step as i64),
            prompt: String::new(),
            completion: sample.text,
            prompt_token_ids: prompt_tokens(sample.request_id.0).collect(),
            completion_token_ids: sample.token_ids.iter().map(|&id| id as i32).collect(),
            completion_logprobs: sample.logprobs,
            behaviour_logprobs: Some(sample.behaviour_logprobs),
            finish_reason: sample.finish_reason,
            seed: 0,
        });
        rewards.push(Reward {
            group_id,
            member,
            status: Status::Scored,
            reward: Some(seed.child("reward", row as u64).unit()),
            win_rate: None,
            rating: None,
            rating_stderr: None,
            wins: 0,
            losses: 0,
            rank: None,
            advantage: None,
        });
    }
    let tables = ScoredTables {
        rollouts: &Rollout::to_batch(&rollouts)?,
        rewards: &Reward::to_batch(&rewards)?,
        groups: &std::iter::repeat_n(args.completions as usize, args.prompts).collect(),
    };
    let info = StepInfo {
        step: step + 1,
        seed,
        temperature: 1.0,
        max_completion_length: args.completion_tokens,
    };
    trainer.step(&tables, &info)?;
    Ok(())
}

fn print(figures: &TrainBench, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json_lines(None, std::slice::from_ref(figures));
    }
    let TrainBench { model, device, dtype, threads, .. } = figures;
    output::line(format!("{model}: training in {dtype} on {device}, {threads} threads"));
    output::line(format!(
        "{} prompts of {} tokens, {} completions of {} tokens each",
        figures.prompts, figures.prompt_tokens, figures.completions, figures.completion_tokens
    ));
    let parts = [
        ("sampling", Some(figures.sampling_s)),
        ("reference", figures.reference_s),
        ("forward", Some(figures.forward_s)),
        ("backward", Some(figures.backward_s)),
        ("optimiser", Some(figures.optimizer_s)),
    ];
    for (part, seconds) in parts {
        if let Some(seconds) = seconds {
            output::line(format!("{part:<12}{seconds:>9.3} s per step"));
        }
    }
    let rates =
        [("sampling", figures.sampling_tokens_per_s), ("training", figures.training_tokens_per_s)];
    for (part, rate) in rates {
        output::line(format!("{part:<12}{rate:>9.0} tokens per second"));
    }
    output::line(format!("{:<12}{:>9.0} MB at its peak", "memory", figures.peak_rss_mb));
    Ok(())
}
