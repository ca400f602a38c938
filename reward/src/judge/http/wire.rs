//! A vote as an OpenAI chat completion, and what comes back.

use joust_schema::prompt::Message;
use serde::{Deserialize, Serialize};

use crate::judge::{VoteReply, VoteRequest};
use crate::{prompt, verdict};

/// Body of `POST /v1/chat/completions`.
#[derive(Serialize)]
pub(super) struct Ask<'a> {
    pub(super) model: &'a str,
    pub(super) messages: [Message; 2],
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) max_tokens: usize,
    pub(super) seed: i64,
}

/// What is used of the answer.
#[derive(Deserialize)]
pub(super) struct Answer {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    /// The thought, where the server takes it apart (vLLM's and SGLang's reasoning parsers).
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: usize,
    #[serde(default)]
    completion_tokens: usize,
    #[serde(default)]
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<usize>,
}

/// The judge's prompt. The server's tokenizer would read control tokens that a policy spells out; a
/// space after their first character keeps it from that.
pub(super) fn messages(request: &VoteRequest) -> [Message; 2] {
    let disarmed = [&request.question, &request.answer_first, &request.answer_second]
        .map(|text| text.replace("<|", "< |").replace("<｜", "< ｜"));
    let [question, first, second] = &disarmed;
    prompt::messages(question, first, second)
}

impl Answer {
    /// The vote; none where the server gave no choice.
    pub(super) fn into_reply(self, latency_ms: f64) -> Option<VoteReply> {
        let said = self.choices.into_iter().next()?.message;
        let content = said.content.unwrap_or_default();
        let text = match said.reasoning_content.filter(|thought| !thought.is_empty()) {
            Some(thought) => format!("<think>\n{thought}\n</think>\n\n{content}"),
            None => content,
        };
        let usage = self.usage.unwrap_or_default();
        let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        Some(VoteReply {
            verdict: verdict::parse(&text),
            text,
            prompt_tokens: usage.prompt_tokens,
            cached_prompt_tokens: cached.unwrap_or(0),
            completion_tokens: usage.completion_tokens,
            latency_ms,
        })
    }
}
