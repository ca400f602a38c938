//! The `reward.parts`: what each part is made of, its weight, and how parts become one reward.
//!
//! It does not know how a part is computed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::part::pattern::whole_match;

/// A part of the reward: its kind with the keys of that kind, and keys that all kinds have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RewardPart {
    /// Kind of part.
    #[serde(flatten)]
    pub of: PartOf,
    /// Name of the part, in the column `part_NAME` of `rewards` and in metrics: letters, digits,
    /// `_` and `-`. Names are unique. Default: the kind.
    #[serde(default)]
    pub name: Option<String>,
    /// Factor of the part in the reward. 0: the part is only recorded.
    #[serde(default = "defaults::weight")]
    pub weight: f64,
    /// Whether a completion to which the part gives no number has a reward of the other parts.
    /// Otherwise it has none.
    #[serde(default)]
    pub optional: bool,
}

/// Kind of part. The keys of a kind belong to this kind alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PartOf {
    /// The votes of `reward.judge` in the tournament of the group.
    Judge(JudgePartConfig),
    /// 1 if the final answer equals the known answer, else 0.
    Correct,
    /// Punishment of completions that come near a maximum length (DAPO, arXiv 2503.14476,
    /// equation 13): 0 up to `max_tokens` − `buffer_tokens`, then falling linearly to −1.
    Length(LengthPartConfig),
    /// 1 if a regular expression matches the whole completion, else 0.
    Format(FormatPartConfig),
    /// Numbers of a program that runs beside the run and reads and writes lines of JSON
    /// (docs/rewards.md).
    Command(CommandPartConfig),
    /// Numbers of a server that is asked by POST (docs/rewards.md).
    Http(HttpPartConfig),
}

/// How the numbers of the parts become one reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Weighted sum of the numbers.
    #[default]
    Sum,
    /// Weighted sum of the numbers after each part is normalised within the group: (r − mean) /
    /// (std + 1e-4) (GDPO, arXiv 2601.05242). With `trainer.scale_rewards = "batch"` the
    /// advantages are those of the paper and of TRL's `normalize_then_sum`.
    Gdpo,
}

/// Keys of a `judge` part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JudgePartConfig {
    /// Number of the part.
    pub value: JudgeValue,
    /// Groups that the judge is asked for.
    pub when: JudgeWhen,
}

/// Number that the judge's votes become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeValue {
    /// Expected share of wins against the other completions of the group, 0 to 1.
    #[default]
    WinRate,
    /// Elo number: base 10, scale 400, centre 1000.
    Rating,
}

/// Groups that the judge is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeWhen {
    /// All groups.
    #[default]
    Always,
    /// Groups in which the other parts give all completions the same reward. In the other groups
    /// the other parts alone are the reward.
    Tied,
}

/// Keys of a `length` part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LengthPartConfig {
    /// Number of tokens from which on the part is −1.
    #[schemars(range(min = 1))]
    pub max_tokens: usize,
    /// Number of tokens below `max_tokens` over which the part falls from 0 to −1; at most
    /// `max_tokens`.
    #[schemars(range(min = 1))]
    pub buffer_tokens: usize,
}

/// Keys of a `format` part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FormatPartConfig {
    /// Regular expression in the syntax of Rust's crate `regex` (no look-around, no
    /// back-references). `(?s)` at its beginning lets `.` match line feeds.
    #[schemars(length(min = 1))]
    pub pattern: String,
}

/// Keys of a `command` part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommandPartConfig {
    /// The program and its arguments. Words that are files belong to what the run reads: they may
    /// not change while it lasts.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub run: Vec<String>,
    /// Maximum time for the answer to one group, in seconds; the start of the program counts.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e6))]
    pub timeout_s: f64,
}

impl Default for CommandPartConfig {
    fn default() -> Self {
        Self { run: Vec::new(), timeout_s: 300.0 }
    }
}

