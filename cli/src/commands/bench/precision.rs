//! `joust bench precision`: the same weights in bf16 and in FP8, on the same prompts.

use clap::Args;
use joust_engine::device::Quantization;
use joust_schema::seed::Seed;
use serde::Serialize;

use super::model::BenchModel;
use crate::output;

/// Arguments of `joust bench precision`.
#[derive(Args)]
pub(crate) struct PrecisionBenchArgs {
    #[command(flatten)]
    model: BenchModel,
    /// Number of prompts.
    #[arg(long, default_value_t = 8)]
    prompts: usize,
    /// Number of tokens per prompt.
    #[arg(long, default_value_t = 256)]
    prompt: usize,
}

#[derive(Serialize)]
struct PrecisionBench {
    bench: &'static str,
    model: String,
    prompts: usize,
    prompt: usize,
    /// ‖logits of FP8 − logits‖ / ‖logits‖, mean over prompts.
    relative_error: f64,
    relative_error_max: f64,
    /// Σ p · ln(p / p of FP8) over the vocabulary, mean over prompts.
    kl_mean: f64,
    kl_max: f64,
    /// Share of prompts with the same most probable next token.
    same_best_token: f64,
}

pub(crate) fn run(args: PrecisionBenchArgs) -> anyhow::Result<()> {
    let logits = |quantization| -> anyhow::Result<Vec<Vec<f32>>> {
        // one engine at a time: two may not fit into memory
        let mut engine = args.model.open(|config| {
            config.quantization = quantization;
            config.max_batch = 1;
        })?;
        let n_vocab = engine.model().config().vocab_size as u64;
        let after = |number: usize| {
            let seed = Seed::new(0).child("prompt", number as u64);
            let token = |at: usize| (seed.child("token", at as u64).0 % n_vocab) as u32;
            let prompt: Vec<u32> = (0..args.prompt).map(token).collect();
            Ok(engine.next_logits(&prompt)?)
        };
        (0..args.prompts).map(after).collect()
    };
    let plain = logits(Quantization::Off)?;
    let fp8 = logits(Quantization::Fp8)?;
    let pairs = || plain.iter().zip(&fp8);
    let errors: Vec<f64> = pairs().map(|(plain, fp8)| relative_error(plain, fp8)).collect();
    let kls: Vec<f64> = pairs().map(|(plain, fp8)| kl(plain, fp8)).collect();
    let n_same = pairs().filter(|(plain, fp8)| best_token(plain) == best_token(fp8)).count();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let max = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
    output::json_lines(
        None,
        &[PrecisionBench {
            bench: "precision",
            model: args.model.name(),
            prompts: args.prompts,
            prompt: args.prompt,
            relative_error: mean(&errors),
            relative_error_max: max(&errors),
            kl_mean: mean(&kls),
            kl_max: max(&kls),
            same_best_token: n_same as f64 / args.prompts as f64,
        }],
    )
}

fn relative_error(plain: &[f32], fp8: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = plain.iter().zip(fp8).map(|(a, b)| square(a - b)).sum();
    (off / plain.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

/// Σ p · (ln p − ln q), p the softmax of `plain` and q that of `fp8`.
fn kl(plain: &[f32], fp8: &[f32]) -> f64 {
    let (p, q) = (log_softmax(plain), log_softmax(fp8));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|&x| f64::from(x - peak)).collect();
    let total = shifted.iter().map(|x| x.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|x| x - total).collect()
}

fn best_token(logits: &[f32]) -> Option<usize> {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
}
