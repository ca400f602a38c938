//! Routes of trainers that ask for one completion at a time: OpenRLHF's `/get_reward`, slime's
//! `/remote_rm` and NeMo-Gym's `/verify`. The group is put together by the [`Barrier`].
//!
//! Protocols as read in OpenRLHF 0.11.2 (`openrlhf/utils/agent.py`, `serve_rm.py`), slime
//! (`slime/rollout/rm_hub`) and NVIDIA NeMo-Gym. The first two clients retry whatever is no answer, and
//! take any number for a reward: what is none is therefore an error to them, never a number.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use joust_schema::prompt::Prompt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::barrier::{About, Arrival, Barrier, Late, Scored, Waiting};
use super::cohort::{Answer, Key, Name, Refused};
use super::responses::{self, Conversation, Output};
use super::routes::{Shared, failure, later, read};

/// Headers that name a completion's group and place in it; without them the group is known by its
/// prompt.
const GROUP: &str = "x-joust-group";
const ATTEMPT: &str = "x-joust-attempt";
const MEMBER: &str = "x-joust-member";
/// The client's own id of the request: the same one again is a retry.
const REQUEST: &str = "x-request-id";

/// Body of `/get_reward`: lists of one length, which is one in practice.
#[derive(Deserialize)]
pub(super) struct OpenRlhf {
    /// Prompt and completion, special tokens included.
    query: Vec<String>,
    prompts: Vec<String>,
    #[serde(default)]
    labels: Vec<Value>,
}

/// Body of `/remote_rm`.
#[derive(Deserialize)]
pub(super) struct Slime {
    prompt: Prompt,
    response: String,
    #[serde(default)]
    label: Value,
}

#[derive(Deserialize)]
pub(super) struct SlimeQuery {
    /// Answers with an object that has the reward under this key (slime's `--reward-key`).
    key: Option<String>,
}

