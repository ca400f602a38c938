//! The body of a call: a vote or a conversation as an OpenAI chat completion.
//!
//! It does not know servers, nor how the answer is read (see `answer`).

use joust_schema::control_tokens;
use joust_schema::prompt::Message;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::judge::vote::VoteRequest;
use crate::prompt;

/// Body of `POST /v1/chat/completions`.
#[derive(Serialize)]
pub(super) struct ChatBody<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message>,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    #[serde(flatten)]
    pub(super) limit: TokenLimit,
    pub(super) seed: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<String>,
    /// Number of choices wanted; left out for one, for servers that do not know the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<usize>,
    /// Fields of the user's config.
    #[serde(flatten)]
    pub(super) extra: &'a Map<String, Value>,
}

/// Maximum number of tokens of the answer, under the name that the servers know.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenLimit {
    MaxTokens(usize),
    MaxCompletionTokens(usize),
}

/// The judge's prompt for a vote.
pub(super) fn vote_messages(request: &VoteRequest) -> [Message; 2] {
    let texts = [&request.question, &request.answer_first, &request.answer_second];
    let [question, first, second] = texts.map(|text| disarmed(text));
    prompt::messages(&question, &first, &second)
}

/// Breaks up control tokens in a policy's text, so that the server's tokenizer reads them as text.
pub(super) fn disarmed(text: &str) -> String {
    control_tokens::disarmed(text)
}
