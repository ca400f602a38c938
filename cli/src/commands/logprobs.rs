//! `joust logprobs`: log-probabilities of given completions, token by token.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::commands::{ModelArgs, data_rows, written};
use crate::output;

/// Arguments of `joust logprobs`.
#[derive(Args)]
pub(crate) struct LogprobsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// JSON Lines, a JSON array or Parquet with `prompt` and `completion`, both texts.
    #[arg(long)]
    input: PathBuf,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct LogprobsRow {
    pair_idx: usize,
    prompt_token_ids: Vec<u32>,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    sum: f64,
}

pub(crate) fn run(args: LogprobsArgs) -> anyhow::Result<()> {
    written::check_other_file(&args.input, args.output.as_deref())?;
    let rows = data_rows::read_all(&args.input, &["prompt", "completion"], |row| {
        let prompt: String = row.required("prompt")?;
        let completion: String = row.required("completion")?;
        Ok((row.place(), prompt, completion))
    })?;
    args.output.as_deref().map_or(Ok(()), written::prepare_file)?;
    let engine = args.model.open_engine()?;
    let tokenizer = engine.tokenizer();
    let bar = output::progress_bar(rows.len() as u64, "pairs");
    let mut scored = Vec::with_capacity(rows.len());
    for (pair_idx, (place, prompt, completion)) in rows.into_iter().enumerate() {
        let score = || -> Result<LogprobsRow, joust_engine::Error> {
            let prompt_token_ids = tokenizer.encode_prompt(&prompt)?;
            let token_ids = tokenizer.encode_continuation(&prompt, &completion)?;
            let logprobs =
                joust_engine::forced::logprobs(engine.model(), &prompt_token_ids, &token_ids)?;
            let sum = logprobs.iter().map(|&logprob| f64::from(logprob)).sum();
            Ok(LogprobsRow { pair_idx, prompt_token_ids, token_ids, logprobs, sum })
        };
        scored.push(score().map_err(|error| place.error(&args.input, error.to_string()))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::json_lines(args.output.as_deref(), &scored)
}
