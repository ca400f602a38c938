//! `joust bench engine`: prefill and decode of random prompts; greedy, without stops, and each
//! sequence with a context of its own.

use std::time::Instant;

use clap::Args;
use joust_engine::{Engine, Request, RequestId, SamplingParams};
use joust_schema::seed::Seed;
use serde::Serialize;

use super::model::{BenchModel, median, peak_rss_mb};
use crate::output;

/// Arguments of `joust bench engine`.
#[derive(Args)]
pub(crate) struct EngineBenchArgs {
    #[command(flatten)]
    model: BenchModel,
    /// Number of tokens per prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Number of measured tokens after each prompt.
    #[arg(long, default_value_t = 64)]
    new: usize,
    /// Batch sizes of decoding.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batch: Vec<usize>,
    /// Number of measurements per figure; the median counts.
    #[arg(long, default_value_t = 3)]
    reps: usize,
}

#[derive(Serialize)]
struct EngineBench {
    bench: &'static str,
    program: &'static str,
    model: String,
    dtype: String,
    fp8: bool,
    kv_dtype: String,
    threads: i32,
    prompt: usize,
    new: usize,
    prefill_tokens_per_s: f64,
    decode: Vec<DecodeBench>,
    weights_mb: f64,
    kv_bytes_per_token: usize,
    kv_tokens: usize,
    gpu_used_mb: Option<f64>,
    /// Peak host memory until the model was loaded.
    loading_rss_mb: f64,
    /// Peak host memory of the whole run.
    peak_rss_mb: f64,
}

#[derive(Serialize)]
struct DecodeBench {
    batch: usize,
    tokens_per_s: f64,
    step_ms: f64,
}

pub(crate) fn run(args: EngineBenchArgs) -> anyhow::Result<()> {
    let largest = args.batch.iter().copied().max().unwrap_or(1).max(1);
    let mut engine = args.model.open(|config| {
        config.max_batch = largest;
        // with a small vocabulary random prompts may share a prefix: computes each in full
        config.prefix_cache = false;
    })?;
    let loading_rss_mb = peak_rss_mb();
    let mut prompts = RandomPrompts { n_vocab: engine.model().config().vocab_size, n_made: 0 };
    let prefill_s = prefill_seconds(&mut engine, &mut prompts, &args)?;
    let mut decode = Vec::new();
    let mut failed = None;
    for &batch in &args.batch {
        match measure_decode(&mut engine, &mut prompts, batch, &args) {
            Ok(measured) => decode.push(measured),
            Err(error) => {
                // the smaller batches are printed nevertheless
                failed = Some(error);
                break;
            }
        }
    }
    let model = engine.model();
    let printed = output::json_lines(
        None,
        &[EngineBench {
            bench: "engine",
            program: "joust",
            model: args.model.name(),
            dtype: joust_engine::device::dtype_name(model.kind()).to_owned(),
            fp8: model.is_quantized(),
            kv_dtype: args.model.engine.kv_dtype.clone(),
            threads: joust_engine::device::n_threads(),
            prompt: args.prompt,
            new: args.new,
            prefill_tokens_per_s: args.prompt as f64 / prefill_s,
            decode,
            weights_mb: model.n_bytes() as f64 / 1e6,
            kv_bytes_per_token: engine.kv_bytes_per_token(),
            kv_tokens: engine.stats().kv_tokens,
            gpu_used_mb: joust_engine::device::gpu_used_bytes().map(|bytes| bytes as f64 / 1e6),
            loading_rss_mb,
            peak_rss_mb: peak_rss_mb(),
        }],
    );
    match failed {
        Some(error) => printed.and(Err(error)),
        None => printed,
    }
}

/// Median time of the prefill of a prompt, in seconds.
fn prefill_seconds(
    engine: &mut Engine,
    prompts: &mut RandomPrompts,
    args: &EngineBenchArgs,
) -> anyhow::Result<f64> {
    let mut seconds = Vec::new();
    // the first prefill warms up
    for _ in 0..=args.reps.max(3) {
        let params = SamplingParams { max_tokens: 1, temperature: 0.0, ..Default::default() };
        let start = Instant::now();
        engine.generate(vec![prompts.request(args.prompt, params)])?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&mut seconds[1..]))
}

/// Median step of decoding a batch.
fn measure_decode(
    engine: &mut Engine,
    prompts: &mut RandomPrompts,
    batch: usize,
    args: &EngineBenchArgs,
) -> anyhow::Result<DecodeBench> {
    let mut steps = Vec::new();
    for _ in 0..args.reps {
        steps.extend(decode_steps(engine, prompts, batch, args)?);
    }
    let step_s = median(&mut steps);
    Ok(DecodeBench { batch, tokens_per_s: batch as f64 / step_s, step_ms: step_s * 1e3 })
}

/// Seconds of each of `new` steps in which all `batch` sequences decode.
fn decode_steps(
    engine: &mut Engine,
    prompts: &mut RandomPrompts,
    batch: usize,
    args: &EngineBenchArgs,
) -> anyhow::Result<Vec<f64>> {
    let before = engine.stats().computed_prompt_tokens;
    let wanted = before + (batch * args.prompt) as u64;
    for _ in 0..batch {
        let params = SamplingParams {
            // the first sequence must last until the last one has decoded `new` steps
            max_tokens: usize::MAX,
            temperature: 0.0,
            ignore_eos: true,
            ..Default::default()
        };
        engine.submit(prompts.request(args.prompt, params))?;
    }
    while engine.stats().computed_prompt_tokens < wanted {
        step(engine, batch, args)?;
    }
    let mut steps = Vec::with_capacity(args.new);
    for _ in 0..args.new {
        let start = Instant::now();
        step(engine, batch, args)?;
        steps.push(start.elapsed().as_secs_f64());
    }
    engine.clear();
    Ok(steps)
}

/// Computes a step.
///
/// # Errors
/// If a sequence ended or was preempted: the batch would be smaller than measured.
fn step(engine: &mut Engine, batch: usize, args: &EngineBenchArgs) -> anyhow::Result<()> {
    let ended = engine.step()?;
    let stats = engine.stats();
    anyhow::ensure!(
        ended.is_empty() && stats.preemptions == 0,
        "{batch} prompts of {} tokens and {} new ones do not fit contexts of {} tokens in a memory \
         for {}: the first sequences decode while later prompts are read (--prompt, --new, \
         --batch, --kv-memory-mib)",
        args.prompt,
        args.new,
        engine.max_context(),
        stats.kv_tokens,
    );
    Ok(())
}

/// Random prompts, each different.
struct RandomPrompts {
    n_vocab: usize,
    n_made: u64,
}

impl RandomPrompts {
    fn request(&mut self, n_tokens: usize, params: SamplingParams) -> Request {
        let seed = Seed::new(0).child("prompt", self.n_made);
        self.n_made += 1;
        let token = |at: usize| (seed.child("token", at as u64).0 % self.n_vocab as u64) as u32;
        Request::new(RequestId(self.n_made), (0..n_tokens).map(token).collect(), params)
    }
}
