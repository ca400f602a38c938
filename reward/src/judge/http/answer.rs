//! The answer of a call, in the forms in which servers give it: a thought beside the answer under
//! either name or as a part of it, contents in parts, fields that are null or missing.
//!
//! It does not know servers, nor what was asked.

use joust_fleet::BadAnswer;
use joust_schema::tables::Verdict;
use serde_json::Value;

use crate::config::judge::SentThought;
use crate::judge::chat::ChatReply;
use crate::judge::vote::VoteReply;
use crate::{prompt, verdict};

/// Names of `finish_reason` for an answer that the model has ended itself: OpenAI's, those of TGI
/// (`eos_token`, `stop_sequence`), Together (`eos`), Anthropic (`end_turn`, `tool_use`) and Cohere
/// (`complete`).
const WHOLE: [&str; 12] = [
    "stop",
    "eos",
    "eos_token",
    "stop_token",
    "stop_sequence",
    "end_turn",
    "complete",
    "completed",
    "tool_calls",
    "tool_call",
    "tool_use",
    "function_call",
];

/// Names for one that a limit of tokens ended: OpenAI's, Mistral's (`model_length`), and those of
/// Anthropic and GLM for the end of the context.
const CUT_OFF: [&str; 6] = [
    "length",
    "max_tokens",
    "max_output_tokens",
    "max_completion_tokens",
    "model_length",
    "model_context_window_exceeded",
];

/// Names for one that a filter of the service keeps back, and would again: OpenAI's, Anthropic's,
/// GLM's and Gemini's.
const WITHHELD: [&str; 4] = ["content_filter", "refusal", "sensitive", "safety"];

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
    finish: FinishKind,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FinishKind {
    /// By itself, as far as the server says.
    Whole,
    /// By the token limit or the end of the context.
    CutOff,
    /// By a filter: what came of it is no vote.
    Withheld,
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
    /// Tokens of thoughts, if the server counts them.
    reasoning_tokens: usize,
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
    pub(super) fn into_replies(
        self,
        n_wanted: usize,
        latency_ms: f64,
        sent: SentThought,
    ) -> Vec<VoteReply> {
        let Self { mut choices, usage } = self;
        choices.truncate(n_wanted);
        let is_kept_back = sent == SentThought::None || usage.reasoning_tokens > 0;
        let said = |choice: CompletionChoice| {
            let content = without_prompt(&choice.message.content).to_owned();
            let mut message = ChoiceMessage { content, ..choice.message };
            if is_kept_back && !message.content.contains("<think>") {
                message.thought.get_or_insert_default();
            }
            (message.text(choice.finish == FinishKind::Whole), choice.finish)
        };
        let texts: Vec<(String, FinishKind)> = choices.into_iter().map(said).collect();
        let lengths: Vec<usize> = texts.iter().map(|(text, _)| text.chars().count()).collect();
        let shares = shares(usage.completion_tokens, &lengths);
        type Place = (usize, ((String, FinishKind), usize));
        let reply = |(place, ((text, finish), completion_tokens)): Place| VoteReply {
            verdict: match finish {
                FinishKind::Withheld => Verdict::Invalid,
                FinishKind::Whole | FinishKind::CutOff => verdict::parse(&text),
            },
            is_swapped: false,
            text,
            prompt_tokens: usage.prompt_tokens,
            cached_prompt_tokens: match place {
                0 => usage.cached_tokens.unwrap_or(0),
                _ => usage.prompt_tokens,
            },
            completion_tokens,
            latency_ms,
            is_cut_off: finish == FinishKind::CutOff,
        };
        texts.into_iter().zip(shares).enumerate().map(reply).collect()
    }

    /// The first choice.
    pub(super) fn into_chat_reply(self) -> Result<ChatReply, BadAnswer> {
        let choice = self.choices.into_iter().next();
        let choice = choice.ok_or_else(|| defect("the answer has no choices"))?;
        Ok(ChatReply {
            is_whole: choice.finish == FinishKind::Whole,
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
        Ok(Self { index, message, finish: FinishKind::read(&choice["finish_reason"])? })
    }
}

impl FinishKind {
    /// Reads a `finish_reason`. A server ends an answer for many reasons that the model did not
    /// have (vLLM when its weights change, DeepSeek without resources, GLM with a broken network):
    /// what is not known to be an end is none, and the answer is asked for again.
    fn read(reason: &Value) -> Result<Self, BadAnswer> {
        let reason = reason.as_str().unwrap_or_default().to_ascii_lowercase();
        let is_of = |names: &[&str]| names.contains(&&*reason);
        match () {
            () if reason.is_empty() || is_of(&WHOLE) => Ok(Self::Whole),
            () if is_of(&CUT_OFF) => Ok(Self::CutOff),
            () if is_of(&WITHHELD) => Ok(Self::Withheld),
            () => Err(defect(&format!("the server ended the answer: finish_reason {reason:?}"))),
        }
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
            reasoning_tokens: read(&usage["completion_tokens_details"]["reasoning_tokens"]),
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
