//! The answer of a call, in the forms in which servers give it: a thought beside the answer under
//! either name or as a part of it, contents in parts, fields that are null or missing.
//!
//! It does not know servers, nor what was asked.

use joust_fleet::BadAnswer;
use serde_json::Value;

use crate::judge::chat::ChatReply;
use crate::judge::vote::VoteReply;
use crate::{prompt, verdict};

/// Reasons for which a server ends an answer that the model has not ended: vLLM and SGLang when
/// their weights change or they shut down, gateways when the server behind them fails.
const ABORTED: [&str; 5] = ["abort", "aborted", "cancelled", "error", "timeout"];

/// The fields of a chat completion that are used.
#[derive(Debug, PartialEq)]
pub(super) struct ChatCompletion {
    /// In the order of their indexes; at least one.
    choices: Vec<CompletionChoice>,
    usage: TokenUsage,
}

/// One answer of the model.
#[derive(Debug, PartialEq)]
struct CompletionChoice {
    index: Option<u64>,
    message: ChoiceMessage,
    /// Whether the token limit or the end of the context ended the answer.
    is_cut_off: bool,
}

/// What the model said.
#[derive(Debug, Default, PartialEq)]
struct ChoiceMessage {
    /// The thought, if the server splits it off; empty for an empty thought.
    thought: Option<String>,
    content: String,
}

#[derive(Debug, Default, PartialEq)]
struct TokenUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    cached_tokens: Option<usize>,
}

impl ChatCompletion {
    /// Reads the body of a successful response.
    ///
    /// # Errors
    /// The field that is wrong, or the error that the body holds.
    pub(super) fn read(body: &Value) -> Result<Self, BadAnswer> {
        if let Some(refusal) = error_in_body(body) {
            return Err(refusal);
        }
        let choices = match &body["choices"] {
            Value::Array(choices) if !choices.is_empty() => choices,
            Value::Array(_) => return Err(defect("the answer has no choices")),
            other => return Err(unexpected("choices", other, "a list")),
        };
        let choices =
            choices.iter().enumerate().map(|(at, choice)| CompletionChoice::read(at, choice));
        let mut choices = choices.collect::<Result<Vec<_>, _>>()?;
        // servers give them in any order; without all indexes the order is theirs
        if choices.iter().all(|choice| choice.index.is_some()) {
            choices.sort_by_key(|choice| choice.index);
        }
        Ok(Self { choices, usage: TokenUsage::read(&body["usage"]) })
    }

    /// One vote per choice, at most `n_wanted`; fewer if the server gave fewer.
    ///
    /// The prompt is computed once: for all votes but the first it counts as cached. The server
    /// reports only the sum of the choices' tokens. Each vote gets an estimated share, by the
    /// length of its text; the shares add up to the sum.
    pub(super) fn into_replies(self, n_wanted: usize, latency_ms: f64) -> Vec<VoteReply> {
        let Self { mut choices, usage } = self;
        choices.truncate(n_wanted);
        let said = |choice: CompletionChoice| {
            let content = without_prompt(&choice.message.content).to_owned();
            let message = ChoiceMessage { content, ..choice.message };
            (message.text(!choice.is_cut_off), choice.is_cut_off)
        };
        let texts: Vec<(String, bool)> = choices.into_iter().map(said).collect();
        let lengths: Vec<usize> = texts.iter().map(|(text, _)| text.chars().count()).collect();
        let shares = shares(usage.completion_tokens, &lengths);
        type Place = (usize, ((String, bool), usize));
        let reply = |(place, ((text, is_cut_off), completion_tokens)): Place| VoteReply {
            verdict: verdict::parse(&text),
            is_swapped: false,
            text,
            prompt_tokens: usage.prompt_tokens,
            cached_prompt_tokens: match place {
                0 => usage.cached_tokens.unwrap_or(0),
                _ => usage.prompt_tokens,
            },
            completion_tokens,
            latency_ms,
            is_cut_off,
        };
        texts.into_iter().zip(shares).enumerate().map(reply).collect()
    }

    /// The first choice.
    pub(super) fn into_chat_reply(self) -> Result<ChatReply, BadAnswer> {
        let choice = self.choices.into_iter().next();
        let choice = choice.ok_or_else(|| defect("the answer has no choices"))?;
        Ok(ChatReply {
            is_whole: !choice.is_cut_off,
            text: choice.message.text(false),
            prompt_tokens: self.usage.prompt_tokens,
            completion_tokens: self.usage.completion_tokens,
        })
    }
}

/// The error that a successful response holds instead of an answer.
fn error_in_body(body: &Value) -> Option<BadAnswer> {
    let error = match &body["error"] {
        Value::Null if body["object"] == "error" => body,
        Value::Null => return None,
        error => error,
    };
    let message = [&error["message"], &body["message"], error].into_iter().find_map(Value::as_str);
    let message = message.map_or_else(|| error.to_string(), str::to_owned);
    let code = [&error["code"], &error["status"], &body["code"]].into_iter().find_map(count);
    let reason = match code {
        Some(code) => format!("an error in place of an answer: {message} ({code})"),
        None => format!("an error in place of an answer: {message}"),
    };
    Some(match code {
        Some(400 | 404 | 413 | 414 | 422) => BadAnswer::Refused(reason),
        _ => BadAnswer::Defect(reason),
    })
}

