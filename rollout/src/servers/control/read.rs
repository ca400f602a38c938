//! Tokens and log-probabilities in servers' answers to checks of their weights.
//!
//! It does not know what they should be.

use serde_json::Value;

/// Tokens sampled behind a prompt, with the log-probabilities that the server gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampledText {
    pub(super) token_ids: Vec<u32>,
    pub(super) logprobs: Vec<f32>,
}

/// Of the tokens after the first: `{"<id>": {"logprob": …}, …}` per token.
pub(super) fn vllm_text(answer: &Value, text: &[u32]) -> Option<Vec<f32>> {
    let tokens = answer["choices"][0]["prompt_logprobs"].as_array()?;
    let pairs = tokens.iter().zip(text).skip(1);
    let logprobs = pairs.map(|(token, id)| number(&token[&id.to_string()]["logprob"]));
    logprobs.collect::<Option<Vec<f32>>>().filter(|found| found.len() + 1 == text.len())
}

/// Of the tokens after the first: `[logprob, id, text]` per token.
pub(super) fn sglang_text(answer: &Value, text: &[u32]) -> Option<Vec<f32>> {
    let tokens = first(answer)["meta_info"]["input_token_logprobs"].as_array()?;
    let pairs = tokens.iter().zip(text).skip(1);
    let of_token = |(token, &id): (&Value, &u32)| {
        (token[1].as_u64() == Some(u64::from(id))).then(|| number(&token[0])).flatten()
    };
    let logprobs = pairs.map(of_token).collect::<Option<Vec<f32>>>();
    logprobs.filter(|found| found.len() + 1 == text.len())
}

pub(super) fn vllm_sample(answer: &Value) -> Option<SampledText> {
    let choice = &answer["choices"][0];
    let token_ids = choice["token_ids"].as_array()?.iter().map(id).collect::<Option<_>>()?;
    let logprobs = choice["logprobs"]["token_logprobs"].as_array()?;
    Some(SampledText { token_ids, logprobs: logprobs.iter().map(number).collect::<Option<_>>()? })
}

pub(super) fn sglang_sample(answer: &Value) -> Option<SampledText> {
    let tokens = first(answer)["meta_info"]["output_token_logprobs"].as_array()?;
    let token_ids = tokens.iter().map(|token| id(&token[1])).collect::<Option<_>>()?;
    let logprobs = tokens.iter().map(|token| number(&token[0])).collect::<Option<_>>()?;
    Some(SampledText { token_ids, logprobs })
}

/// The answer, or the first one of a list.
fn first(answer: &Value) -> &Value {
    answer.get(0).unwrap_or(answer)
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|number| number as f32)
}
