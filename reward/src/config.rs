//! Settings of scoring: the judge, the tournament, the rating, and what becomes the reward.

use std::path::PathBuf;

use joust_engine::KvDType;
use joust_engine::device::{DType, DeviceChoice, Quantization};
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rating::bradley_terry::BradleyTerryConfig;
use crate::rating::elo::EloConfig;
use crate::tournament::{Tournament, TournamentKind};
use crate::votes::VoteRule;

/// How groups are scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// What becomes the reward.
    pub kind: RewardKind,
    /// Who compares two completions.
    pub judge: JudgeConfig,
    /// Who meets whom, and how often.
    pub tournament: TournamentConfig,
    /// How votes become ratings.
    pub rating: RatingConfig,
}

/// What becomes the reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// Expected share of wins against the rest of the group, in [0, 1].
    #[default]
    WinRate,
    /// The Elo number: base 10, scale 400, centre 1000.
    Rating,
    /// 1 where the final answer equals the known one, else 0; no matches are played.
    Correct,
}

/// Who compares two completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// A reasoning reward model in this process.
    #[default]
    Engine,
    /// The known answer; a keyed coin where both or neither are right. For tests.
    Rule,
    /// Votes recorded in a dump.
    Replay,
    /// A model behind OpenAI-compatible servers: vLLM, SGLang.
    Http,
}

/// Servers of an `http` judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpJudgeConfig {
    /// Base addresses, `http://host:8000/v1`; each call goes to the one with the fewest votes under way.
    pub urls: Vec<String>,
    /// The model's name there.
    pub model: String,
    /// Environment variable with the key that is sent along; leave out for none.
    pub api_key_env: Option<String>,
    /// Most votes under way at each server; a call that asks for several counts as several.
    pub concurrency: usize,
    /// Most votes that share a call: those that ask exactly the same at the same time are asked for by
    /// the field `n`, so that the server computes their prompt once. Of the tokens they wrote the
    /// server tells the sum; each vote gets a share by the length of its text.
    pub samples_per_call: usize,
    /// Most calls that start at each server in any minute, evenly spread, further tries included; 0
    /// sets no limit.
    pub requests_per_minute: u32,
    /// Longest time of one call, in seconds.
    pub timeout_s: f64,
    /// Calls of a vote, the first included, before it counts as failed.
    pub tries: u32,
}

impl Default for HttpJudgeConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            model: String::new(),
            api_key_env: None,
            concurrency: 64,
            samples_per_call: 1,
            requests_per_minute: 0,
            timeout_s: 900.0,
            tries: 5,
        }
    }
}

/// The judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeConfig {
    /// Who compares two completions.
    pub kind: JudgeKind,
    /// Model folder or GGUF file of an `engine` judge.
    pub model: Option<PathBuf>,
    /// Folder with `matches.parquet` and `votes.parquet` of a `replay` judge.
    pub dump: Option<PathBuf>,
    /// Temperature of the judge's sampling; 0 takes the most probable tokens.
    pub temperature: f64,
    /// Probability mass of the most probable tokens that are drawn from, in (0, 1].
    pub top_p: f64,
    /// Most tokens of a thought with its verdict.
    pub max_thinking_tokens: usize,
    /// Most votes that the judge works on at once.
    pub max_batch: usize,
    /// Most tokens of the judge's prompt and thought together; 0 means the model's own limit.
    pub max_context: usize,
    /// Most tokens that one step computes, those of running votes first; a prompt that does not fit
    /// is computed in chunks.
    pub step_tokens: usize,
    /// Memory for keys and values, in MiB; 0 takes what `max_batch` votes of the longest context
    /// need, at most an eighth of the machine's memory, or what is left of a GPU's. What finds no room
    /// waits.
    pub kv_memory_mib: usize,
    /// Keeps the keys and values of prompts for later ones that begin alike.
    pub prefix_cache: bool,
    /// What the judge's weights are kept and computed in.
    pub dtype: DType,
    /// Which of the judge's matrices are FP8.
    pub quantization: Quantization,
    /// What keys and values are kept in.
    pub kv_dtype: KvDType,
    /// Where the judge runs.
    pub device: DeviceChoice,
    /// Servers of an `http` judge.
    pub http: HttpJudgeConfig,
    /// Memory for verdicts, in MiB; 0 keeps none. The same comparison in another group then gets the
    /// same votes without the judge being asked, and votes depend on what was judged before. Commands
    /// and training steps that score a set of groups begin with none.
    pub verdict_cache_mib: usize,
    /// Fused kernels on a GPU; without them libtorch's own operations, which are slow.
    pub gpu_kernels: bool,
    /// Records decoding steps on a GPU and starts each as a whole.
    pub cuda_graphs: bool,
    /// On a GPU, keys and values of what decoding rows begin with alike are read once for all of them.
    pub shared_attention: bool,
    /// Most of a product's weights that a GPU fetches into its last cache before it, in MiB, while few
    /// rows leave the memory idle; 0 fetches nothing.
    pub fetch_ahead_mib: usize,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            kind: JudgeKind::Engine,
            model: None,
            dump: None,
            temperature: 0.6,
            top_p: 1.0,
            max_thinking_tokens: 8_192,
            max_batch: 64,
            max_context: 0,
            step_tokens: 2_048,
            kv_memory_mib: 0,
            prefix_cache: true,
            dtype: DType::Auto,
            quantization: Quantization::Auto,
            kv_dtype: KvDType::Auto,
            device: DeviceChoice::Auto,
            http: HttpJudgeConfig::default(),
            verdict_cache_mib: 0,
            gpu_kernels: true,
            cuda_graphs: true,
            shared_attention: true,
            fetch_ahead_mib: 12,
        }
    }
}

