//! An operation (one method of one route), and the OpenAPI document of all operations. Schemas are
//! made from the types that the handlers read and write.
//!
//! Knows no handler by name; the table of operations is in `api`.

use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::problem::meaning;
use crate::protocols::streams::{ARROW_STREAM, JSON_LINES};
use crate::state::ServerState;

/// Makes a type's schema.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A parameter of a request: location, name, description, type.
pub(crate) type Parameter = (&'static str, &'static str, &'static str, &'static str);

const JSON: &str = "application/json";

const DESCRIPTION: &str = "Rewards by tournaments: a reasoning judge compares the completions of a \
                           prompt two at a time, and its votes become rewards. A failed \
                           judgement is never a number.";

/// One method of one route: its handler and its description.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    tag: &'static str,
    summary: &'static str,
    body: Option<SchemaOf>,
    /// Parameters of path, query and headers.
    parameters: &'static [Parameter],
    /// Status, content type and schema of success.
    answer: (u16, &'static str, SchemaOf),
    /// Statuses of problems.
    problems: &'static [u16],
    /// True if the route needs no token.
    pub(crate) is_open: bool,
    /// True if the answer is made at once, where the sockets are: it waits for no other request.
    pub(crate) is_at_once: bool,
    /// True if the body is a stream of groups.
    is_stream: bool,
    pub(crate) handler: MethodRouter<ServerState>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object"})
}

fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string"})
}

/// `GET path`, answered with a JSON object unless said otherwise.
pub(crate) fn get<H: Handler<T, ServerState>, T: 'static>(
    path: &'static str,
    handler: H,
) -> Operation {
    Operation::new("get", path, routing::get(handler))
}

/// `POST path`.
pub(crate) fn post<H: Handler<T, ServerState>, T: 'static>(
    path: &'static str,
    handler: H,
) -> Operation {
    Operation::new("post", path, routing::post(handler))
}

/// `DELETE path`.
pub(crate) fn delete<H: Handler<T, ServerState>, T: 'static>(
    path: &'static str,
    handler: H,
) -> Operation {
    Operation::new("delete", path, routing::delete(handler))
}

impl Operation {
    fn new(method: &'static str, path: &'static str, handler: MethodRouter<ServerState>) -> Self {
        Self {
            method,
            path,
            tag: "",
            summary: "",
            body: None,
            parameters: &[],
            answer: (200, JSON, object),
            problems: &[],
            is_open: false,
            is_at_once: false,
            is_stream: false,
            handler,
        }
    }

    /// Tag and summary.
    pub(crate) fn says(self, tag: &'static str, summary: &'static str) -> Self {
        Self { tag, summary, ..self }
    }

    /// Type of the JSON body.
    pub(crate) fn reads<T: JsonSchema>(self) -> Self {
        Self { body: Some(of::<T>), ..self }
    }

    /// Type of one group of a streamed body.
    pub(crate) fn reads_stream_of<T: JsonSchema>(self) -> Self {
        Self { body: Some(of::<T>), is_stream: true, ..self }
    }

    /// Parameters of path, query and headers.
    pub(crate) fn takes(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    /// Type of the JSON answer.
    pub(crate) fn answers<T: JsonSchema>(self) -> Self {
        Self { answer: (200, JSON, of::<T>), ..self }
    }

    /// As [`Operation::answers`], with 202.
    pub(crate) fn accepts<T: JsonSchema>(self) -> Self {
        Self { answer: (202, JSON, of::<T>), ..self }
    }

    /// Content type of a text answer.
    pub(crate) fn answers_text(self, kind: &'static str) -> Self {
        Self { answer: (200, kind, text), ..self }
    }

    /// Content type of a stream of objects.
    pub(crate) fn answers_events(self, kind: &'static str) -> Self {
        Self { answer: (200, kind, object), ..self }
    }

    /// Statuses of problems.
    pub(crate) fn problems(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }

    /// The route needs no token.
    pub(crate) fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    /// The answer is made at once: it takes no lock for long and reads no body.
    pub(crate) fn at_once(self) -> Self {
        Self { is_at_once: true, ..self }
    }
}

/// Tags of operations with their descriptions, in the order of the document.
const TAGS: [(&str, &str); 6] = [
    ("groups", "Completions of one prompt in one request"),
    ("jobs", "Groups whose result is asked for later"),
    (
        "trainers",
        "Protocols of trainers; groups of single completions are put together by the server",
    ),
    ("scores", "Scores as inference servers give them"),
    ("judge", "The judge's model itself"),
    ("operation", "For operators"),
];

/// The OpenAPI document; `wants_token` if tokens are configured.
pub(crate) fn description(operations: &[Operation], wants_token: bool) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let described = operation.describe(&mut generator, wants_token);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem_schema());
    let mut components = json!({"schemas": schemas});
    if wants_token {
        components["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "joust",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": TAGS.map(|(name, what)| json!({"name": name, "description": what})),
        "paths": paths,
        "components": components,
    })
}