pub(super) async fn openrlhf(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: OpenRlhf = match read(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let n = body.query.len();
    if n == 0 || body.prompts.len() != n || (!body.labels.is_empty() && body.labels.len() != n) {
        let text = format!(
            "query, prompts and labels have {n}, {} and {} entries, wanted as many of each, at least 1",
            body.prompts.len(),
            body.labels.len()
        );
        return failure(StatusCode::UNPROCESSABLE_ENTITY, &text);
    }
    let mut waiting = Vec::new();
    for (at, (query, prompt)) in body.query.iter().zip(&body.prompts).enumerate() {
        let Some(completion) = completion(query, prompt) else {
            let text =
                format!("query {at} does not hold its prompt, wanted the prompt and what follows");
            return failure(StatusCode::UNPROCESSABLE_ENTITY, &text);
        };
        let label = body.labels.get(at).cloned().unwrap_or(Value::Null);
        let prompt = Prompt::Text(prompt.clone());
        match join(&shared.barrier, &headers, prompt, label, completion.to_owned(), at) {
            Ok(one) => waiting.push(one),
            Err(response) => return *response,
        }
    }
    let mut scored = Vec::new();
    for one in waiting {
        match answer(&shared, one).await {
            Ok(one) => scored.push(one),
            Err(response) => return *response,
        }
    }
    let rewards: Vec<f64> = scored.iter().map(|one| one.reward).collect();
    // its logger makes tensors of these: numbers only, and what is not known of one is left out for all
    let known = |value: fn(&Scored) -> Option<f64>| -> Option<Vec<f64>> {
        scored.iter().map(value).collect()
    };
    let logs = [
        ("rating", known(|one| one.rating)),
        ("rating_stderr", known(|one| one.rating_stderr)),
        ("rank", known(|one| one.rank.map(f64::from))),
        ("wins", known(|one| Some(f64::from(one.wins)))),
        ("losses", known(|one| Some(f64::from(one.losses)))),
    ];
    let logs: Map<String, Value> = logs
        .into_iter()
        .filter_map(|(name, values)| Some((name.to_owned(), json!(values?))))
        .collect();
    // what it filters by, in [0, 1]
    let scores = known(|one| one.win_rate).unwrap_or_else(|| rewards.clone());
    Json(json!({"rewards": rewards, "scores": scores, "extra_logs": logs})).into_response()
}

pub(super) async fn slime(
    State(shared): State<Shared>,
    Query(query): Query<SlimeQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Slime = match read(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let waiting = match join(&shared.barrier, &headers, body.prompt, body.label, body.response, 0) {
        Ok(waiting) => waiting,
        Err(response) => return *response,
    };
    match answer(&shared, waiting).await {
        Ok(scored) => match query.key {
            Some(key) => Json(json!({
                key: scored.reward,
                "win_rate": scored.win_rate,
                "rating": scored.rating,
                "rating_stderr": scored.rating_stderr,
                "rank": scored.rank,
            }))
            .into_response(),
            None => Json(json!(scored.reward)).into_response(),
        },
        Err(response) => *response,
    }
}

/// Body of `/verify`; what else is in it comes back with the answer.
#[derive(Deserialize)]
pub(super) struct NemoGym {
    responses_create_params: CreateParams,
    response: Output,
    #[serde(rename = "_ng_group_id")]
    group_id: Option<Value>,
    #[serde(rename = "_ng_group_attempt")]
    attempt: Option<u64>,
    #[serde(rename = "_ng_rollout_index")]
    rollout_index: Option<u64>,
}

#[derive(Deserialize)]
struct CreateParams {
    input: Conversation,
}

/// Answers with the request's body and a `reward`. A completion without one has `reward` 0 and all marks by
/// which NeMo-Gym takes it out of training and figures.
pub(super) async fn nemo_gym(State(shared): State<Shared>, body: Bytes) -> Response {
    let (request, mut answer): (NemoGym, Value) = match (read(&body), read(&body)) {
        (Ok(request), Ok(body)) => (request, body),
        (Err(response), _) | (_, Err(response)) => return *response,
    };
    let prompt = responses::prompt(&request.responses_create_params.input, None);
    if prompt.is_empty() {
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "responses_create_params.input is empty");
    }
    let group = request.group_id.map(|id| match id {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let key = match &group {
        Some(group) => Key::Given { group: group.clone(), attempt: request.attempt.unwrap_or(0) },
        None => content_key(&prompt, &Value::Null),
    };
    let arrival = Arrival {
        key,
        name: request.rollout_index.map(Name::Place),
        completion: request.response.text(),
        about: About { prompt, answer: None, group_id: group },
    };
    let waiting = match shared.barrier.join(arrival) {
        Ok(waiting) => waiting,
        Err(refused) => return refusal(refused),
    };
    let (class, reason) = match waiting.answer(limit(&shared)).await {
        Ok(Answer::Judged(scored)) => {
            answer["reward"] = json!(scored.reward);
            answer["reward_components"] = json!({
                "win_rate": scored.win_rate,
                "rating": scored.rating,
            });
            return Json(answer).into_response();
        }
        Ok(Answer::Failed(reason)) => ("judge_failed", reason),
        Ok(Answer::Masked) => ("masked", "the group was not complete in time".to_owned()),
        Ok(Answer::Incomplete { seen, wanted }) => {
            ("incomplete_group", format!("{seen} of {wanted} members of the group came in time"))
        }
        Err(Late::TimedOut) => ("timeout", "no result in time".to_owned()),
        Err(Late::Stopped) => {
            return later(StatusCode::SERVICE_UNAVAILABLE, "the server stops");
        }
    };
    mark_failed(&mut answer, class, &reason);
    Json(answer).into_response()
}

/// Marks an answer as none. NeMo-Gym's collection of rollouts reads `_ng_failure_class`, its figures (since
/// 0.7) `mask_sample`, NeMo-RL the one in `instance_config`.
fn mark_failed(answer: &mut Value, class: &str, reason: &str) {
    answer["reward"] = json!(0.0);
    answer["_ng_failure_class"] = json!(class);
    answer["_ng_failure_judge_error"] = json!(reason);
    answer["mask_sample"] = json!(true);
    // one of its own kinds, or one with the name of the server before it
    answer["failure_kind"] = match class {
        "judge_failed" => json!(class),
        _ => json!(format!("joust:{class}")),
    };
    answer["failure_reason"] = json!(reason);
    if !answer["instance_config"].is_object() {
        answer["instance_config"] = json!({});
    }
    answer["instance_config"]["mask_sample"] = json!(true);
}

/// What follows the prompt. Decoding puts a begin-of-text token before it, and an end token after the
/// completion, which is no part of what was said.
fn completion<'a>(query: &'a str, prompt: &str) -> Option<&'a str> {
    let start = query.find(prompt.trim())? + prompt.trim().len();
    let mut said = query[start..].trim();
    while let Some(shorter) = without_end_token(said) {
        said = shorter.trim_end();
    }
    Some(said)
}

/// Cuts off one token of the kind `<|im_end|>` or `</s>`.
fn without_end_token(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_suffix("</s>") {
        return Some(rest);
    }
    let (rest, token) = text.strip_suffix("|>")?.rsplit_once("<|")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!token.is_empty() && token.chars().all(is_name)).then_some(rest)
}

