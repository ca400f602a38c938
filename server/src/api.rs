//! The list of routes, and the OpenAPI description that is made of it: schemas come from the types that the
//! routes read and write.

use axum::http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{chat, groups, jobs, scores, singles, streams, wire};

/// Makes a type's schema.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What one method of one route does.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    tag: &'static str,
    summary: &'static str,
    body: Option<SchemaOf>,
    /// Parameters of path, query and headers.
    parameters: &'static [Parameter],
    ok: u16,
    answer: (&'static str, SchemaOf),
    /// What else it may answer.
    problems: &'static [u16],
}

/// A parameter: where it stands, its name, what it is, its type.
type Parameter = (&'static str, &'static str, &'static str, &'static str);

/// Kinds of operations, in the order in which they are shown.
const TAGS: [(&str, &str); 6] = [
    ("groups", "Completions of one prompt, all at once"),
    ("jobs", "Groups whose result is asked for later"),
    ("trainers", "What trainers ask for; groups of single completions are put together here"),
    ("scores", "Scores as inference servers give them"),
    ("judge", "The judge's model itself"),
    ("operation", "For those who run the server"),
];

const JSON: &str = "application/json";
const JOB: Parameter = ("path", "job_id", "The job's id", "string");
const TRACES: Parameter = ("query", "traces", "Shows what the judge said", "boolean");
const GROUP: Parameter = ("header", "x-joust-group", "Names the group", "string");
const ATTEMPT: Parameter = ("header", "x-joust-attempt", "Counts judgings of a group", "integer");
const MEMBER: Parameter = ("header", "x-joust-member", "Place in the group", "integer");
const REQUEST: Parameter = ("header", "x-request-id", "The same again is a retry", "string");
const KEY: Parameter =
    ("query", "key", "Answers with an object, the reward under this key", "string");

/// Problems of routes that read a group, and of those that read one completion.
const OF_GROUPS: &[u16] = &[400, 408, 409, 413, 422, 429, 503, 504];
const OF_SINGLES: &[u16] = &[400, 408, 409, 410, 413, 422, 429, 503, 504];

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

/// What a route is called with and answers, written as a table row.
macro_rules! operation {
    (
        $method:literal $path:literal, $tag:literal, $summary:literal,
        $(body $body:expr,)? parameters $parameters:expr,
        $ok:literal $kind:expr, $answer:expr, problems $problems:expr
    ) => {
        Operation {
            method: $method,
            path: $path,
            tag: $tag,
            summary: $summary,
            body: None$(.or(Some($body as SchemaOf)))?,
            parameters: $parameters,
            ok: $ok,
            answer: ($kind, $answer),
            problems: $problems,
        }
    };
}

/// All operations.
pub(crate) fn operations() -> Vec<Operation> {
    vec![
        operation!("post" "/v1/score_group", "groups", "Scores a group of completions of one prompt by a tournament",
            body of::<wire::ScoreGroupRequest>, parameters &[],
            200 JSON, of::<wire::ScoreGroupResponse>, problems OF_GROUPS),
        operation!("post" "/v1/score_groups", "groups", "Scores many groups, a JSON line each, answered in lines as they are judged; an Arrow stream of completions is answered by one of rewards",
            body of::<wire::ScoreGroupRequest>, parameters &[],
            200 "application/x-ndjson", text, problems &[400, 413, 415, 422, 429, 503]),
        operation!("post" "/v1/jobs", "jobs", "Accepts a group whose result is asked for later",
            body of::<wire::ScoreGroupRequest>, parameters &[],
            202 JSON, of::<jobs::Job>, problems &[400, 408, 413, 422, 429, 503]),
        operation!("get" "/v1/jobs/{job_id}", "jobs", "How far a job is, and its result",
            parameters &[JOB, TRACES], 200 JSON, of::<jobs::Job>, problems &[404, 422]),
        operation!("delete" "/v1/jobs/{job_id}", "jobs", "Cancels a job, unless others want the same group",
            parameters &[JOB], 200 JSON, of::<jobs::Job>, problems &[404, 409, 429, 503]),
        operation!("get" "/v1/jobs/{job_id}/events", "jobs", "A job's progress as server-sent events, its result as the last",
            parameters &[JOB, TRACES], 200 "text/event-stream", object, problems &[404, 422]),
        operation!("post" "/get_reward", "trainers", "OpenRLHF: rewards of completions whose group is put together here",
            body of::<singles::OpenRlhf>, parameters &[GROUP, ATTEMPT, MEMBER, REQUEST],
            200 JSON, of::<singles::OpenRlhfAnswer>, problems OF_SINGLES),
        operation!("post" "/remote_rm", "trainers", "slime: the reward of one completion whose group is put together here",
            body of::<singles::Slime>, parameters &[KEY, GROUP, ATTEMPT, MEMBER, REQUEST],
            200 JSON, of::<singles::SlimeAnswer>, problems OF_SINGLES),
        operation!("post" "/verify", "trainers", "NeMo-Gym: the reward of one rollout whose group is put together here",
            body of::<singles::NemoGym>, parameters &[],
            200 JSON, of::<singles::NemoGymAnswer>, problems OF_SINGLES),
        operation!("post" "/compare", "trainers", "NeMo-Gym: rewards of a whole group",
            body of::<groups::Compare>, parameters &[],
            200 JSON, of::<groups::CompareAnswer>, problems OF_GROUPS),
        operation!("post" "/rerank", "scores", "Documents of a query, best first",
            body of::<groups::Rerank>, parameters &[],
            200 JSON, of::<groups::RerankAnswer>, problems OF_GROUPS),
        operation!("post" "/v1/rerank", "scores", "Documents of a query, best first",
            body of::<groups::Rerank>, parameters &[],
            200 JSON, of::<groups::RerankAnswer>, problems OF_GROUPS),
        operation!("post" "/score", "scores", "vLLM: scores of documents, as completions of their query",
            body of::<scores::ScoreBody>, parameters &[GROUP, ATTEMPT, MEMBER, REQUEST],
            200 JSON, object, problems OF_SINGLES),
        operation!("post" "/classify", "scores", "vLLM and SGLang: scores of conversations that end in an answer",
            body of::<scores::Classify>, parameters &[GROUP, ATTEMPT, MEMBER, REQUEST],
            200 JSON, of::<scores::ClassifyAnswer>, problems OF_SINGLES),
        operation!("post" "/v1/chat/completions", "judge", "OpenAI: talks to the judge's model itself",
            body of::<chat::Chat>, parameters &[],
            200 JSON, object, problems &[400, 408, 413, 422, 429, 503, 504]),
        operation!("get" "/v1/models", "judge", "OpenAI: the judge's name",
            parameters &[], 200 JSON, object, problems &[]),
        operation!("get" "/health", "operation", "Whether the judge is alive",
            parameters &[], 200 JSON, object, problems &[503]),
        operation!("get" "/ready", "operation", "Whether requests are welcome now",
            parameters &[], 200 JSON, object, problems &[503]),
        operation!("get" "/info", "operation", "The settings",
            parameters &[], 200 JSON, object, problems &[]),
        operation!("get" "/metrics", "operation", "Figures for Prometheus (OpenMetrics)",
            parameters &[], 200 "application/openmetrics-text", text, problems &[]),
        operation!("get" "/openapi.json", "operation", "This description",
            parameters &[], 200 JSON, object, problems &[]),
    ]
}