/// Who meets whom, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TournamentConfig {
    /// Which pairs of a group meet.
    pub kind: TournamentKind,
    /// Rounds of a Swiss tournament; ⌈log₂ n⌉ + 1 if left out.
    pub rounds: Option<u32>,
    /// Votes of a match, and what ends the voting.
    pub votes: VoteRule,
}

impl Default for TournamentConfig {
    fn default() -> Self {
        Self { kind: TournamentKind::Swiss, rounds: None, votes: VoteRule::default() }
    }
}

impl TournamentConfig {
    /// Matches that `n` different completions play.
    pub fn n_matches(&self, n: usize) -> u64 {
        let keys: Vec<u64> = (0..n as u64).collect();
        Tournament::new(self.kind, &keys, self.rounds, Seed::new(0)).n_matches_planned() as u64
    }

    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.votes.validate();
        if self.rounds == Some(0) {
            problems.push("rounds is 0, wanted at least 1".to_owned());
        }
        problems
    }
}

/// How votes become ratings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatingMethod {
    /// Strengths that make the votes most probable, with a prior and a position-bias term.
    #[default]
    BradleyTerry,
    /// Online Elo in a keyed order of the votes.
    Elo,
    /// The plain share of votes won.
    WinRate,
}

/// The rating.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RatingConfig {
    /// How votes become ratings.
    pub method: RatingMethod,
    /// Settings of `bradley_terry`.
    pub bradley_terry: BradleyTerryConfig,
    /// Settings of `elo`.
    pub elo: EloConfig,
}

impl RewardConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let under = |prefix: &str, found: Vec<String>| {
            found.into_iter().map(|problem| format!("{prefix}.{problem}")).collect::<Vec<_>>()
        };
        problems.extend(under("tournament", self.tournament.validate()));
        problems.extend(under("rating.bradley_terry", self.rating.bradley_terry.validate()));
        problems.extend(under("rating.elo", self.rating.elo.validate()));
        if self.kind == RewardKind::Rating && self.rating.method == RatingMethod::WinRate {
            problems.push("kind is rating, but rating.method win_rate gives no rating".to_owned());
        }
        if self.kind != RewardKind::Correct {
            problems.extend(under("judge", self.judge.validate()));
        }
        problems
    }
}

impl JudgeConfig {
    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        match self.kind {
            JudgeKind::Engine if self.model.is_none() => {
                problems.push("model is missing, wanted the judge's folder".to_owned());
            }
            JudgeKind::Replay if self.dump.is_none() => {
                problems.push("dump is missing, wanted a folder with recorded votes".to_owned());
            }
            JudgeKind::Http => problems.extend(self.http.validate()),
            _ => {}
        }
        if self.kind == JudgeKind::Http && self.http.samples_per_call > 1 && self.temperature == 0.0
        {
            problems.push(format!(
                "http.samples_per_call is {} at temperature 0, where all samples are the same and \
                 servers refuse to take several; wanted 1",
                self.http.samples_per_call
            ));
        }
        if matches!(self.kind, JudgeKind::Rule | JudgeKind::Replay) && self.verdict_cache_mib > 0 {
            problems.push(format!(
                "verdict_cache_mib is {}, wanted 0: what a rule or a dump says depends on more than \
                 the two answers",
                self.verdict_cache_mib
            ));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            problems.push(format!("temperature is {}, wanted ≥ 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(format!("top_p is {}, wanted above 0 and at most 1", self.top_p));
        }
        for (key, value) in [
            ("max_thinking_tokens", self.max_thinking_tokens),
            ("max_batch", self.max_batch),
            ("step_tokens", self.step_tokens),
        ] {
            if value == 0 {
                problems.push(format!("{key} is 0, wanted at least 1"));
            }
        }
        problems
    }
}

impl HttpJudgeConfig {
    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.urls.is_empty() {
            problems
                .push("http.urls is empty, wanted addresses like http://host:8000/v1".to_owned());
        }
        for url in &self.urls {
            if url.starts_with("https://") {
                problems.push(format!(
                    "http.urls holds {url}; this build speaks no TLS, wanted http:// (put a proxy before it)"
                ));
            } else if !url.starts_with("http://") {
                problems.push(format!("http.urls holds {url:?}, wanted http://…"));
            }
        }
        if self.model.is_empty() {
            problems
                .push("http.model is missing, wanted the model's name at the servers".to_owned());
        }
        if self.concurrency == 0 || self.tries == 0 {
            problems.push("http.concurrency and http.tries must be at least 1".to_owned());
        }
        if !(1..=self.concurrency.max(1)).contains(&self.samples_per_call) {
            problems.push(format!(
                "http.samples_per_call is {}, wanted at least 1 and at most http.concurrency, {}",
                self.samples_per_call, self.concurrency
            ));
        }
        if !(self.timeout_s > 0.0 && self.timeout_s <= 1e9) {
            problems.push(format!("http.timeout_s is {}, wanted above 0", self.timeout_s));
        }
        problems
    }
}
