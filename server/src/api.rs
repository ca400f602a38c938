//! The table of operations: path, types, handler. The router and the OpenAPI document are made from
//! it, so that neither can miss a route.

use crate::openapi::{Operation, Parameter, delete, get, post};
use crate::protocols::{
    chat, chat_request, jobs, native, nemo_gym, openrlhf, rerank, slime, streams, system, vllm,
};
use crate::wire;

const JOB: Parameter = ("path", "job_id", "The job's id", "string");
const TRACES: Parameter = ("query", "traces", "Adds the judge's outputs", "boolean");
const GROUP: Parameter = ("header", "x-joust-group", "Name of the group", "string");
const ATTEMPT: Parameter = ("header", "x-joust-attempt", "Attempt number of the group", "integer");
const MEMBER: Parameter = ("header", "x-joust-member", "Index in the group", "integer");
const REQUEST: Parameter =
    ("header", "x-request-id", "Id of the request; the same id again is a retry", "string");
const KEY: Parameter =
    ("query", "key", "Answers with an object, the reward under this key", "string");

/// Problem statuses of routes that read a whole group.
const GROUP_PROBLEMS: &[u16] = &[400, 408, 409, 413, 415, 422, 429, 503, 504];

/// Problem statuses of routes that read single completions.
const COMPLETION_PROBLEMS: &[u16] = &[400, 408, 409, 410, 413, 415, 422, 429, 503, 504];

/// All operations.
pub(crate) fn operations() -> Vec<Operation> {
    let by_tag = [
        group_operations(),
        job_operations(),
        trainer_operations(),
        score_operations(),
        judge_operations(),
        operator_operations(),
    ];
    by_tag.into_iter().flatten().collect()
}

/// Completions of one prompt in one request.
fn group_operations() -> Vec<Operation> {
    vec![
        post("/v1/score_group", native::score_group)
            .says("groups", "Scores a group of completions of one prompt by a tournament")
            .reads::<wire::ScoreGroupRequest>()
            .answers::<wire::ScoreGroupResponse>()
            .problems(GROUP_PROBLEMS),
        post("/v1/score_groups", streams::score_groups)
            .says(
                "groups",
                "Scores many groups, a JSON line each, answered in lines as they are \
             judged; an Arrow stream of completions is answered by one of rewards",
            )
            .reads_stream_of::<wire::ScoreGroupRequest>()
            .answers_text("application/x-ndjson")
            .problems(&[400, 408, 409, 413, 415, 422, 429, 503]),
    ]
}

/// Groups whose result is fetched later.
fn job_operations() -> Vec<Operation> {
    vec![
        post("/v1/jobs", jobs::accept)
            .says("jobs", "Accepts a group whose result is asked for later")
            .reads::<wire::ScoreGroupRequest>()
            .accepts::<jobs::JobReport>()
            .problems(&[400, 408, 413, 415, 422, 429, 503, 507]),
        get("/v1/jobs/{job_id}", jobs::show)
            .says("jobs", "Status of a job, and its result")
            .takes(&[JOB, TRACES])
            .answers::<jobs::JobReport>()
            .problems(&[404, 422]),
        delete("/v1/jobs/{job_id}", jobs::cancel)
            .says("jobs", "Cancels a job, unless others want the same group")
            .takes(&[JOB])
            .answers::<jobs::JobReport>()
            .problems(&[404, 409, 429, 503]),
        get("/v1/jobs/{job_id}/events", jobs::events)
            .says("jobs", "A job's progress as server-sent events, its result as the last")
            .takes(&[JOB, TRACES])
            .answers_events("text/event-stream")
            .problems(&[404, 422]),
    ]
}