/// The OpenAPI description; `wants_token` where the server asks for one.
pub(crate) fn description(wants_token: bool) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations() {
        let described = operation.describe(&mut generator, wants_token);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert(
        "Problem".to_owned(),
        json!({
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string", "description": "what is wrong, and what was wanted"}},
        }),
    );
    let mut components = json!({"schemas": schemas});
    if wants_token {
        components["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "joust",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rewards by tournaments: a reasoning judge compares the completions of a prompt two at \
                            a time, and its votes become rewards. A failed judgement is never a number.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": TAGS.map(|(name, what)| json!({"name": name, "description": what})),
        "paths": paths,
        "components": components,
    })
}

impl Operation {
    fn describe(&self, generator: &mut SchemaGenerator, wants_token: bool) -> Value {
        let (kind, answer) = self.answer;
        let mut responses = Map::new();
        responses.insert(
            self.ok.to_string(),
            json!({"description": "the answer", "content": {kind: {"schema": answer(generator)}}}),
        );
        let is_open = super::routes::OPEN_ROUTES.contains(&self.path);
        let unauthorized = (wants_token && !is_open).then_some(401);
        for status in self.problems.iter().copied().chain(unauthorized) {
            let problem = json!({"$ref": "#/components/schemas/Problem"});
            let schema = if is_open { json!({"type": "object"}) } else { problem };
            let mut response =
                json!({"description": meaning(status), "content": {JSON: {"schema": schema}}});
            if matches!(status, 429 | 503 | 504) {
                let seconds = json!({"type": "integer"});
                response["headers"] = json!({
                    "Retry-After": {"description": "seconds after which another try may do better", "schema": seconds},
                });
            }
            responses.insert(status.to_string(), response);
        }
        let name = self.path.replace(['/', '{', '}'], " ");
        let name = name.split_whitespace().collect::<Vec<_>>().join("_");
        let mut described = json!({
            "operationId": format!("{}_{name}", self.method),
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        });
        if !self.parameters.is_empty() {
            let parameters = self.parameters.iter().map(|(place, name, what, kind)| {
                let minimum = if *kind == "integer" { json!({"minimum": 0}) } else { json!({}) };
                let mut schema = json!({"type": kind});
                schema.as_object_mut().into_iter().for_each(|schema| {
                    schema.extend(minimum.as_object().cloned().unwrap_or_default());
                });
                json!({"in": place, "name": name, "description": what, "required": *place == "path", "schema": schema})
            });
            described["parameters"] = parameters.collect();
        }
        if let Some(schema) = self.body {
            let content = match self.path {
                // a line of it is in the form of the schema
                streams::PATH => json!({
                    streams::JSON_LINES[0]: {"schema": {"type": "string"}, "x-item-schema": schema(generator)},
                    streams::ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}},
                }),
                _ => json!({JSON: {"schema": schema(generator)}}),
            };
            described["requestBody"] = json!({"required": true, "content": content});
        }
        if wants_token && !is_open {
            described["security"] = json!([{"token": []}]);
        }
        described
    }
}

/// What a status means here.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => "the body is no JSON",
        401 => "tokens are set, and the request brings none of them",
        404 => "there is no such job",
        408 => "the body took too long",
        409 => {
            "a member says something else than before, the judging was cancelled, or others want what is to be cancelled"
        }
        410 => "the group was judged without this member",
        413 => "the body is too large",
        415 => "the body is of another kind",
        422 => "the request is not what was wanted, or nothing that the judge can do",
        429 => "there is no room for it now",
        503 => "the judge failed, or the judge or the server stops",
        504 => "no result, or no whole group, in time",
        _ => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("see the documentation"),
    }
}
