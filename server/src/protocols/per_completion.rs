//! Requests of one completion each: their headers, their cohort key, and the way through the
//! barrier.
//!
//! Shared by OpenRLHF, slime, NeMo-Gym and vLLM; knows no body of theirs.

use std::time::Duration;

use axum::http::HeaderMap;
use joust_schema::prompt::Prompt;
use serde_json::Value;

use crate::cohort::barrier::{About, Arrival, Scored, Waiting};
use crate::cohort::terms::{CohortKey, MemberName};
use crate::input::{Client, header_text};
use crate::problem::Problem;
use crate::state::ServerState;

/// Headers that name a completion's group and place in it; without them the group is known by its
/// prompt.
const GROUP: &str = "x-joust-group";
const ATTEMPT: &str = "x-joust-attempt";
const MEMBER: &str = "x-joust-member";
/// The client's own id of the request: the same one again is a retry.
const REQUEST: &str = "x-request-id";

/// One completion of a request.
pub(crate) struct CompletionRequest {
    pub(crate) prompt: Prompt,
    /// The known answer.
    pub(crate) label: Value,
    pub(crate) completion: String,
    /// Its place in the request.
    pub(crate) at: usize,
}

/// Adds completions to their cohorts: all, or none if one is not valid.
pub(crate) fn join(
    state: &ServerState,
    client: &Client,
    headers: &HeaderMap,
    ones: Vec<CompletionRequest>,
) -> Result<Vec<Waiting>, Problem> {
    let arrivals: Vec<Arrival> =
        ones.into_iter().map(|one| arrival(client, headers, one)).collect::<Result<_, _>>()?;
    let join = |arrival| state.barrier.join(arrival);
    arrivals.into_iter().map(join).collect::<Result<_, _>>()
}

/// A completion with its cohort key and name.
fn arrival(
    client: &Client,
    headers: &HeaderMap,
    one: CompletionRequest,
) -> Result<Arrival, Problem> {
    let CompletionRequest { prompt, label, completion, at } = one;
    let bad = |text: &str| Problem::Invalid(text.to_owned());
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
            CohortKey::Given { group: group.clone(), attempt: attempt.unwrap_or(0) }
        }
        (None, None) => content_key(&prompt, &label),
        (None, Some(_)) => return Err(bad(&format!("header {ATTEMPT} comes without {GROUP}"))),
    };
    let name = match (number(MEMBER)?, header(REQUEST)) {
        (Some(member), _) => Some(MemberName::Place(member.saturating_add(at as u64))),
        (None, Some(id)) => Some(MemberName::Request(format!("{id}#{at}"))),
        (None, None) => None,
    };
    let about = About { prompt, answer: Some(label), group_id: group, client: client.0.clone() };
    Ok(Arrival { key, name, completion, about })
}

/// Requests with the same prompt and known answer are one group.
pub(crate) fn content_key(prompt: &Prompt, label: &Value) -> CohortKey {
    let content = format!("{}\u{0}{label}", prompt.to_column());
    CohortKey::Content(blake3::hash(content.as_bytes()).to_hex().to_string())
}

/// Last resort: collecting and judging have limits of their own.
pub(crate) fn limit(state: &ServerState) -> Duration {
    let limits = &state.scorer.config;
    limits.cohorts.collect + limits.timeout + Duration::from_secs(1)
}

/// The score of one completion.
///
/// # Errors
/// The problem of its cohort.
pub(crate) async fn answer(state: &ServerState, waiting: Waiting) -> Result<Scored, Problem> {
    waiting.answer(limit(state)).await
}
