//! The wire format: a vote or a conversation as an OpenAI chat completion, and the answer.
//!
//! It does not know servers.

use joust_schema::prompt::Message;
use serde::{Deserialize, Serialize};

use crate::judge::chat::ChatReply;
use crate::judge::vote::{VoteReply, VoteRequest};
use crate::{prompt, verdict};

/// Body of `POST /v1/chat/completions`.
#[derive(Serialize)]
pub(super) struct ChatBody<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message>,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) max_tokens: usize,
    pub(super) seed: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<String>,
    /// Number of choices wanted; left out for one, for servers that do not know the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<usize>,
}

/// The fields of the answer that are used.
#[derive(Deserialize)]
pub(super) struct ChatCompletion {
    choices: Vec<CompletionChoice>,
    #[serde(default)]
    usage: Option<TokenUsage>,
}

#[derive(Deserialize)]
struct CompletionChoice {
    #[serde(default)]
    index: usize,
    message: CompletionMessage,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct CompletionMessage {
    content: Option<String>,
    /// The thought, if the server splits it off (vLLM's and SGLang's reasoning parsers).
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Default, Deserialize)]
struct TokenUsage {
    #[serde(default)]
    prompt_tokens: usize,
    #[serde(default)]
    completion_tokens: usize,
    #[serde(default)]
    prompt_tokens_details: Option<PromptTokensDetails>,
}

#[derive(Deserialize)]
struct PromptTokensDetails {
    #[serde(default)]
    cached_tokens: Option<usize>,
}

/// The judge's prompt for a vote.
pub(super) fn vote_messages(request: &VoteRequest) -> [Message; 2] {
    let texts = [&request.question, &request.answer_first, &request.answer_second];
    let [question, first, second] = texts.map(|text| disarmed(text));
    prompt::messages(&question, &first, &second)
}

/// Inserts a space after the first character of control tokens in a policy's text, so that the
/// server's tokenizer reads them as text.
pub(super) fn disarmed(text: &str) -> String {
    text.replace("<|", "< |").replace("<｜", "< ｜")
}

impl ChatCompletion {
    /// One vote per choice, at most `n_wanted`; fewer if the server gave fewer.
    ///
    /// The prompt is computed once: for all votes but the first it counts as cached. The server
    /// reports only the sum of the choices' tokens. Each vote gets an estimated share, by the
    /// length of its text; the shares add up to the sum.
    pub(super) fn into_replies(self, n_wanted: usize, latency_ms: f64) -> Vec<VoteReply> {
        let mut choices = self.choices;
        choices.sort_by_key(|choice| choice.index);
        choices.truncate(n_wanted);
        let said = |choice: CompletionChoice| {
            let content =
                choice.message.content.as_deref().map(|text| without_prompt(text).to_owned());
            CompletionMessage { content, ..choice.message }.text()
        };
        let texts: Vec<String> = choices.into_iter().map(said).collect();
        let usage = self.usage.unwrap_or_default();
        let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        let lengths: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
        let completion_tokens = shares(usage.completion_tokens, &lengths);
        let reply = |(place, (text, completion_tokens)): (usize, (String, usize))| VoteReply {
            verdict: verdict::parse(&text),
            is_swapped: false,
            text,
            prompt_tokens: usage.prompt_tokens,
            cached_prompt_tokens: match place {
                0 => cached.unwrap_or(0),
                _ => usage.prompt_tokens,
            },
            completion_tokens,
            latency_ms,
        };
        texts.into_iter().zip(completion_tokens).enumerate().map(reply).collect()
    }
}

impl ChatCompletion {
    /// The first choice, if there is one.
    pub(super) fn into_chat_reply(self) -> Option<ChatReply> {
        let usage = self.usage.unwrap_or_default();
        let choice = self.choices.into_iter().min_by_key(|choice| choice.index)?;
        Some(ChatReply {
            is_whole: choice.finish_reason.is_none_or(|reason| reason != "length"),
            text: choice.message.text(),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
        })
    }
}

impl CompletionMessage {
    /// The thought and the answer, as a server without a reasoning parser gives them.
    fn text(self) -> String {
        let content = self.content.unwrap_or_default();
        match self.reasoning_content.filter(|thought| !thought.is_empty()) {
            Some(thought) => format!("<think>\n{thought}\n</think>\n\n{content}"),
            None => content,
        }
    }
}

/// Removes the judge's prompt from the start of a server's output: transformers 5.23 repeats it for
/// a thought that was cut off. The prompt names both verdicts, but is not a verdict. A judge that
/// only quotes the last words of the prompt does not repeat the answers before them.
fn without_prompt(content: &str) -> &str {
    match content.rsplit_once(prompt::ANALYSIS) {
        Some((before, after)) if before.contains(prompt::ANSWERS) => after,
        _ => content,
    }
}

/// Divides `total` in proportion to the lengths, each plus one for its end; the parts add up to
/// `total`.
fn shares(total: usize, lengths: &[usize]) -> Vec<usize> {
    let weight = |length: &usize| *length as u128 + 1;
    let whole: u128 = lengths.iter().map(weight).sum();
    let (mut so_far, mut given) = (0, 0);
    let share = |length| {
        so_far += weight(length);
        let up_to = (total as u128 * so_far / whole) as usize;
        let share = up_to - given;
        given = up_to;
        share
    };
    lengths.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_go_by_the_length_of_the_texts() {
        assert_eq!(shares(100, &[9, 29, 59]), [10, 30, 60]);
        assert_eq!(shares(7, &[0, 0]), [3, 4]);
        assert!(shares(7, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn shares_add_up(total: usize, lengths in prop::collection::vec(0_usize..1 << 40, 1..9)) {
            let shares = shares(total, &lengths);
            prop_assert_eq!(shares.iter().map(|share| *share as u128).sum::<u128>(), total as u128);
        }
    }
}