/// Schema of the body of a problem.
fn problem_schema() -> Value {
    let text = |says: &str| json!({"type": "string", "description": says});
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "code", "param"],
                "properties": {
                    "message": text("What is wrong, and what was wanted."),
                    "type": text("Kind of the problem, such as `invalid_request_error`."),
                    "code": text("Name of the problem, for programs."),
                    "param": {"type": "null"},
                },
            },
        },
    })
}

impl Operation {
    fn describe(&self, generator: &mut SchemaGenerator, wants_token: bool) -> Value {
        let name = self.path.replace(['/', '{', '}'], " ");
        let name = name.split_whitespace().collect::<Vec<_>>().join("_");
        let wants_token = wants_token && !self.is_open;
        let mut described = json!({
            "operationId": format!("{}_{name}", self.method),
            "tags": [self.tag],
            "summary": self.summary,
            "responses": self.responses(generator, wants_token),
        });
        if !self.parameters.is_empty() {
            described["parameters"] = self.parameters.iter().map(describe_parameter).collect();
        }
        if let Some(schema) = self.body {
            let content = self.body_content(schema(generator));
            described["requestBody"] = json!({"required": true, "content": content});
        }
        if wants_token {
            described["security"] = json!([{"token": []}]);
        }
        described
    }

    /// Responses by status: the answer, and the problems.
    fn responses(&self, generator: &mut SchemaGenerator, wants_token: bool) -> Map<String, Value> {
        let (ok, kind, answer) = self.answer;
        let mut responses = Map::new();
        responses.insert(
            ok.to_string(),
            json!({"description": "the answer", "content": {kind: {"schema": answer(generator)}}}),
        );
        // what is refused on all routes but those of probes
        let guarded: &[u16] = match (self.is_open, wants_token) {
            (true, _) => &[],
            (false, true) => &[401, 415],
            (false, false) => &[403, 415],
        };
        for &status in self.problems.iter().chain(guarded) {
            responses.insert(status.to_string(), self.problem_response(status));
        }
        responses
    }

    fn problem_response(&self, status: u16) -> Value {
        let problem = json!({"$ref": "#/components/schemas/Problem"});
        let schema = if self.is_open { json!({"type": "object"}) } else { problem };
        let mut response =
            json!({"description": meaning(status), "content": {JSON: {"schema": schema}}});
        if matches!(status, 429 | 503 | 504 | 507) {
            let seconds = json!({"type": "integer"});
            let what = "Seconds after which a retry may succeed.";
            response["headers"] = json!({
                "Retry-After": {"description": what, "schema": seconds},
            });
        }
        response
    }

    /// Content types of the body; in a stream, `schema` is that of a group.
    fn body_content(&self, schema: Schema) -> Value {
        if !self.is_stream {
            return json!({JSON: {"schema": schema}});
        }
        let lines = json!({"type": "string"});
        json!({
            JSON_LINES[0]: {"schema": lines, "x-item-schema": schema},
            ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}},
        })
    }
}

fn describe_parameter((location, name, description, kind): &Parameter) -> Value {
    let mut schema = json!({"type": kind});
    if *kind == "integer" {
        schema["minimum"] = json!(0);
    }
    json!({
        "in": location,
        "name": name,
        "description": description,
        "required": *location == "path",
        "schema": schema,
    })
}
