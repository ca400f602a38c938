//! `joust bench engine`: prefill and decode on random prompts, each sequence with a context of its
//! own, greedy, without stops.

use std::time::Instant;

use clap::Args;
use joust_engine::{Engine, Request, RequestId, SamplingParams};
use joust_schema::seed::Seed;
use serde::Serialize;

use super::{BenchModel, median};
use crate::output;

/// Arguments of `joust bench engine`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    model: BenchModel,
    /// Tokens of each prompt.
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    /// Tokens that are measured after each prompt.
    #[arg(long, default_value_t = 64)]
    new: usize,
    /// Batch sizes to decode at.
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    batch: Vec<usize>,
    /// Times that each figure is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    reps: usize,
}

#[derive(Serialize)]
struct Figures {
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
    decode: Vec<Decode>,
    weights_mb: f64,
    kv_bytes_per_token: usize,
    kv_tokens: usize,
    gpu_used_mb: Option<f64>,
    /// Most memory of the host until the model was loaded, and at all.
    loading_rss_mb: f64,
    peak_rss_mb: f64,
}

#[derive(Serialize)]
struct Decode {
    batch: usize,
    tokens_per_s: f64,
    step_ms: f64,
}

pub(crate) fn run(args: BenchArgs) -> anyhow::Result<()> {
    let largest = args.batch.iter().copied().max().unwrap_or(1).max(1);
    let mut engine = args.model.open(|config| {
        config.max_batch = largest;
        // random prompts of a small vocabulary begin alike: each is computed in full all the same
        config.prefix_cache = false;
    })?;
    let loading_rss_mb = peak_rss_mb();
    let mut prompts = Prompts { n_vocab: engine.model().config().vocab_size, n_made: 0 };
    let mut prefill = Vec::new();
    // the first one warms up
    for _ in 0..=args.reps.max(3) {
        let params = SamplingParams { max_tokens: 1, temperature: 0.0, ..Default::default() };
        let start = Instant::now();
        engine.generate(vec![prompts.request(args.prompt, params)])?;
        prefill.push(start.elapsed().as_secs_f64());
    }
    let prefill_s = median(&mut prefill[1..]);
    let mut decode = Vec::new();
    let mut failed = None;
    for &batch in &args.batch {
        let mut steps = Vec::new();
        for _ in 0..args.reps {
            match decode_steps(&mut engine, &mut prompts, batch, &args) {
                Ok(more) => steps.extend(more),
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_some() {
            // what was measured before is worth having
            break;
        }
        let step_s = median(&mut steps);
        decode.push(Decode { batch, tokens_per_s: batch as f64 / step_s, step_ms: step_s * 1e3 });
    }
    let model = engine.model();
    let printed = output::json_lines(
        None,
        &[Figures {
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

fn peak_rss_mb() -> f64 {
    joust_engine::device::peak_memory_bytes() as f64 / 1e6
}

/// Seconds of each of `new` steps in which all of `batch` sequences decode.
fn decode_steps(
    engine: &mut Engine,
    prompts: &mut Prompts,
    batch: usize,
    args: &BenchArgs,
) -> anyhow::Result<Vec<f64>> {
    let before = engine.stats().computed_prompt_tokens;
    let wanted = before + (batch * args.prompt) as u64;
    for _ in 0..batch {
        let params = SamplingParams {
            // those that start first must last as long as the last
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

/// A step after which all sequences are still at work: one that ended or lost its memory would
/// leave the others to be measured without it.
fn step(engine: &mut Engine, batch: usize, args: &BenchArgs) -> anyhow::Result<()> {
    let ended = engine.step()?;
    let stats = engine.stats();
    anyhow::ensure!(
        ended.is_empty() && stats.preemptions == 0,
        "{batch} prompts of {} tokens and {} new ones do not fit contexts of {} tokens in a memory for {}: those that \
         start first decode while the others are read (--prompt, --new, --batch, --kv-memory-mib)",
        args.prompt,
        args.new,
        engine.max_context(),
        stats.kv_tokens,
    );
    Ok(())
}

/// Random prompts, no two alike.
struct Prompts {
    n_vocab: usize,
    n_made: u64,
}

impl Prompts {
    fn request(&mut self, n_tokens: usize, params: SamplingParams) -> Request {
        let seed = Seed::new(0).child("prompt", self.n_made);
        self.n_made += 1;
        let token = |at: usize| (seed.child("token", at as u64).0 % self.n_vocab as u64) as u32;
        Request::new(RequestId(self.n_made), (0..n_tokens).map(token).collect(), params)
    }
}
