//! The `[reward.judge]` section: keys of all judges, and keys of each kind of judge.

use std::collections::BTreeMap;
use std::path::PathBuf;

use joust_engine::EngineConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The judge: its kind with the keys of that kind, and keys that all kinds have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JudgeConfig {
    /// Kind of judge.
    #[serde(flatten)]
    pub kind: JudgeKind,
    /// Temperature of the judge's sampling. 0: the most probable token is always taken.
    #[serde(default = "defaults::temperature")]
    #[schemars(range(min = 0.0))]
    pub temperature: f64,
    /// Probability mass of the most probable tokens that the judge samples from.
    #[serde(default = "defaults::top_p")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub top_p: f64,
    /// Maximum number of tokens of one vote: the judge's thought and its verdict.
    #[serde(default = "defaults::max_thinking_tokens")]
    #[schemars(range(min = 1))]
    pub max_thinking_tokens: usize,
    /// Memory of the verdict cache, in MiB. 0: no cache. With a cache, a comparison that was judged
    /// in an earlier group gets the votes of that group without a call of the judge, so that votes
    /// depend on what was judged before. The cache is emptied before each command and each
    /// training step that scores a set of groups. Only for the kinds `engine` and `http`.
    #[serde(default)]
    pub verdict_cache_mib: usize,
    /// Number of groups of a training step that the judge works on at once. It begins with the
    /// first ones while later groups are sampled, and with the next ones when these are judged. 0:
    /// all groups of a step, once all are sampled. Judges whose replies do not depend on what they
    /// work on at once (`http` and `replay` without a cache, `rule`) get each group when it is
    /// sampled. A number pays where the judge has a device of its own.
    #[serde(default)]
    pub groups_at_once: usize,
}

/// Kind of judge. The keys of a kind belong to this kind alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JudgeKind {
    /// A reasoning reward model that runs in this process.
    Engine(EngineJudgeConfig),
    /// A model behind OpenAI-compatible servers such as vLLM or SGLang.
    Http(HttpJudgeConfig),
    /// The known answer decides; a coin with a fixed seed where both or neither completion is
    /// right. For tests.
    Rule,
    /// The votes that were recorded in a dump.
    Replay(ReplayJudgeConfig),
}

/// Keys of an `engine` judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineJudgeConfig {
    /// Model folder or GGUF file of the judge.
    #[schemars(length(min = 1))]
    pub model: PathBuf,
    /// Engine that the judge runs in.
    pub engine: EngineConfig,
}

/// Keys of an `http` judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpJudgeConfig {
    /// Base addresses of the servers, such as `http://host:8000/v1` or `https://host/v1`. Each call
    /// goes to the server with the fewest votes in flight. The variables `HTTP_PROXY`,
    /// `HTTPS_PROXY` and `NO_PROXY` are obeyed.
    #[schemars(length(min = 1))]
    pub urls: Vec<String>,
    /// Name of the model at the servers. It is looked for in `/models` of each server before the
    /// first call.
    #[schemars(length(min = 1))]
    pub model: String,
    /// Folder with the tokenizer of the judge's model on this machine. With it, a server that reads
    /// the judge's prompt as other tokens (`/tokenize`) is refused before the first call. Default:
    /// `model`, if that is a folder with a tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// Name of the environment variable with the API key. Without it, no key is sent.
    pub api_key_env: Option<String>,
    /// Further headers of each request, by name. They are written into the run's folder.
    pub headers: BTreeMap<String, String>,
    /// Further headers whose values are secret: the name of a header, and the name of the
    /// environment variable with its value.
    pub headers_env: BTreeMap<String, String>,
    /// Further fields of each call, such as `{ top_k = -1, min_p = 0.0 }` or
    /// `{ chat_template_kwargs = { enable_thinking = true } }`. Without a field, servers take its
    /// value from the model's `generation_config.json`.
    pub extra_body: Map<String, Value>,
    /// Name of the field with the maximum number of tokens.
    pub max_tokens_field: TokenLimitName,
    /// Whether the model thinks before its verdict, and the server sends the thought.
    pub thought: SentThought,
    /// Maximum number of votes in flight per server. A call for several votes counts as several.
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Maximum number of votes per call, at most `concurrency`. Votes with the same prompt that
    /// are wanted at the same time share a call (its field `n`), so that the server computes the
    /// prompt once. The server reports the sum of their tokens; each vote gets a share in
    /// proportion to the length of its text.
    #[schemars(range(min = 1))]
    pub samples_per_call: usize,
    /// Maximum number of calls that start per server and minute, retries included. Calls are
    /// spread evenly over the minute. 0: no limit.
    pub requests_per_minute: u32,
    /// Timeout of a call, in seconds.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub timeout_s: f64,
    /// Maximum number of calls per vote, the first call included. Then the vote has failed.
    #[schemars(range(min = 1))]
    pub tries: u32,
    /// Time for which votes wait while no server is up, in seconds: a large model takes minutes to
    /// load. Calls that find nobody in this time do not count as `tries`; after it votes fail
    /// until a server is up again. 0: they count.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub outage_s: f64,
    /// Time for which a vote waits after a server first refused it as one too many (429, or 503
    /// with `Retry-After`), in seconds. Refusals in this time do not count as `tries`; the server
    /// gets fewer votes at once, and a pause. 0: they count.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub busy_s: f64,
}

