//! Routes of trainers that ask for one completion at a time: OpenRLHF's `/get_reward`, slime's
//! `/remote_rm` and NeMo-Gym's `/verify`. The group is put together by the `barrier`.
//!
//! Protocols as read in OpenRLHF 0.11.2 (`openrlhf/utils/agent.py`, `serve_rm.py`), slime
//! (`slime/rollout/rm_hub`) and NVIDIA NeMo-Gym. The first two clients retry whatever is no answer, and
//! take any number for a reward: what is none is therefore an error to them, never a number.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::barrier::{About, Arrival, Late, Scored, Waiting};
use super::cohort::{Answer, Key, Name, Refused};
use super::input::{Client, Input, Params, header_text};
use super::responses::{self, Conversation, Output};
use super::routes::{Shared, failure, later};
use super::wire::Known;

/// Headers that name a completion's group and place in it; without them the group is known by its
/// prompt.
const GROUP: &str = "x-joust-group";
const ATTEMPT: &str = "x-joust-attempt";
const MEMBER: &str = "x-joust-member";
/// The client's own id of the request: the same one again is a retry.
const REQUEST: &str = "x-request-id";

/// Body of `/get_reward`: lists of one length, which is one in practice.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OpenRlhf {
    /// Prompt and completion, special tokens included.
    query: Vec<String>,
    prompts: Vec<String>,
    /// Known answers: texts, numbers or nulls.
    #[serde(default)]
    #[schemars(with = "Vec<Option<Known>>")]
    labels: Vec<Value>,
}

/// Body of `/remote_rm`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Slime {
    /// What was asked.
    prompt: Prompt,
    /// What was answered.
    response: String,
    /// The known answer.
    #[serde(default)]
    #[schemars(with = "Option<Known>")]
    label: Value,
}

/// Answer of `/remote_rm`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum SlimeAnswer {
    /// The reward.
    Reward(f64),
    /// With `?key=`: the reward under that key, and what else is known.
    Known(Map<String, Value>),
}

/// Answer of `/get_reward`: lists of the length of `query`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OpenRlhfAnswer {
    /// The rewards.
    rewards: Vec<f64>,
    /// Expected shares of wins, in [0, 1]: what OpenRLHF filters prompts by.
    scores: Vec<f64>,
    /// Numbers for its log.
    extra_logs: BTreeMap<&'static str, Vec<f64>>,
}