/// Keys of an `http` part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpPartConfig {
    /// Address that groups are sent to, such as `http://host:8000/reward`.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Further headers whose values are secret: the name of a header, and the name of the
    /// environment variable with its value.
    pub headers_env: BTreeMap<String, String>,
    /// Maximum number of groups that the server works on at once.
    #[schemars(range(min = 1))]
    pub concurrency: usize,
    /// Timeout of a call, in seconds.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e6))]
    pub timeout_s: f64,
    /// Maximum number of calls per group, the first call included.
    #[schemars(range(min = 1))]
    pub tries: u32,
    /// Time for which groups wait while the server is not up, in seconds. Calls that find nobody
    /// in this time do not count as `tries`. 0: they count.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub outage_s: f64,
}

impl Default for HttpPartConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            headers_env: BTreeMap::new(),
            concurrency: 64,
            timeout_s: 300.0,
            tries: 5,
            outage_s: 120.0,
        }
    }
}

/// Values of the keys that all kinds have, where a part leaves them out.
mod defaults {
    pub(super) fn weight() -> f64 {
        1.0
    }
}

impl PartOf {
    /// The word of the kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Judge(_) => "judge",
            Self::Correct => "correct",
            Self::Length(_) => "length",
            Self::Format(_) => "format",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
        }
    }

    /// Problems between keys of the part, each named by its key.
    fn contradictions(&self) -> Vec<String> {
        let found = match self {
            Self::Length(LengthPartConfig { max_tokens, buffer_tokens }) => (buffer_tokens
                > max_tokens)
                .then(|| format!("buffer_tokens is {buffer_tokens}, wanted at most max_tokens")),
            Self::Format(FormatPartConfig { pattern }) => {
                whole_match(pattern).err().map(|error| format!("pattern: {error}"))
            }
            Self::Http(HttpPartConfig { url, .. }) => {
                let is_http = url.starts_with("http://") || url.starts_with("https://");
                (!url.is_empty() && !is_http)
                    .then(|| format!("url is {url:?}, wanted http://… or https://…"))
            }
            Self::Judge(_) | Self::Correct | Self::Command(_) => None,
        };
        found.into_iter().collect()
    }
}

impl RewardPart {
    /// The name of the part, in columns and metrics.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.of.word())
    }

    /// Whether its numbers are Elo numbers of a judge.
    pub(super) fn wants_rating(&self) -> bool {
        matches!(&self.of, PartOf::Judge(judge) if judge.value == JudgeValue::Rating)
    }
}

/// Problems of the parts of a reward, and between them.
pub(super) fn contradictions(parts: &[RewardPart], combine: Combine) -> Vec<String> {
    let mut problems = Vec::new();
    if parts.is_empty() && combine != Combine::default() {
        problems.push("combine is set, but parts is empty; wanted both".to_owned());
    }
    if !parts.is_empty() && parts.iter().all(|part| part.weight == 0.0) {
        problems.push("parts: each weight is 0, which rewards nothing; wanted another".to_owned());
    }
    let mut first_of_name: BTreeMap<&str, usize> = BTreeMap::new();
    let mut first_judge = None;
    for (idx, part) in parts.iter().enumerate() {
        let mut add = |text: String| problems.push(format!("parts[{idx}].{text}"));
        part.of.contradictions().into_iter().for_each(&mut add);
        let name = part.name();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            add(format!("name is {name:?}, wanted at most 64 letters, digits, `_` and `-`"));
        }
        if let Some(first) = first_of_name.get(name) {
            add(format!(
                "name is {name:?}, as that of parts[{first}]; wanted another: columns and metrics \
                 have the names of their parts"
            ));
        }
        first_of_name.entry(name).or_insert(idx);
        let PartOf::Judge(judge) = &part.of else { continue };
        if let Some(first) = first_judge.replace(idx) {
            add(format!("kind is judge, as that of parts[{first}]; wanted one judge"));
        }
        if judge.when == JudgeWhen::Tied && parts.len() == 1 {
            add("when is tied, but there is no other part that could be tied".to_owned());
        }
    }
    problems
}

#[cfg(test)]
mod tests;
