//! `joust bench votes`: n samples of one prompt, whose keys and values are computed and stored
//! once.

use std::time::Instant;

use clap::Args;
use joust_engine::{Request, RequestId, SamplingParams};
use joust_schema::seed::Seed;
use serde::Serialize;

use super::model::{BenchModel, median};
use crate::output;

/// Arguments of `joust bench votes`.
#[derive(Args)]
pub(crate) struct VotesBenchArgs {
    #[command(flatten)]
    model: BenchModel,
    /// Number of tokens of the prompt.
    #[arg(long, default_value_t = 4_096)]
    prompt: usize,
    /// Number of tokens per sample.
    #[arg(long, default_value_t = 256)]
    new: usize,
    /// Numbers of samples; the others are compared with the first.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    votes: Vec<u32>,
    /// Number of measurements per figure; the median counts.
    #[arg(long, default_value_t = 3)]
    reps: usize,
}

#[derive(Serialize)]
struct VotesBench {
    bench: &'static str,
    model: String,
    prompt: usize,
    new: usize,
    votes: u32,
    seconds: f64,
    /// Seconds divided by those of the first number of votes.
    ratio: f64,
}

pub(crate) fn run(args: VotesBenchArgs) -> anyhow::Result<()> {
    let most = args.votes.iter().copied().max().unwrap_or(1);
    let mut engine = args.model.open(|config| {
        config.max_batch = most as usize;
        config.max_context = args.prompt + args.new + 1;
    })?;
    let n_vocab = engine.model().config().vocab_size as u64;
    let mut n_made = 0;
    let mut rows: Vec<VotesBench> = Vec::new();
    for &votes in &args.votes {
        let mut times = Vec::new();
        // the first run warms up
        for _ in 0..=args.reps {
            n_made += 1;
            let seed = Seed::new(n_made);
            let token = |at: usize| (seed.child("token", at as u64).0 % n_vocab) as u32;
            let params = SamplingParams {
                n: votes,
                max_tokens: args.new,
                temperature: 0.6,
                ignore_eos: true,
                ..SamplingParams::default()
            };
            let prompt = (0..args.prompt).map(token).collect();
            let start = Instant::now();
            engine.generate(vec![Request::new(RequestId(n_made), prompt, params)])?;
            times.push(start.elapsed().as_secs_f64());
        }
        let seconds = median(&mut times[1..]);
        let ratio = seconds / rows.first().map_or(seconds, |first| first.seconds);
        rows.push(VotesBench {
            bench: "votes",
            model: args.model.name(),
            prompt: args.prompt,
            new: args.new,
            votes,
            seconds,
            ratio,
        });
    }
    output::json_lines(None, &rows)
}