/// Answer of `/verify`: the request, and
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct NemoGymAnswer {
    /// the reward; 0 beside a failure class, by which NeMo-Gym leaves it out.
    reward: f64,
    /// Why there is none.
    #[serde(rename = "_ng_failure_class")]
    failure_class: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct SlimeQuery {
    /// Answers with an object that has the reward under this key (slime's `--reward-key`).
    key: Option<String>,
}

pub(crate) async fn openrlhf(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<OpenRlhf>,
) -> Response {
    let n = body.query.len();
    if n == 0 || body.prompts.len() != n || (!body.labels.is_empty() && body.labels.len() != n) {
        let text = format!(
            "query, prompts and labels have {n}, {} and {} entries, wanted as many of each, at least 1",
            body.prompts.len(),
            body.labels.len()
        );
        return failure(StatusCode::UNPROCESSABLE_ENTITY, &text);
    }
    let mut ones = Vec::new();
    for (at, (query, prompt)) in body.query.iter().zip(&body.prompts).enumerate() {
        let Some(completion) = completion(query, prompt) else {
            let text =
                format!("query {at} does not hold its prompt, wanted the prompt and what follows");
            return failure(StatusCode::UNPROCESSABLE_ENTITY, &text);
        };
        let label = body.labels.get(at).cloned().unwrap_or(Value::Null);
        let prompt = Prompt::Text(prompt.clone());
        ones.push(One { prompt, label, completion: completion.to_owned(), at });
    }
    let waiting = match join(&shared, &client, &headers, ones) {
        Ok(waiting) => waiting,
        Err(response) => return *response,
    };
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
    let extra_logs = logs.into_iter().filter_map(|(name, values)| Some((name, values?))).collect();
    // what it filters by, in [0, 1]
    let scores = known(|one| one.win_rate).unwrap_or_else(|| rewards.clone());
    Json(OpenRlhfAnswer { rewards, scores, extra_logs }).into_response()
}

pub(crate) async fn slime(
    State(shared): State<Shared>,
    Params(query): Params<SlimeQuery>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<Slime>,
) -> Response {
    let one = One { prompt: body.prompt, label: body.label, completion: body.response, at: 0 };
    let waiting = match join(&shared, &client, &headers, vec![one]) {
        Ok(mut waiting) => waiting.remove(0),
        Err(response) => return *response,
    };
    match answer(&shared, waiting).await {
        Ok(scored) => match query.key {
            // the reward last: its key may be any
            Some(key) => Json(json!({
                "win_rate": scored.win_rate,
                "rating": scored.rating,
                "rating_stderr": scored.rating_stderr,
                "rank": scored.rank,
                key: scored.reward,
            }))
            .into_response(),
            None => Json(json!(scored.reward)).into_response(),
        },
        Err(response) => *response,
    }
}

/// Body of `/verify`; what else is in it comes back with the answer.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NemoGym {
    responses_create_params: CreateParams,
    response: Output,
    /// The client's own id of the group.
    #[serde(rename = "_ng_group_id")]
    group_id: Option<Value>,
    /// Counts judgings of it.
    #[serde(rename = "_ng_group_attempt")]
    attempt: Option<u64>,
    /// The place in it.
    #[serde(rename = "_ng_rollout_index")]
    rollout_index: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
struct CreateParams {
    input: Conversation,
}

/// Answers with the request's body and a `reward`. A completion without one has `reward` 0 and all marks by
/// which NeMo-Gym takes it out of training and figures.
pub(crate) async fn nemo_gym(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Input(mut answer): Input<Value>,
) -> Response {
    let request = match NemoGym::deserialize(&answer) {
        Ok(request) if answer.is_object() => request,
        Ok(_) => return failure(StatusCode::UNPROCESSABLE_ENTITY, "wanted an object"),
        Err(error) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
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
        about: About { prompt, answer: None, group_id: group, client: client.0 },
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
        Ok(Answer::Failed(reason) | Answer::Refused(reason) | Answer::GivenUp(reason)) => {
            ("judge_failed", reason)
        }
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

/// One completion of a request.
pub(crate) struct One {
    pub(crate) prompt: Prompt,
    /// The known answer.
    pub(crate) label: Value,
    pub(crate) completion: String,
    /// Its place in the request.
    pub(crate) at: usize,
}

/// Brings completions to their groups: all or, where something is wrong with one, none.
pub(crate) fn join(
    shared: &Shared,
    client: &Client,
    headers: &HeaderMap,
    ones: Vec<One>,
) -> Result<Vec<Waiting>, Box<Response>> {
    let arrivals: Vec<Arrival> =
        ones.into_iter().map(|one| arrival(client, headers, one)).collect::<Result<_, _>>()?;
    let join = |arrival| shared.barrier.join(arrival);
    arrivals.into_iter().map(join).collect::<Result<_, _>>().map_err(|why| Box::new(refusal(why)))
}

/// A completion with what is known of it.
fn arrival(client: &Client, headers: &HeaderMap, one: One) -> Result<Arrival, Box<Response>> {
    let One { prompt, label, completion, at } = one;
    let bad = |text: &str| Box::new(failure(StatusCode::UNPROCESSABLE_ENTITY, text));
    let header = |name: &str| header_text(headers, name);
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
    let key = match (&group, number(ATTEMPT)?) {
        (Some(group), attempt) => {
            Key::Given { group: group.clone(), attempt: attempt.unwrap_or(0) }
        }
        (None, None) => content_key(&prompt, &label),
        (None, Some(_)) => return Err(bad(&format!("header {ATTEMPT} comes without {GROUP}"))),
    };
    let name = match (number(MEMBER)?, header(REQUEST)) {
        (Some(member), _) => Some(Name::Place(member.saturating_add(at as u64))),
        (None, Some(id)) => Some(Name::Request(format!("{id}#{at}"))),
        (None, None) => None,
    };
    let about = About { prompt, answer: Some(label), group_id: group, client: client.0.clone() };
    Ok(Arrival { key, name, completion, about })
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
        Refused::OtherQuestion => failure(
            StatusCode::CONFLICT,
            "the group of this name has another prompt or another known answer",
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
pub(crate) async fn answer(shared: &Shared, waiting: Waiting) -> Result<Scored, Box<Response>> {
    let (status, reason) = match waiting.answer(limit(shared)).await {
        Ok(Answer::Judged(scored)) => return Ok(scored),
        // who asks again gets the same answer, so that nothing says when to come again
        Ok(Answer::Failed(reason)) => {
            return Err(Box::new(failure(StatusCode::SERVICE_UNAVAILABLE, &reason)));
        }
        Ok(Answer::Refused(reason)) => {
            return Err(Box::new(failure(StatusCode::UNPROCESSABLE_ENTITY, &reason)));
        }
        Ok(Answer::GivenUp(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
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