/// Brings one completion to its group. `at` is its place in the request.
fn join(
    barrier: &Barrier,
    headers: &HeaderMap,
    prompt: Prompt,
    label: Value,
    completion: String,
    at: usize,
) -> Result<Waiting, Box<Response>> {
    let bad = |text: &str| Box::new(failure(StatusCode::UNPROCESSABLE_ENTITY, text));
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &str| match header(name) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad(&format!("header {name} is {text:?}, wanted a number"))),
        },
    };
    if prompt.is_empty() {
        return Err(bad("prompt is empty"));
    }
    if !matches!(label, Value::Null | Value::String(_) | Value::Number(_)) {
        return Err(bad("label is neither a text nor a number"));
    }
    let group = header(GROUP).map(str::to_owned);
    let key = match &group {
        Some(group) => Key::Given { group: group.clone(), attempt: number(ATTEMPT)?.unwrap_or(0) },
        None => content_key(&prompt, &label),
    };
    let name = match (number(MEMBER)?, header(REQUEST)) {
        (Some(member), _) => Some(Name::Place(member + at as u64)),
        (None, Some(id)) => Some(Name::Request(format!("{id}#{at}"))),
        (None, None) => None,
    };
    let about = About { prompt, answer: Some(label), group_id: group };
    let arrival = Arrival { key, name, completion, about };
    barrier.join(arrival).map_err(|refused| Box::new(refusal(refused)))
}

/// All who ask the same, with the same known answer, are one group.
fn content_key(prompt: &Prompt, label: &Value) -> Key {
    let content = format!("{}\u{0}{label}", prompt.to_column());
    Key::Content(blake3::hash(content.as_bytes()).to_hex().to_string())
}

/// What a client is told whose completion was not taken.
fn refusal(refused: Refused) -> Response {
    match refused {
        Refused::Full => later(
            StatusCode::TOO_MANY_REQUESTS,
            "as many groups are open as may be (serve.max_cohorts); try again later",
        ),
        Refused::Closed => later(StatusCode::SERVICE_UNAVAILABLE, "the server stops"),
        Refused::Conflict => failure(
            StatusCode::CONFLICT,
            "this member of the group is there already and says something else",
        ),
        Refused::Late => failure(
            StatusCode::GONE,
            "the group was judged without this member; a new attempt wants a new number of it",
        ),
    }
}

/// Collecting and judging have limits of their own; this one is for what neither ends.
fn limit(shared: &Shared) -> Duration {
    let limits = &shared.scorer.config;
    limits.cohorts.collect + limits.timeout + Duration::from_secs(1)
}

/// The answer of one completion, or what its client is told instead.
async fn answer(shared: &Shared, waiting: Waiting) -> Result<Scored, Box<Response>> {
    let (status, reason) = match waiting.answer(limit(shared)).await {
        Ok(Answer::Judged(scored)) => return Ok(scored),
        Ok(Answer::Failed(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        Ok(Answer::Incomplete { seen, wanted }) => {
            let time = shared.scorer.config.cohorts.collect;
            let reason = format!("{seen} of {wanted} members of the group came within {time:?}");
            (StatusCode::GATEWAY_TIMEOUT, reason)
        }
        Ok(Answer::Masked) => (
            StatusCode::GATEWAY_TIMEOUT,
            "the group was not complete in time; this protocol has no word for no reward"
                .to_owned(),
        ),
        Err(Late::TimedOut) => {
            (StatusCode::GATEWAY_TIMEOUT, "no result in time; a retry finds it".to_owned())
        }
        Err(Late::Stopped) => (StatusCode::SERVICE_UNAVAILABLE, "the server stops".to_owned()),
    };
    Err(Box::new(later(status, &reason)))
}

#[cfg(test)]
mod tests {
    use super::completion;

    #[test]
    fn what_follows_the_prompt_is_judged_without_what_the_tokenizer_adds() {
        let prompt = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";
        let query = format!("{prompt}4 <|x y|> is it.<|im_end|>\n<|endoftext|>");
        assert_eq!(completion(&query, prompt), Some("4 <|x y|> is it."));
        assert_eq!(completion("<s>2+2? 4</s>", "2+2?"), Some("4"));
        assert_eq!(completion("2+2?", "2+2?"), Some(""));
        assert_eq!(completion("2 + 2? 4", "2+2?"), None);
    }
}
