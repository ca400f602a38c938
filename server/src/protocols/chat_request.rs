//! Body of `/v1/chat/completions`, and what of it is refused: every setting is honoured, has no
//! effect on an answer, or is refused by its name. Pure.

use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::problem::Problem;

/// Maximum number of answers per request.
const MAX_ANSWERS: u32 = 128;

/// Maximum of `max_tokens`: more than any model's context.
const MAX_TOKENS: usize = 1 << 20;

/// Maximum number of tokens of all answers of a request.
const MAX_ANSWER_TOKENS: usize = 1 << 20;

/// Maximum size of the conversations of all answers of a request, in bytes.
const MAX_PROMPT_BYTES: usize = 64 << 20;

/// Maximum number of stop texts.
const MAX_STOPS: usize = 4;

/// Maximum size of a stop text.
const MAX_STOP_BYTES: usize = 1000;

/// Fields that are accepted and have no effect on an answer.
const WITHOUT_EFFECT: [&str; 11] = [
    "cache_salt",
    "include_obfuscation",
    "metadata",
    "parallel_tool_calls",
    "priority",
    "prompt_cache_key",
    "request_id",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

/// Truth values whose neutral value is true; that of all others is false.
const IS_TRUE_BY_DEFAULT: [&str; 3] =
    ["add_generation_prompt", "skip_special_tokens", "spaces_between_special_tokens"];

/// Body of `/v1/chat/completions`. Further fields are refused by their name, unless they have their
/// neutral value (such as `presence_penalty` 0) or no effect on an answer (such as `user`).
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Chat {
    /// Name of the judge's model as in `/v1/models`, or none.
    model: Option<String>,
    /// The conversation. A message of `developer` counts as one of `system`.
    messages: Vec<Message>,
    /// Maximum tokens per answer; the judge's own bound if left out.
    max_tokens: Option<usize>,
    /// As `max_tokens`, and takes precedence.
    max_completion_tokens: Option<usize>,
    /// In [0, 2]; the judge's own if left out.
    pub(super) temperature: Option<f64>,
    /// In (0, 1]; the judge's own if left out.
    pub(super) top_p: Option<f64>,
    /// Number of answers, 1 to 128; at most 1048576 tokens in all.
    n: Option<u32>,
    /// Seed of the draws.
    seed: Option<i64>,
    /// Answers with server-sent events. Each answer is sent when it is whole.
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
    /// Stop texts, at most four; not part of the answer.
    stop: Option<StopTexts>,
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// Settings of a streamed answer.
#[derive(Deserialize, JsonSchema)]
struct StreamOptions {
    /// Ends the stream with the number of tokens.
    include_usage: Option<bool>,
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// One text or some.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "stop is neither a text nor a list of texts")]
enum StopTexts {
    One(#[schemars(length(min = 1, max = 1000))] String),
    Some(#[schemars(length(max = 4))] Vec<String>),
}

impl Chat {
    /// Refuses what is wrong, not offered, or too much work; `known` is the name of the judge's
    /// model, `full_name` that of the judge, and `own_tokens` its own limit of an answer.
    ///
    /// # Errors
    /// [`Problem::Invalid`], [`Problem::NoSuchModel`]
    pub(super) fn check(
        &self,
        known: &str,
        full_name: &str,
        own_tokens: usize,
    ) -> Result<(), Problem> {
        if let Some(given) = self.model.as_deref()
            && !["", known, full_name].contains(&given)
        {
            let (given, known) = (given.to_owned(), known.to_owned());
            return Err(Problem::NoSuchModel { given, known });
        }
        let problem = self.problem().or_else(|| self.excess(own_tokens));
        problem.map_or(Ok(()), |problem| Err(Problem::Invalid(problem)))
    }

    /// What of the request is more work than a request may ask for.
    fn excess(&self, own_tokens: usize) -> Option<String> {
        let (n, per_answer) = (self.n_answers() as usize, self.max_tokens().unwrap_or(own_tokens));
        let tokens = n.saturating_mul(per_answer);
        if tokens > MAX_ANSWER_TOKENS && n > 1 {
            return Some(format!(
                "n ({n}) times max_tokens ({per_answer}) is {tokens}, wanted at most \
                 {MAX_ANSWER_TOKENS} tokens per request"
            ));
        }
        let said: usize = self.messages.iter().map(|message| message.content.len()).sum();
        let bytes = n.saturating_mul(said);
        (bytes > MAX_PROMPT_BYTES && n > 1).then(|| {
            format!(
                "n ({n}) times the conversation ({said} bytes) is {bytes} bytes, wanted at most \
                 {MAX_PROMPT_BYTES} per request"
            )
        })
    }

    /// The first problem of the request.
    fn problem(&self) -> Option<String> {
        let is_outside = |value: Option<f64>, least: f64, most: f64| {
            value.is_some_and(|value| !(least..=most).contains(&value))
        };
        if let Some(problem) = Prompt::Messages(self.messages.clone()).problem() {
            return Some(format!("messages {problem}"));
        }
        let n = self.n_answers();
        if !(1..=MAX_ANSWERS).contains(&n) {
            return Some(format!("n is {n}, wanted 1 to {MAX_ANSWERS}"));
        }
        let limits = [self.max_tokens, self.max_completion_tokens];
        let is_bad = |limit: &usize| !(1..=MAX_TOKENS).contains(limit);
        if let Some(most) = limits.into_iter().flatten().find(is_bad) {
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
        if self.stream_options.is_some() && !self.is_stream() {
            return Some("stream_options wants stream to be true".to_owned());
        }
        let of_stream = self.stream_options.iter().flat_map(|options| &options.further);
        let name = self
            .further
            .iter()
            .chain(of_stream)
            .find_map(|(name, value)| (!has_no_effect(name, value)).then_some(name))?;
        Some(format!("{name} is not offered; leave it out"))
    }

    /// The conversation; `developer` is OpenAI's newer name of `system`, which templates know.
    pub(super) fn messages(&self) -> Vec<Message> {
        let mut messages = self.messages.clone();
        for message in messages.iter_mut().filter(|message| message.role == "developer") {
            message.role = "system".to_owned();
        }
        messages
    }

    /// The stop texts.
    pub(super) fn stops(&self) -> &[String] {
        match &self.stop {
            Some(StopTexts::One(text)) => std::slice::from_ref(text),
            Some(StopTexts::Some(texts)) => texts,
            None => &[],
        }
    }

    /// Maximum tokens per answer.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    pub(super) fn n_answers(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    /// The client's seed, or one by the server's seed and the texts of the messages.
    pub(super) fn seed(&self, server_seed: u64) -> Seed {
        match self.seed {
            Some(seed) => Seed::new(seed as u64),
            None => {
                let texts = self.messages.iter().map(|message| message.content.as_str());
                texts.fold(Seed::new(server_seed), |seed, text| seed.child_str("said", text))
            }
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether a stream ends with the number of tokens.
    pub(super) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true))
    }
}

/// Whether a further field asks for nothing: clients send defaults.
fn has_no_effect(name: &str, value: &Value) -> bool {
    let is_number = |wanted: f64| value.as_f64() == Some(wanted);
    let is_text = |wanted: &[&str]| value.as_str().is_some_and(|text| wanted.contains(&text));
    let is_empty = match value {
        Value::Null => true,
        Value::Bool(value) => *value == IS_TRUE_BY_DEFAULT.contains(&name),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    is_empty
        || WITHOUT_EFFECT.contains(&name)
        || match name {
            "frequency_penalty" | "presence_penalty" | "min_p" | "min_tokens" | "top_logprobs" => {
                is_number(0.0)
            }
            "repetition_penalty" | "length_penalty" | "best_of" => is_number(1.0),
            "top_k" => is_number(0.0) || is_number(-1.0),
            "tool_choice" | "function_call" => is_text(&["none", "auto"]),
            "response_format" => value["type"] == "text",
            "modalities" => *value == serde_json::json!(["text"]),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem_of(key: &str, value: &Value) -> Option<String> {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
        body[key] = value.clone();
        let chat: Chat = serde_json::from_str(&body.to_string()).unwrap();
        chat.problem()
    }

    #[test]
    fn chat_refuses_every_setting_that_would_be_ignored_by_its_name() {
        for (key, value) in [
            ("logit_bias", json!({"5": -100})),
            ("presence_penalty", json!(0.5)),
            ("frequency_penalty", json!(-0.5)),
            ("repetition_penalty", json!(1.1)),
            ("top_k", json!(5)),
            ("min_p", json!(0.1)),
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("required")),
            ("functions", json!([{}])),
            ("response_format", json!({"type": "json_object"})),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(2)),
            ("reasoning_effort", json!("low")),
            ("chat_template_kwargs", json!({"enable_thinking": false})),
            ("guided_json", json!({"type": "object"})),
            ("stop_token_ids", json!([5])),
            ("ignore_eos", json!(true)),
            ("add_generation_prompt", json!(false)),
            ("skip_special_tokens", json!(false)),
            ("temprature", json!(0.5)),
            ("stream_options", json!({"include_usage": true})),
        ] {
            let problem = problem_of(key, &value).unwrap();
            assert!(problem.starts_with(key), "{problem}");
        }
    }

    #[test]
    fn chat_takes_defaults_and_fields_without_effect() {
        for (key, value) in [
            ("logit_bias", json!(null)),
            ("logit_bias", json!({})),
            ("presence_penalty", json!(0)),
            ("repetition_penalty", json!(1.0)),
            ("top_k", json!(-1)),
            ("top_k", json!(0)),
            ("min_p", json!(0.0)),
            ("tools", json!([])),
            ("tool_choice", json!("none")),
            ("response_format", json!({"type": "text"})),
            ("logprobs", json!(false)),
            ("user", json!("u")),
            ("metadata", json!({"a": "b"})),
            ("parallel_tool_calls", json!(true)),
            ("service_tier", json!("auto")),
        ] {
            assert_eq!(problem_of(key, &value), None, "{key} {value}");
        }
    }

    #[test]
    fn chat_bounds_the_tokens_and_the_text_of_all_its_answers() {
        let check = |more: Value, own_tokens: usize| {
            let mut body = json!({"messages": [{"role": "user", "content": "x".repeat(1 << 20)}]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let chat: Chat = serde_json::from_str(&body.to_string()).unwrap();
            chat.check("m", "m", own_tokens).map_err(|problem| problem.to_string())
        };
        assert_eq!(check(json!({"n": 64, "max_tokens": 16_384}), 1), Ok(()));
        assert_eq!(check(json!({"max_tokens": 1 << 20}), 1), Ok(()));
        assert_eq!(check(json!({"n": 64}), 16_384), Ok(()));
        for (more, own) in [(json!({"n": 64, "max_tokens": 16_385}), 1), (json!({"n": 64}), 16_385)]
        {
            let limit = "n (64) times max_tokens (16385) is 1048640, wanted at most 1048576 tokens";
            assert!(check(more, own).unwrap_err().starts_with(limit));
        }
        let error = check(json!({"n": 65, "max_tokens": 1}), 1).unwrap_err();
        assert!(error.contains("wanted at most 67108864 per request"), "{error}");
    }

    #[test]
    fn chat_takes_max_completion_tokens_before_max_tokens() {
        let body = json!({"messages": [], "max_tokens": 5, "max_completion_tokens": 7});
        let chat: Chat = serde_json::from_str(&body.to_string()).unwrap();
        assert_eq!(chat.max_tokens(), Some(7));
    }
}
