//! `POST /v1/chat/completions`: the judge's model in OpenAI's protocol, for verl's generative
//! reward models and for the `http` judge of another joust.

use axum::extract::State;
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::responses::Content;
use crate::dump::journal::unix_now;
use crate::input::{Client, Input};
use crate::problem::Problem;
use crate::state::ServerState;
use joust_reward::judge::{ChatReply, ChatRequest};

/// Roles that a message may have.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Maximum number of answers per request.
const MAX_ANSWERS: u32 = 128;

/// Maximum of `max_tokens`: more than any model's context.
const MAX_TOKENS: usize = 1 << 20;

/// Body of `/v1/chat/completions`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Chat {
    /// Name of the model; ignored.
    model: Option<String>,
    /// The conversation.
    messages: Vec<Turn>,
    /// Maximum tokens per answer; the judge's own bound if left out.
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<usize>,
    /// In [0, 2]; the judge's own if left out.
    temperature: Option<f64>,
    /// In (0, 1]; the judge's own if left out.
    top_p: Option<f64>,
    /// Number of answers.
    n: Option<u32>,
    /// Seed of the draws.
    seed: Option<i64>,
    /// Only false: streaming is not offered.
    #[serde(default)]
    stream: Option<bool>,
    /// Stop texts, at most four; not part of the answer.
    stop: Option<StopTexts>,
    /// Not offered.
    #[schemars(with = "Option<()>")]
    tools: Option<Value>,
    /// Not offered.
    #[schemars(with = "Option<()>")]
    response_format: Option<Value>,
    /// Only false.
    logprobs: Option<bool>,
}

/// One text or some.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "stop is neither a text nor a list of texts")]
enum StopTexts {
    One(#[schemars(length(min = 1, max = 1000))] String),
    Some(#[schemars(length(max = 4))] Vec<String>),
}

/// Maximum number of stop texts.
const MAX_STOPS: usize = 4;

/// Maximum size of a stop text.
const MAX_STOP_BYTES: usize = 1000;

/// One message.
#[derive(Deserialize, JsonSchema)]
struct Turn {
    /// `system`, `user` or `assistant`.
    role: String,
    /// A text, or parts of which those with a text count.
    content: Content,
}

impl Chat {
    /// The stop texts.
    fn stops(&self) -> &[String] {
        match &self.stop {
            Some(StopTexts::One(text)) => std::slice::from_ref(text),
            Some(StopTexts::Some(texts)) => texts,
            None => &[],
        }
    }

    /// The first problem of the request.
    fn problem(&self) -> Option<String> {
        let is_outside = |value: Option<f64>, least: f64, most: f64| {
            value.is_some_and(|value| !(least..=most).contains(&value))
        };
        let n = self.n.unwrap_or(1);
        if self.messages.is_empty() {
            return Some("messages is empty".to_owned());
        }
        if let Some(turn) = self.messages.iter().find(|turn| !ROLES.contains(&&turn.role[..])) {
            return Some(format!("role is {:?}, wanted one of {}", turn.role, ROLES.join(", ")));
        }
        if !(1..=MAX_ANSWERS).contains(&n) {
            return Some(format!("n is {n}, wanted 1 to {MAX_ANSWERS}"));
        }
        if let Some(most) = self.max_tokens.filter(|most| !(1..=MAX_TOKENS).contains(most)) {
            return Some(format!("max_tokens is {most}, wanted 1 to {MAX_TOKENS}"));
        }
        if is_outside(self.temperature, 0.0, 2.0) {
            return Some("temperature must be in [0, 2]".to_owned());
        }
        if is_outside(self.top_p, f64::MIN_POSITIVE, 1.0) {
            return Some("top_p must be in (0, 1]".to_owned());
        }
        let stops = self.stops();
        let is_bad = |stop: &String| !(1..=MAX_STOP_BYTES).contains(&stop.len());
        if stops.len() > MAX_STOPS || stops.iter().any(is_bad) {
            return Some(format!(
                "stop wants at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes"
            ));
        }
        let name = self.unsupported_field()?;
        Some(format!("{name} is not offered; leave it out"))
    }

    /// Name of a field that asks for something the server does not offer.
    fn unsupported_field(&self) -> Option<&'static str> {
        // clients send defaults that ask for nothing: null, an empty list, the format `text`
        let asks_nothing = |value: &Value| match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            other => other["type"] == "text",
        };
        let asks = |value: &Option<Value>| value.as_ref().is_some_and(|value| !asks_nothing(value));
        let fields = [
            ("stream", self.stream == Some(true)),
            ("logprobs", self.logprobs == Some(true)),
            ("tools", asks(&self.tools)),
            ("response_format", asks(&self.response_format)),
        ];
        fields.into_iter().find(|(_, is_set)| *is_set).map(|(name, _)| name)
    }

    fn messages(&self) -> Vec<Message> {
        let message = |turn: &Turn| Message::new(&turn.role, turn.content.text());
        self.messages.iter().map(message).collect()
    }
}

/// Seed of a request without one: by the server's seed and the texts of the messages.
fn derived_seed(server_seed: u64, messages: &[Message]) -> Seed {
    let texts = messages.iter().map(|message| message.content.as_str());
    texts.fold(Seed::new(server_seed), |seed, text| seed.child_str("said", text))
}

/// `POST /v1/chat/completions`.
pub(crate) async fn completions(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<Chat>,
) -> Result<Json<Value>, Problem> {
    if let Some(problem) = body.problem() {
        return Err(Problem::Invalid(problem));
    }
    state.check_open()?;
    let messages = body.messages();
    let seed = match body.seed {
        Some(seed) => Seed::new(seed as u64),
        None => derived_seed(state.scorer.config.seed, &messages),
    };
    let ask = |number: u32| {
        let request = ChatRequest {
            messages: messages.clone(),
            max_tokens: body.max_tokens,
            temperature: body.temperature,
            top_p: body.top_p,
            stop: body.stops().to_vec(),
            seed: seed.child("choice", u64::from(number)),
        };
        state.scorer.chat(request, &client.0)
    };
    let replies = try_join_all((0..body.n.unwrap_or(1)).map(ask)).await?;
    let model = body.model.unwrap_or_else(|| state.scorer.judge.to_string());
    Ok(Json(chat_completion(seed, model, &replies)))
}

/// The response body: one choice per reply.
fn chat_completion(seed: Seed, model: String, replies: &[ChatReply]) -> Value {
    let choice = |(index, reply): (usize, &ChatReply)| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": if reply.is_whole { "stop" } else { "length" },
            "logprobs": null,
        })
    };
    let prompt_tokens = replies.first().map_or(0, |reply| reply.prompt_tokens);
    let completion_tokens: usize = replies.iter().map(|reply| reply.completion_tokens).sum();
    json!({
        "id": format!("chatcmpl-{:016x}", seed.0),
        "object": "chat.completion",
        "created": unix_now() as u64,
        "model": model,
        "choices": replies.iter().enumerate().map(choice).collect::<Vec<Value>>(),
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    })
}