impl CompletionChoice {
    fn read(at: usize, choice: &Value) -> Result<Self, BadAnswer> {
        let message = match &choice["message"] {
            message @ Value::Object(_) => ChoiceMessage::read(at, message)?,
            other => return Err(unexpected(&format!("choices[{at}].message"), other, "an object")),
        };
        let index = count(&choice["index"]).map(|index| index as u64);
        // `model_length` is Mistral's name, `max_tokens` that of converters from other APIs
        let ends_early = ["length", "max_tokens", "model_length"];
        let finish = choice["finish_reason"].as_str().unwrap_or_default().to_ascii_lowercase();
        if ABORTED.contains(&&finish[..]) {
            return Err(defect(&format!("the server ended the answer: finish_reason {finish:?}")));
        }
        Ok(Self { index, message, is_cut_off: ends_early.contains(&&finish[..]) })
    }
}

impl ChoiceMessage {
    fn read(at: usize, message: &Value) -> Result<Self, BadAnswer> {
        let mut read = Self::default();
        let field = |name: &str| format!("choices[{at}].message.{name}");
        match &message["content"] {
            Value::Null => {}
            Value::String(text) => read.content.clone_from(text),
            Value::Array(parts) => {
                for (number, part) in parts.iter().enumerate() {
                    read.add_part(part, &field(&format!("content[{number}]")))?;
                }
            }
            other => return Err(unexpected(&field("content"), other, "a text or a list of parts")),
        }
        // vLLM and SGLang name it differently, and some servers send both, one of them null
        for name in ["reasoning", "reasoning_content"] {
            match &message[name] {
                Value::Null => {}
                Value::String(thought) => {
                    let earlier = read.thought.get_or_insert_default();
                    if earlier.trim().is_empty() {
                        earlier.clone_from(thought);
                    }
                }
                other => return Err(unexpected(&field(name), other, "a text")),
            }
        }
        Ok(read)
    }

    /// Adds a part of a content: text, or a thought.
    fn add_part(&mut self, part: &Value, field: &str) -> Result<(), BadAnswer> {
        if let Some(text) = part.as_str() {
            self.content.push_str(text);
            return Ok(());
        }
        match part["type"].as_str() {
            Some("text" | "output_text") => self.content += &text_of(&part["text"], field)?,
            Some("refusal") => self.content += &text_of(&part["refusal"], field)?,
            Some(kind @ ("thinking" | "reasoning")) => {
                let inside = [&part[kind], &part["text"], &part["content"]];
                let inside = inside.into_iter().find(|inside| !inside.is_null());
                let thought = text_of(inside.unwrap_or(&Value::Null), field)?;
                self.thought.get_or_insert_default().push_str(&thought);
            }
            Some(kind) => return Err(defect(&format!("{field} is of type {kind}, wanted text"))),
            None => return Err(unexpected(field, part, "a part with a type")),
        }
        Ok(())
    }

    /// The thought and the answer, as a server without a reasoning parser gives them.
    ///
    /// A thought that was split off, if only an empty one, shows that the server has a parser, so
    /// that the rest is the answer: with `closes_empty`, an empty thought is written out too. Of an
    /// output without any thought that was cut off, nobody knows whether it is one.
    fn text(self, closes_empty: bool) -> String {
        let Self { thought, content } = self;
        match thought {
            Some(thought) if !thought.trim().is_empty() => {
                format!("<think>\n{thought}\n</think>\n\n{content}")
            }
            Some(_) if closes_empty && !content.contains("</think>") => {
                format!("<think>\n\n</think>\n\n{content}")
            }
            Some(_) | None => content,
        }
    }
}

/// The text of a part: a text, or texts and parts of text in a list.
fn text_of(value: &Value, field: &str) -> Result<String, BadAnswer> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(items) => {
            let item = |item: &Value| match item {
                Value::Object(_) => text_of(&item["text"], field),
                other => text_of(other, field),
            };
            items.iter().map(item).collect()
        }
        other => Err(unexpected(field, other, "a text")),
    }
}

impl TokenUsage {
    /// What is missing, null or no count is 0: it is only reported.
    fn read(usage: &Value) -> Self {
        let read = |value: &Value| count(value).unwrap_or(0);
        Self {
            prompt_tokens: read(&usage["prompt_tokens"]),
            completion_tokens: read(&usage["completion_tokens"]),
            cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        }
    }
}

/// A count, which some servers write as a decimal number or as a text.
fn count(value: &Value) -> Option<usize> {
    let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0).then_some(number as usize);
    match value {
        Value::Number(number) => {
            let exact = number.as_u64().map(|number| number as usize);
            exact.or_else(|| number.as_f64().and_then(whole))
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn defect(reason: &str) -> BadAnswer {
    BadAnswer::Defect(reason.to_owned())
}

fn unexpected(field: &str, value: &Value, wanted: &str) -> BadAnswer {
    let found = match value {
        Value::Null => "missing or null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    defect(&format!("{field} is {found}, wanted {wanted}"))
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
mod tests;
