//! Requests of one completion each: their headers, their cohort key, and their wait at the barrier.
//!
//! Shared by OpenRLHF, slime, NeMo-Gym and vLLM; does not know their bodies.

use std::time::Duration;

use axum::http::HeaderMap;
use joust_schema::prompt::Prompt;
use serde_json::Value;

use crate::client::Client;
use crate::cohort::barrier::{Arrival, CohortQuestion, MemberScore, WaitingMember};
use crate::cohort::terms::{CohortKey, MemberName};
use crate::connection_end::ConnectionEnd;
use crate::heavy;
use crate::input::{header_text, one_header};
use crate::problem::Problem;
use crate::state::ServerState;

/// Header with the name of the completion's group; without it, requests with the same prompt and
/// known answer form a group.
const GROUP: &str = "x-joust-group";

/// Header with the attempt number of the group.
const ATTEMPT: &str = "x-joust-attempt";

/// Header with the index in the group.
const MEMBER: &str = "x-joust-member";

/// Header with the client's own id of the request; the same id again is a retry.
const REQUEST: &str = "x-request-id";

/// One completion of a request.
pub(crate) struct CompletionRequest {
    pub(crate) prompt: Prompt,
    /// The known answer.
    pub(crate) label: Value,
    pub(crate) completion: String,
    /// Index in the request.
    pub(crate) idx: usize,
}

impl CompletionRequest {
    /// Size of the texts.
    fn n_bytes(&self) -> usize {
        let prompt = match &self.prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Messages(messages) => messages.iter().map(|it| it.content.len()).sum(),
        };
        prompt + self.completion.len()
    }
}

/// Adds completions to their cohorts: all, or none if one is not valid. `end` is that of the
/// request's connection.
///
/// # Errors
/// [`Problem::Invalid`]; the problems of [`Barrier::join`](crate::cohort::barrier::Barrier::join).
pub(crate) fn join_cohorts(
    state: &ServerState,
    client: &Client,
    headers: &HeaderMap,
    end: &ConnectionEnd,
    requests: Vec<CompletionRequest>,
) -> Result<Vec<WaitingMember>, Problem> {
    let n_bytes = requests.iter().map(CompletionRequest::n_bytes).sum();
    // hashes the prompts
    let arrivals = heavy::work_on(n_bytes, || {
        let arrivals = requests.into_iter().map(|request| arrival(client, headers, request));
        arrivals.collect::<Result<Vec<Arrival>, _>>()
    })?;
    state.barrier.join(arrivals, end)
}

/// Whether the group of a prompt is collected, or has a member of this text whose client may come
/// again. A group with a name of its own is not looked for.
pub(crate) fn is_awaited(
    state: &ServerState,
    client: &Client,
    headers: &HeaderMap,
    prompt: &Prompt,
    said: &str,
) -> bool {
    !headers.contains_key(GROUP)
        && state.barrier.is_awaited(&content_key(client, prompt, &Value::Null), said)
}

/// A completion with its cohort key and name.
fn arrival(
    client: &Client,
    headers: &HeaderMap,
    request: CompletionRequest,
) -> Result<Arrival, Problem> {
    let CompletionRequest { prompt, label, completion, idx } = request;
    let bad = |text: &str| Problem::Invalid(text.to_owned());
    let header = |name: &str| one_header(headers, name);
    let number = |name: &str| match header(name)? {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(bad(&format!("header {name} is {text:?}, wanted a number"))),
        },
    };
    if let Some(problem) = prompt.problem() {
        return Err(bad(&format!("prompt {problem}")));
    }
    if !matches!(label, Value::Null | Value::String(_) | Value::Number(_)) {
        return Err(bad("label is neither a text nor a number, a truth value or a list of those"));
    }
    let group = header(GROUP)?.map(str::to_owned);
    let key = match (&group, number(ATTEMPT)?) {
        (Some(group), attempt) => given_key(client, group.clone(), attempt),
        (None, None) => content_key(client, &prompt, &label),
        (None, Some(_)) => return Err(bad(&format!("header {ATTEMPT} comes without {GROUP}"))),
    };
    // proxies may add an id of their own, or a blank one: the first is the client's
    let name = match (number(MEMBER)?, header_text(headers, REQUEST)?) {
        (Some(member), _) => Some(MemberName::Index(member.saturating_add(idx as u64))),
        (None, Some(id)) => Some(MemberName::Request(format!("{id}#{idx}"))),
        (None, None) => None,
    };
    let question =
        CohortQuestion { prompt, answer: Some(label), group_id: group, client: client.clone() };
    Ok(Arrival { key, name, completion, question, held_bytes: 0 })
}

/// Cohort key of a completion with the name of its group.
pub(crate) fn given_key(client: &Client, group: String, attempt: Option<u64>) -> CohortKey {
    let tenant = client.tenant().to_owned();
    CohortKey::Given { tenant, group, attempt: attempt.unwrap_or(0) }
}

/// Cohort key of a completion without a group name: a hash of tenant, prompt and known answer.
pub(crate) fn content_key(client: &Client, prompt: &Prompt, label: &Value) -> CohortKey {
    let mut content = format!("{}\u{0}{label}", prompt.to_column());
    if !client.tenant().is_empty() {
        content = format!("{}\u{0}{content}", client.tenant());
    }
    CohortKey::Content(blake3::hash(content.as_bytes()).to_hex().to_string())
}

/// Maximum time that a request waits at the barrier: a little more than the limits of collecting
/// and judging together.
pub(crate) fn limit(state: &ServerState) -> Duration {
    let limits = &state.scorer.config;
    limits.cohorts.collect + limits.timeout + Duration::from_secs(1)
}

/// Waits for the scores of a request's completions. They go to the client together: with a problem
/// none of them does, and a retry finds the others.
///
/// # Errors
/// The problem of a cohort.
pub(crate) async fn answers(
    state: &ServerState,
    waiting: Vec<WaitingMember>,
) -> Result<Vec<MemberScore>, Problem> {
    let (mut answered, mut scores) = (Vec::new(), Vec::new());
    for mut member in waiting {
        match member.answer(limit(state)).await {
            Ok(score) => scores.push(score),
            Err(problem) => {
                member.deliver();
                return Err(problem);
            }
        }
        answered.push(member);
    }
    answered.into_iter().for_each(WaitingMember::deliver);
    Ok(scores)
}
