//! `joust generate`: continues prompts with a model, one JSON line per sample.

use std::path::PathBuf;

use clap::Args;
use joust_engine::{Request, RequestId, SamplingParams, Tokenizer};
use joust_schema::prompt::Prompt;
use joust_schema::rows::{MESSAGES, TEMPLATE_COLUMNS};
use joust_schema::tables::FinishReason;
use serde::Serialize;

use crate::commands::{ModelArgs, data_rows, written};
use crate::output;

/// Arguments of `joust generate`.
#[derive(Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// JSON Lines, a JSON array or Parquet with `prompt` or `messages`: a text, or chat messages
    /// that get the model's template.
    #[arg(long)]
    input: PathBuf,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Maximum number of tokens per sample.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Sampling temperature; 0 takes the most probable token at every step.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Probability mass of the most probable tokens, from which samples are drawn.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Number of the most probable tokens, from which samples are drawn; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Number of samples per prompt.
    #[arg(long, default_value_t = 1)]
    n: u32,
    /// Seed of every draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Text that ends a sample; may be given several times.
    #[arg(long)]
    stop: Vec<String>,
    /// Id of a token that ends a sample, beside the model's own; may be given several times.
    #[arg(long)]
    stop_token_id: Vec<u32>,
    /// Continues after the model's own end tokens.
    #[arg(long)]
    ignore_eos: bool,
    /// Renders also text prompts as a user's chat message.
    #[arg(long)]
    chat: bool,
}

#[derive(Serialize)]
struct SampleRow {
    prompt_idx: usize,
    sample: u32,
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: FinishReason,
    prompt_token_ids: Vec<u32>,
}

pub(crate) fn run(args: GenerateArgs) -> anyhow::Result<()> {
    written::check_other_file(&args.input, args.output.as_deref())?;
    let columns = [&["prompt", MESSAGES], &TEMPLATE_COLUMNS[..]].concat();
    let rows = data_rows::read_all(&args.input, &columns, |row| {
        let prompt = data_rows::prompt(row, Prompt::emptiness)?;
        let template_kwargs = row.template_kwargs(&prompt)?;
        Ok((row.place(), prompt, template_kwargs))
    })?;
    args.output.as_deref().map_or(Ok(()), written::prepare_file)?;
    let mut engine = args.model.open_engine()?;
    let mut requests = Vec::with_capacity(rows.len());
    for (prompt_idx, (place, prompt, template_kwargs)) in rows.into_iter().enumerate() {
        let refuse = |error: joust_engine::Error| place.error(&args.input, error.to_string());
        let tokenizer = engine.tokenizer().with_more_template_kwargs(&template_kwargs);
        let prompt_token_ids = encode(&tokenizer, prompt, args.chat).map_err(refuse)?;
        let params = SamplingParams {
            max_tokens: args.max_tokens,
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: args.top_k,
            n: args.n,
            seed: joust_schema::seed::Seed(args.seed).child("prompt", prompt_idx as u64).0,
            stop: args.stop.clone(),
            stop_token_ids: args.stop_token_id.clone(),
            ignore_eos: args.ignore_eos,
        };
        let request = Request::new(RequestId(prompt_idx as u64), prompt_token_ids, params);
        requests.push(request.clone());
        engine.submit(request).map_err(refuse)?;
    }
    let bar = output::progress_bar(requests.len() as u64 * u64::from(args.n), "samples");
    let mut samples = Vec::new();
    while engine.has_work() {
        let finished = engine.step()?;
        bar.inc(finished.len() as u64);
        samples.extend(finished);
    }
    bar.finish_and_clear();
    samples.sort_by_key(|sample| (sample.request_id, sample.index));
    let rows: Vec<SampleRow> = samples
        .into_iter()
        .map(|sample| {
            let prompt_idx = sample.request_id.0 as usize;
            SampleRow {
                prompt_idx,
                sample: sample.index,
                text: sample.text,
                token_ids: sample.token_ids,
                logprobs: sample.logprobs,
                finish_reason: sample.finish_reason,
                prompt_token_ids: requests[prompt_idx].prompt_token_ids.clone(),
            }
        })
        .collect();
    output::json_lines(args.output.as_deref(), &rows)
}

fn encode(
    tokenizer: &Tokenizer,
    prompt: Prompt,
    chat: bool,
) -> Result<Vec<u32>, joust_engine::Error> {
    match prompt {
        Prompt::Text(text) if !chat => tokenizer.encode_prompt(&text),
        Prompt::Text(text) => {
            let message = joust_schema::prompt::Message::new("user", text);
            tokenizer.encode(&tokenizer.render_chat(&[message], true)?)
        }
        Prompt::Messages(messages) => tokenizer.encode(&tokenizer.render_chat(&messages, true)?),
    }
}
