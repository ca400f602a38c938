//! NeMo-Gym: `/verify` for one rollout, whose group the barrier collects, and `/compare` for a
//! whole group (`genrm_compare`).

use axum::extract::State;
use axum::{Extension, Json};
use joust_schema::ids::Member;
use joust_schema::tables::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::native::score_texts;
use super::per_completion::{answers, content_key, given_key};
use super::raw_object::RawObject;
use super::responses::{self, Conversation, Output};
use crate::client::Client;
use crate::cohort::barrier::{Arrival, CohortQuestion};
use crate::cohort::terms::MemberName;
use crate::connection_end::ConnectionEnd;
use crate::heavy;
use crate::input::{HeldInput, Input, object};
use crate::problem::Problem;
use crate::state::ServerState;

/// Body of `/verify`; the answer repeats all of its fields, also those that are not read.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NemoGym {
    responses_create_params: CreateParams,
    response: Output,
    /// The client's own id of the group.
    #[serde(rename = "_ng_group_id")]
    #[schemars(with = "Option<Value>")]
    group_id: Option<Box<RawValue>>,
    /// Number of the attempt to judge the group.
    #[serde(rename = "_ng_group_attempt")]
    attempt: Option<u64>,
    /// Index in the group.
    #[serde(rename = "_ng_rollout_index")]
    rollout_index: Option<u64>,
}

#[derive(Deserialize, JsonSchema)]
struct CreateParams {
    input: Conversation,
    /// A system message before the conversation.
    #[serde(default)]
    instructions: Option<String>,
}

/// A problem of a part of the body.
fn bad(part: &str) -> impl Fn(String) -> Problem {
    move |reason| Problem::Invalid(format!("{part}: {reason}"))
}

/// `POST /verify`: answers with the request's body and a `reward`. Without a reward, `reward` is 0
/// and all marks are set by which NeMo-Gym leaves the completion out of training and metrics.
pub(crate) async fn verify(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    end: ConnectionEnd,
    HeldInput(mut answer, share): HeldInput<RawObject>,
) -> Result<Json<RawObject>, Problem> {
    let arrival = heavy::work_on(share.n_bytes(), || arrival(&answer, client))?;
    let waiting = state.barrier.join(vec![arrival], &end)?;
    drop(share);
    match answers(&state, waiting).await.map(|mut scores| scores.remove(0)) {
        Ok(score) => {
            answer.set("reward", &score.reward);
            let components = json!({"win_rate": score.win_rate, "rating": score.rating});
            answer.set("reward_components", &components);
        }
        Err(problem) => {
            let class = failure_class(&problem).ok_or_else(|| problem.clone())?;
            mark_failed(&mut answer, class, &problem.to_string());
        }
    }
    Ok(Json(answer))
}

/// The completion of a body, for the barrier.
///
/// # Errors
/// [`Problem::Invalid`] for a body of another form.
fn arrival(body: &RawObject, client: Client) -> Result<Arrival, Problem> {
    let text = serde_json::to_string(body).expect("it was JSON before. This is a bug.");
    let request: NemoGym = object(text.as_bytes())?;
    let asked = &request.responses_create_params;
    let prompt = responses::prompt(&asked.input, asked.instructions.as_deref())
        .map_err(bad("responses_create_params.input"))?;
    if let Some(problem) = prompt.problem() {
        return Err(Problem::Invalid(format!("responses_create_params.input {problem}")));
    }
    // a number keeps all its digits: ids may have more than 64 bits
    let group = request.group_id.map(|id| match serde_json::from_str(id.get()) {
        Ok(Value::String(text)) => text,
        _ => id.get().to_owned(),
    });
    let key = match &group {
        Some(group) => given_key(&client, group.clone(), request.attempt),
        None => content_key(&client, &prompt, &Value::Null),
    };
    Ok(Arrival {
        key,
        name: request.rollout_index.map(MemberName::Index),
        completion: request.response.text().map_err(bad("response.output"))?,
        question: CohortQuestion { prompt, answer: None, group_id: group, client },
        // the answer repeats the body
        held_bytes: body.n_bytes(),
    })
}

/// NeMo-Gym's failure class of a problem; `None` for a problem that is answered with its status.
fn failure_class(problem: &Problem) -> Option<&'static str> {
    match problem {
        Problem::NoVotes(_) | Problem::Invalid(_) | Problem::GivenUp(_) => Some("judge_failed"),
        Problem::Masked => Some("masked"),
        Problem::Incomplete { .. } => Some("incomplete_group"),
        Problem::TooLate(_) => Some("timeout"),
        _ => None,
    }
}

