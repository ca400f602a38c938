//! vLLM: `POST /v1/completions` with token ids, whose answer has token ids and log-probabilities.
//!
//! All settings of the sampling are sent, because vLLM takes those that are left out from the
//! model's `generation_config.json`.

use joust_fleet::BadAnswer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::{WireRequest, token_ids};
use crate::servers::answer::{Answered, Echo, GivenChoice};

pub(super) const PATH: &str = "v1/completions";

pub(super) const LABEL_PATH: &str = "weight_info";

pub(super) fn body(model: &str, request: &WireRequest<'_>) -> Value {
    let params = request.params;
    json!({
        "model": model,
        "prompt": request.prompt_token_ids,
        "n": request.n_choices,
        "seed": request.seed(),
        "max_tokens": params.max_tokens,
        "min_tokens": 0,
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
        // that of the sampled token alone
        "logprobs": 0,
        "return_token_ids": true,
        "stream": false,
    })
}

#[derive(Deserialize)]
struct CompletionBody {
    choices: Vec<ChoiceBody>,
}

#[derive(Deserialize)]
struct ChoiceBody {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    token_ids: Value,
    #[serde(default)]
    prompt_token_ids: Value,
    logprobs: Option<LogprobsBody>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct LogprobsBody {
    token_logprobs: Vec<Option<f64>>,
}

pub(super) fn read(answer: &Value) -> Result<Answered, BadAnswer> {
    let body = CompletionBody::deserialize(answer)
        .map_err(|error| BadAnswer::Defect(format!("the answer is no completion: {error}")))?;
    let mut choices = body.choices;
    choices.sort_by_key(|choice| choice.index);
    if let Some((place, choice)) =
        choices.iter().enumerate().find(|(place, choice)| *place != choice.index)
    {
        let index = choice.index;
        return Err(BadAnswer::Defect(format!("choice {place} has the index {index}")));
    }
    let choices = choices.into_iter().map(choice).collect::<Result<_, _>>()?;
    Ok(Answered { choices, label: None })
}

fn choice(body: ChoiceBody) -> Result<GivenChoice, BadAnswer> {
    let index = body.index;
    let (Some(token_ids), Some(prompt)) =
        (token_ids(&body.token_ids), token_ids(&body.prompt_token_ids))
    else {
        return Err(BadAnswer::Refused(format!(
            "choice {index} has no token_ids or prompt_token_ids: the server does not know \
             return_token_ids; use a newer vLLM"
        )));
    };
    let logprobs = body.logprobs.map(|logprobs| logprobs.token_logprobs);
    let logprobs = logprobs.and_then(|logprobs| logprobs.into_iter().collect::<Option<_>>());
    let logprobs = logprobs.ok_or_else(|| {
        BadAnswer::Defect(format!("choice {index} has a token without log-probability"))
    })?;
    let finish_reason = body.finish_reason.unwrap_or_default();
    Ok(GivenChoice { prompt: Echo::TokenIds(prompt), token_ids, logprobs, finish_reason })
}