/// Protocols of trainers.
fn trainer_operations() -> Vec<Operation> {
    vec![
        post("/get_reward", openrlhf::get_reward)
            .says("trainers", "OpenRLHF: rewards of completions whose group is put together here")
            .reads::<openrlhf::OpenRlhf>()
            .takes(&[GROUP, ATTEMPT, MEMBER, REQUEST])
            .answers::<openrlhf::OpenRlhfAnswer>()
            .problems(COMPLETION_PROBLEMS),
        post("/remote_rm", slime::remote_rm)
            .says(
                "trainers",
                "slime: the reward of one completion whose group is put together here",
            )
            .reads::<slime::Slime>()
            .takes(&[KEY, GROUP, ATTEMPT, MEMBER, REQUEST])
            .answers::<slime::SlimeAnswer>()
            .problems(COMPLETION_PROBLEMS),
        post("/verify", nemo_gym::verify)
            .says(
                "trainers",
                "NeMo-Gym: the reward of one rollout whose group is put together here",
            )
            .reads::<nemo_gym::NemoGym>()
            .answers::<nemo_gym::NemoGymAnswer>()
            .problems(COMPLETION_PROBLEMS),
        post("/compare", nemo_gym::compare)
            .says("trainers", "NeMo-Gym: rewards of a whole group")
            .reads::<nemo_gym::Compare>()
            .answers::<nemo_gym::CompareAnswer>()
            .problems(GROUP_PROBLEMS),
    ]
}

/// Scores in the protocols of inference servers.
fn score_operations() -> Vec<Operation> {
    vec![
        post("/rerank", rerank::rerank)
            .says("scores", "Documents of a query, best first")
            .reads::<rerank::Rerank>()
            .answers::<rerank::RerankAnswer>()
            .problems(GROUP_PROBLEMS),
        post("/v1/rerank", rerank::rerank)
            .says("scores", "Documents of a query, best first")
            .reads::<rerank::Rerank>()
            .answers::<rerank::RerankAnswer>()
            .problems(GROUP_PROBLEMS),
        post("/v2/rerank", rerank::rerank)
            .says("scores", "Documents of a query, best first")
            .reads::<rerank::Rerank>()
            .answers::<rerank::RerankAnswer>()
            .problems(GROUP_PROBLEMS),
        post("/v1/score", vllm::score)
            .says("scores", "vLLM: scores of documents, as completions of their query")
            .reads::<vllm::ScoreBody>()
            .takes(&[GROUP, ATTEMPT, MEMBER, REQUEST])
            .problems(COMPLETION_PROBLEMS),
        post("/score", vllm::score)
            .says("scores", "vLLM: scores of documents, as completions of their query")
            .reads::<vllm::ScoreBody>()
            .takes(&[GROUP, ATTEMPT, MEMBER, REQUEST])
            .problems(COMPLETION_PROBLEMS),
        post("/classify", vllm::classify)
            .says("scores", "vLLM and SGLang: scores of conversations that end in an answer")
            .reads::<vllm::Classify>()
            .takes(&[GROUP, ATTEMPT, MEMBER, REQUEST])
            .answers::<vllm::ClassifyAnswer>()
            .problems(COMPLETION_PROBLEMS),
    ]
}

/// The judge's model itself.
fn judge_operations() -> Vec<Operation> {
    vec![
        post("/v1/chat/completions", chat::completions)
            .says("judge", "OpenAI: talks to the judge's model itself")
            .reads::<chat_request::Chat>()
            .problems(&[400, 404, 408, 413, 415, 422, 429, 503, 504]),
        get("/v1/models", system::models).says("judge", "OpenAI: the judge's name"),
    ]
}

/// For operators.
fn operator_operations() -> Vec<Operation> {
    vec![
        get("/health", system::health)
            .says("operation", "Liveness of the judge")
            .problems(&[503])
            .open()
            .at_once(),
        get("/ready", system::ready)
            .says("operation", "Readiness for requests")
            .problems(&[503])
            .open()
            .at_once(),
        get("/info", system::info).says("operation", "The settings"),
        get("/metrics", system::metrics)
            .says("operation", "Metrics for Prometheus (OpenMetrics)")
            .answers_text("application/openmetrics-text")
            .at_once(),
        get("/openapi.json", system::openapi).says("operation", "This description"),
    ]
}
