//! SGLang: `POST /generate` with token ids, whose answer has token ids, log-probabilities and the
//! label of the weights.
//!
//! A group is a list of equal prompts, each with a seed of its own: the samples of `n` would all
//! have the same seed, which a server in its deterministic mode makes equal completions of.

use joust_fleet::BadAnswer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{WireRequest, token_ids};
use crate::servers::answer::{Answered, Echo, GivenChoice};

pub(super) const PATH: &str = "generate";

pub(super) const LABEL_PATH: &str = "get_model_info";

pub(super) fn body(request: &WireRequest<'_>) -> Value {
    let params = request.params;
    let sampling = |idx: usize| {
        json!({
            "n": 1,
            "sampling_seed": request.seed() + idx as i64,
            "max_new_tokens": params.max_tokens,
            "min_new_tokens": 0,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": request.top_k(),
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop": params.stop,
            "stop_token_ids": request.end_tokens,
            "ignore_eos": false,
        })
    };
    let sampling: Vec<Value> = (0..request.n_choices).map(sampling).collect();
    json!({
        "input_ids": vec![request.prompt_token_ids; request.n_choices],
        "sampling_params": sampling,
        "return_logprob": true,
        "logprob_start_len": -1,
        "top_logprobs_num": 0,
        "return_text_in_logprobs": false,
        "stream": false,
    })
}

#[derive(Deserialize)]
struct SampleBody {
    #[serde(default)]
    output_ids: Value,
    meta_info: MetaInfo,
}

#[derive(Deserialize)]
struct MetaInfo {
    prompt_tokens: usize,
    finish_reason: Option<FinishBody>,
    /// Log-probability, token and text of each sampled token.
    #[serde(default)]
    output_token_logprobs: Vec<(Option<f64>, u32, Value)>,
    weight_version: Option<String>,
}

#[derive(Deserialize)]
struct FinishBody {
    #[serde(rename = "type")]
    kind: String,
}

pub(super) fn read(answer: &Value) -> Result<Answered, BadAnswer> {
    // a list of one prompt may be answered without a list
    let samples = match answer {
        Value::Object(_) => SampleBody::deserialize(answer).map(|sample| vec![sample]),
        _ => Vec::deserialize(answer),
    };
    let samples: Vec<SampleBody> = samples
        .map_err(|error| BadAnswer::Defect(format!("the answer is no list of samples: {error}")))?;
    let labels = samples.iter().map(|sample| sample.meta_info.weight_version.clone());
    let label = match &labels.collect::<Vec<_>>()[..] {
        [first, rest @ ..] if rest.iter().all(|label| label == first) => first.clone(),
        [] => None,
        labels => {
            let reason = format!("the group was sampled from several weights: {labels:?}");
            return Err(BadAnswer::Defect(reason));
        }
    };
    let choices = samples.into_iter().enumerate().map(|(idx, sample)| choice(idx, sample));
    Ok(Answered { choices: choices.collect::<Result<_, _>>()?, label })
}

fn choice(idx: usize, body: SampleBody) -> Result<GivenChoice, BadAnswer> {
    let defect = |reason: &str| BadAnswer::Defect(format!("choice {idx} {reason}"));
    let MetaInfo { prompt_tokens, finish_reason, output_token_logprobs, .. } = body.meta_info;
    let given = token_ids(&body.output_ids).ok_or_else(|| {
        BadAnswer::Refused(format!("choice {idx} has no output_ids; use a newer SGLang"))
    })?;
    let of_logprobs = output_token_logprobs.iter().map(|(_, id, _)| *id);
    if given.len() == output_token_logprobs.len() && !of_logprobs.eq(given.iter().copied()) {
        return Err(defect("has log-probabilities of other tokens than its own"));
    }
    let logprobs = output_token_logprobs.into_iter().map(|(logprob, ..)| logprob);
    let logprobs = logprobs.collect::<Option<Vec<f64>>>();
    let logprobs = logprobs.ok_or_else(|| defect("has a token without log-probability"))?;
    Ok(GivenChoice {
        prompt: Echo::NTokens(prompt_tokens),
        token_ids: given,
        logprobs,
        finish_reason: finish_reason.map(|reason| reason.kind).unwrap_or_default(),
    })
}
