//! NeMo-Gym: `/verify` for one rollout, whose group the barrier collects, and `/compare` for a
//! whole group (`genrm_compare`).

use axum::extract::State;
use axum::{Extension, Json};
use joust_schema::ids::Member;
use joust_schema::tables::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::native::score_texts;
use super::per_completion::{content_key, limit};
use super::responses::{self, Conversation, Output};
use crate::cohort::barrier::{Arrival, CohortQuestion};
use crate::cohort::terms::{CohortKey, MemberName};
use crate::input::{Client, Input};
use crate::problem::Problem;
use crate::state::ServerState;

/// Body of `/verify`; the answer repeats all of its fields, also those that are not read.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NemoGym {
    responses_create_params: CreateParams,
    response: Output,
    /// The client's own id of the group.
    #[serde(rename = "_ng_group_id")]
    group_id: Option<Value>,
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
}

/// `POST /verify`: answers with the request's body and a `reward`. Without a reward, `reward` is 0
/// and all marks are set by which NeMo-Gym leaves the completion out of training and metrics.
pub(crate) async fn verify(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(mut answer): Input<Value>,
) -> Result<Json<Value>, Problem> {
    if !answer.is_object() {
        return Err(Problem::Invalid("wanted an object".to_owned()));
    }
    let request =
        NemoGym::deserialize(&answer).map_err(|error| Problem::Invalid(error.to_string()))?;
    let prompt = responses::prompt(&request.responses_create_params.input, None);
    if prompt.is_empty() {
        return Err(Problem::Invalid("responses_create_params.input is empty".to_owned()));
    }
    let group = request.group_id.map(|id| match id {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let key = match &group {
        Some(group) => {
            CohortKey::Given { group: group.clone(), attempt: request.attempt.unwrap_or(0) }
        }
        None => content_key(&prompt, &Value::Null),
    };
    let arrival = Arrival {
        key,
        name: request.rollout_index.map(MemberName::Index),
        completion: request.response.text(),
        question: CohortQuestion { prompt, answer: None, group_id: group, client: client.0 },
    };
    let waiting = state.barrier.join(arrival)?;
    match waiting.answer(limit(&state)).await {
        Ok(score) => {
            answer["reward"] = json!(score.reward);
            answer["reward_components"] = json!({
                "win_rate": score.win_rate,
                "rating": score.rating,
            });
        }
        Err(problem) => {
            let class = failure_class(&problem).ok_or_else(|| problem.clone())?;
            mark_failed(&mut answer, class, &problem.to_string());
        }
    }
    Ok(Json(answer))
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
fn mark_failed(answer: &mut Value, class: &str, reason: &str) {
    answer["reward"] = json!(0.0);
    answer["_ng_failure_class"] = json!(class);
    answer["_ng_failure_judge_error"] = json!(reason);
    answer["mask_sample"] = json!(true);
    // NeMo-Gym has a kind of its own for this class; others get the name of this program
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
    /// The responses, at least one.
    #[schemars(length(min = 1))]
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
    let prompt = responses::prompt(&body.conversation_history, body.principle.as_deref());
    let completions = body.response_objs.iter().map(Output::text).collect();
    let judged = score_texts(&state, &client, &prompt, completions).await?;
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
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let squares = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
    Ok(Json(CompareAnswer {
        rewards: result.rewards.iter().map(|row| row.reward).collect(),
        statuses: result.rewards.iter().map(|row| row.status).collect(),
        comparison_results: result.matches.iter().map(comparison).collect(),
        metrics: CompareMetrics {
            mean_individual_score: mean,
            std_individual_score: (squares / scores.len().max(1) as f64).sqrt(),
        },
    }))
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
    mean_individual_score: f64,
    std_individual_score: f64,
}