/// Name of the field with the maximum number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitName {
    /// The name that all servers of open models know.
    #[default]
    MaxTokens,
    /// The name that OpenAI's newer models want.
    MaxCompletionTokens,
}

/// Whether an answer begins with a thought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SentThought {
    /// The answer has a thought, inside it up to `</think>`, or beside it. Without one it may be a
    /// thought that was cut off, and is no vote; unless the server says that the model thought
    /// (`reasoning_tokens` above 0) and ended by itself, as OpenAI's do.
    #[default]
    Expected,
    /// The model does not think, or its server keeps thoughts back: an answer that ended by itself
    /// and opens no thought is read for its verdict.
    None,
}

/// Keys of a `replay` judge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayJudgeConfig {
    /// Folder of the dump: it has a `votes.parquet`, or subfolders that have one.
    #[schemars(length(min = 1))]
    pub dump: PathBuf,
}

/// Values of the keys that all kinds have, where a section leaves them out.
mod defaults {
    pub(super) fn temperature() -> f64 {
        0.6
    }

    pub(super) fn top_p() -> f64 {
        1.0
    }

    pub(super) fn max_thinking_tokens() -> usize {
        8_192
    }
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            kind: JudgeKind::Engine(EngineJudgeConfig::default()),
            temperature: defaults::temperature(),
            top_p: defaults::top_p(),
            max_thinking_tokens: defaults::max_thinking_tokens(),
            verdict_cache_mib: 0,
            groups_at_once: 0,
        }
    }
}

impl Default for HttpJudgeConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            model: String::new(),
            tokenizer: None,
            api_key_env: None,
            headers: BTreeMap::new(),
            headers_env: BTreeMap::new(),
            extra_body: Map::new(),
            max_tokens_field: TokenLimitName::default(),
            thought: SentThought::default(),
            concurrency: 64,
            samples_per_call: 1,
            requests_per_minute: 0,
            timeout_s: 900.0,
            tries: 5,
            outage_s: 120.0,
            busy_s: 600.0,
        }
    }
}

impl JudgeConfig {
    /// Problems between keys, each named by its key.
    pub(super) fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let JudgeKind::Engine(judge) = &self.kind
            && judge.engine.max_queue > 0
        {
            problems.push(format!(
                "engine.max_queue is {}, wanted 0: a full queue would lose votes, whose number the \
                 arena bounds",
                judge.engine.max_queue
            ));
        }
        if let JudgeKind::Http(http) = &self.kind {
            problems.extend(http.contradictions());
            if http.samples_per_call > 1 && self.temperature == 0.0 {
                problems.push(format!(
                    "samples_per_call is {} at temperature 0, where all samples are equal and \
                     servers refuse several; wanted 1",
                    http.samples_per_call
                ));
            }
        }
        if matches!(self.kind, JudgeKind::Rule | JudgeKind::Replay(_)) && self.verdict_cache_mib > 0
        {
            problems.push(format!(
                "verdict_cache_mib is {}, wanted 0: the verdict of a rule or a dump depends on \
                 more than the two answers",
                self.verdict_cache_mib
            ));
        }
        problems
    }
}

/// Fields that every call sets, and what sets them.
const OWN_FIELDS: [(&str, &str); 10] = [
    ("model", "set judge.model"),
    ("messages", "the judge's prompt is fixed"),
    ("temperature", "set judge.temperature"),
    ("top_p", "set judge.top_p"),
    ("max_tokens", "set judge.max_thinking_tokens"),
    ("max_completion_tokens", "set judge.max_thinking_tokens and judge.max_tokens_field"),
    ("seed", "it is drawn from run.seed"),
    ("stop", "a verdict ends by itself"),
    ("n", "set judge.samples_per_call"),
    ("stream", "answers are read whole"),
];

impl HttpJudgeConfig {
    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_http = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
        for url in self.urls.iter().filter(|url| !is_http(url)) {
            problems.push(format!("urls holds {url:?}, wanted http://… or https://…"));
        }
        for field in self.extra_body.keys() {
            if let Some((_, mend)) = OWN_FIELDS.iter().find(|(own, _)| own == field) {
                problems.push(format!("extra_body.{field} is a field of every call; {mend}"));
            }
        }
        let has_key = |name: &String| name.eq_ignore_ascii_case("authorization");
        for (name, variable) in &self.headers_env {
            if self.headers.keys().any(|other| other.eq_ignore_ascii_case(name)) {
                problems.push(format!("headers_env.{name} is also in headers; wanted one of them"));
            }
            if variable.is_empty() {
                let wanted = "wanted the name of an environment variable";
                problems.push(format!("headers_env.{name} is empty, {wanted}"));
            }
        }
        if self.api_key_env.is_some()
            && self.headers.keys().chain(self.headers_env.keys()).any(has_key)
        {
            problems.push("api_key_env and a header Authorization are set, wanted one".to_owned());
        }
        if self.samples_per_call > self.concurrency {
            problems.push(format!(
                "samples_per_call is {}, wanted at most concurrency, {}",
                self.samples_per_call, self.concurrency
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