/// Marks an answer as one without a reward. NeMo-Gym's collection of rollouts reads
/// `_ng_failure_class`, its metrics (since 0.7) read `mask_sample`, NeMo-RL reads `mask_sample` in
/// `instance_config`.
fn mark_failed(answer: &mut RawObject, class: &str, reason: &str) {
    answer.set("reward", &0.0);
    answer.set("_ng_failure_class", &class);
    answer.set("_ng_failure_judge_error", &reason);
    answer.set("mask_sample", &true);
    // NeMo-Gym has a kind of its own for this class; others get the name of this program
    match class {
        "judge_failed" => answer.set("failure_kind", &class),
        _ => answer.set("failure_kind", &format!("joust:{class}")),
    }
    answer.set("failure_reason", &reason);
    let config = answer.get("instance_config").map(RawValue::get);
    let mut config: RawObject =
        config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    config.set("mask_sample", &true);
    answer.set("instance_config", &config);
}

/// Answer of `/verify`: the fields of the request, and these.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct NemoGymAnswer {
    /// The reward; 0 with a failure class, by which NeMo-Gym leaves the completion out.
    reward: f64,
    /// Why there is no reward.
    #[serde(rename = "_ng_failure_class")]
    failure_class: Option<String>,
}

/// Body of `/compare`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Compare {
    /// The conversation before the responses.
    conversation_history: Conversation,
    /// The responses, at least two.
    #[schemars(length(min = 2))]
    response_objs: Vec<Output>,
    /// Criterion of the judge, as a further message.
    principle: Option<String>,
}

/// `POST /compare`.
pub(crate) async fn compare(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<Compare>,
) -> Result<Json<CompareAnswer>, Problem> {
    let prompt = responses::prompt(&body.conversation_history, body.principle.as_deref())
        .map_err(bad("conversation_history"))?;
    let completions: Result<Vec<String>, String> =
        body.response_objs.iter().map(Output::text).collect();
    let completions = completions.map_err(bad("response_objs"))?;
    if completions.len() < 2 {
        let n = completions.len();
        let reason = format!("response_objs has {n} entries, wanted at least two to compare");
        return Err(Problem::Invalid(reason));
    }
    drop(body);
    let judged = score_texts(&state, &client, prompt, completions).await?;
    let result = &judged.result;
    let comparison = |row: &joust_schema::tables::Match| {
        let (score_1, score_2) = (f64::from(row.votes_a), f64::from(row.votes_b));
        // 1 if all votes are for the first response, 6 if all are for the second, 3.5 if even
        let share = if score_1 + score_2 > 0.0 { score_1 / (score_1 + score_2) } else { 0.5 };
        Comparison {
            response_i: row.member_a,
            response_j: row.member_b,
            judge_idx: 0,
            score_1,
            score_2,
            ranking: 1.0 + 5.0 * (1.0 - share),
        }
    };
    let scores: Vec<f64> = result.rewards.iter().filter_map(|row| row.reward).collect();
    let mean_score = mean(scores.iter().copied());
    let variance = mean_score
        .and_then(|mean_score| mean(scores.iter().map(|score| (score - mean_score).powi(2))));
    Ok(Json(CompareAnswer {
        rewards: result.rewards.iter().map(|row| row.reward).collect(),
        statuses: result.rewards.iter().map(|row| row.status).collect(),
        comparison_results: result.matches.iter().map(comparison).collect(),
        metrics: CompareMetrics {
            mean_individual_score: mean_score,
            std_individual_score: variance.map(f64::sqrt),
        },
    }))
}

/// `None` for no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

/// Answer of `/compare`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CompareAnswer {
    /// One per response; null if the judge gave no valid vote.
    rewards: Vec<Option<f64>>,
    /// One status per response.
    statuses: Vec<Status>,
    comparison_results: Vec<Comparison>,
    metrics: CompareMetrics,
}

/// One match.
#[derive(Serialize, JsonSchema)]
struct Comparison {
    response_i: Member,
    response_j: Member,
    judge_idx: u32,
    /// Votes for the first.
    score_1: f64,
    /// Votes for the second.
    score_2: f64,
    /// 1 if all votes are for the first response, 6 if all are for the second.
    ranking: f64,
}

#[derive(Serialize, JsonSchema)]
struct CompareMetrics {
    /// Mean of the rewards; null without any.
    mean_individual_score: Option<f64>,
    /// Standard deviation of the rewards; null without any.
    std_individual_score: Option<f64>,
}
