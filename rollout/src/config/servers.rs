//! The `[rollout.servers]` section: inference servers that sample from the policy.
//!
//! It does not know how a kind of server is called.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What samples from the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Engines in this process. The same config gives the same bytes.
    #[default]
    Engine,
    /// vLLM servers, which get each version of the policy. Two runs of the same config may differ.
    Vllm,
    /// SGLang servers, which get each version of the policy. Two runs of the same config may
    /// differ.
    Sglang,
}

impl SamplerKind {
    /// Whether servers sample.
    pub fn is_servers(self) -> bool {
        self != Self::Engine
    }

    /// The value in configs.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
        }
    }

    /// Name of the program that samples, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
        }
    }
}

/// Number format of the weights that servers read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightsDType {
    /// 16 bits per weight: what servers compute with on GPUs.
    #[default]
    Bf16,
    /// 32 bits per weight, for servers that compute in f32.
    F32,
}

/// How weights reach the servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightsVia {
    /// As a model folder on a disk that the servers read, too.
    #[default]
    Disk,
}

/// Inference servers that sample from the policy, and get each version of it. Only for the kinds
/// `vllm` and `sglang`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServersConfig {
    /// Base addresses of the servers without a path, such as `http://host:8000`. Each call goes to
    /// the server with the fewest completions in flight. The variables `HTTP_PROXY`, `HTTPS_PROXY`
    /// and `NO_PROXY` are obeyed.
    pub urls: Vec<String>,
    /// Name of the model at the servers. Empty: the first one that a server lists.
    pub model: String,
    /// Name of the environment variable with the API key. Without it, no key is sent.
    pub api_key_env: Option<String>,
    /// Maximum number of calls in flight per server. A call samples the group of one prompt.
    #[schemars(range(min = 1, max = 65536))]
    pub concurrency: usize,
    /// Timeout of a call, in seconds: the time in which a group is sampled.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub timeout_s: f64,
    /// Maximum number of calls per group, the first call included. Then the step fails.
    #[schemars(range(min = 1))]
    pub tries: u32,
    /// Time for which groups wait while no server is up, in seconds: a large model takes minutes to
    /// load. Calls that find nobody in this time do not count as `tries`; after it the step fails,
    /// and a later start goes on from there. A server that asks for slower calls is waited for as
    /// long.
    #[schemars(range(min = 0.0, max = 1e9))]
    pub outage_s: f64,
    /// How weights reach the servers.
    pub weights: WeightsVia,
    /// Folder that each version of the policy is written to, on a disk that the servers read, too.
    /// Default: `weights` in the run's folder.
    pub weights_dir: Option<PathBuf>,
    /// Path of `weights_dir` on the servers. Default: the same path as on this machine.
    pub weights_dir_on_server: Option<PathBuf>,
    /// Number of versions of the policy that are kept in `weights_dir`.
    #[schemars(range(min = 1, max = 1024))]
    pub keep_weights: usize,
    /// Number format of the weights that servers read.
    pub weights_dtype: WeightsDType,
    /// Maximum difference between a server's log-probabilities and those of the trainer's weights,
    /// as the mean of absolute differences per token of a fixed text. It is measured after each
    /// update of a server's weights; above it the run ends.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1000.0))]
    pub max_logprob_difference: f64,
}

impl Default for ServersConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            model: String::new(),
            api_key_env: None,
            concurrency: 64,
            timeout_s: 1800.0,
            tries: 5,
            outage_s: 900.0,
            weights: WeightsVia::Disk,
            weights_dir: None,
            weights_dir_on_server: None,
            keep_weights: 2,
            weights_dtype: WeightsDType::Bf16,
            max_logprob_difference: 0.05,
        }
    }
}

impl ServersConfig {
    /// Problems of the section for a kind of sampler, each named by its key in `[rollout]`.
    pub(super) fn contradictions(&self, kind: SamplerKind) -> Vec<String> {
        if kind == SamplerKind::Engine {
            let unused = differing_keys(self, &Self::default());
            let problem = |key: &String| {
                format!(
                    "servers.{key} has no effect with kind = \"engine\", wanted kind = \"vllm\" or \
                     \"sglang\""
                )
            };
            return unused.iter().map(problem).collect();
        }
        let mut problems = Vec::new();
        if self.urls.is_empty() {
            problems.push(
                "servers.urls is empty, wanted the address of at least one server".to_owned(),
            );
        }
        for (idx, url) in self.urls.iter().enumerate() {
            let key = format!("servers.urls[{idx}] is {url:?}, wanted");
            let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            match authority.map(|rest| rest.trim_end_matches('/')) {
                None | Some("") => problems.push(format!("{key} http://… or https://…")),
                Some(rest) if rest.ends_with("/v1") => {
                    problems.push(format!("{key} the address without /v1"));
                }
                Some(_) => {}
            }
            let is_same = |other: &String| other.trim_end_matches('/') == url.trim_end_matches('/');
            if self.urls[..idx].iter().any(is_same) {
                problems.push(format!("{key} each server once"));
            }
        }
        problems
    }
}

/// Keys of a section whose values differ from those of another.
pub(super) fn differing_keys<T: Serialize>(section: &T, other: &T) -> Vec<String> {
    let keys = |section: &T| match serde_json::to_value(section) {
        Ok(serde_json::Value::Object(keys)) => keys,
        _ => serde_json::Map::new(),
    };
    let other = keys(other);
    let differs = |(key, value): &(String, serde_json::Value)| other.get(key) != Some(value);
    keys(section).into_iter().filter(differs).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::RolloutConfig;

    use super::*;

    fn problems(change: impl FnOnce(&mut RolloutConfig)) -> Vec<String> {
        let urls = vec!["http://a:8000".to_owned(), "https://b".to_owned()];
        let mut config = RolloutConfig {
            kind: SamplerKind::Vllm,
            servers: ServersConfig { urls, ..ServersConfig::default() },
            ..RolloutConfig::default()
        };
        change(&mut config);
        config.validate()
    }

    #[test]
    fn rollout_config_names_keys_that_have_no_effect_on_its_kind_of_sampler() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
        assert_eq!(
            problems(|config| config.kind = SamplerKind::Engine),
            ["servers.urls has no effect with kind = \"engine\", wanted kind = \"vllm\" or \
              \"sglang\""]
        );
        let of_engine = problems(|config| {
            config.workers = 2;
            config.engine.max_batch = 8;
            config.engine.max_context = 512;
            config.engine.template_date = "2026-01-02".to_owned();
        });
        assert_eq!(
            of_engine,
            [
                "workers is 2, wanted 1 with kind = \"vllm\": the servers sample",
                "engine.max_batch has no effect with kind = \"vllm\": the servers have engines of \
              their own"
            ]
        );
    }

    #[test]
    fn servers_config_names_wrong_addresses() {
        let of = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            problems(|config| config.servers.urls = urls)
        };
        assert_eq!(of(&[]), ["servers.urls is empty, wanted the address of at least one server"]);
        assert_eq!(
            of(&["a:8000", "http://a/v1/", "http://b", "http://b/"]),
            [
                "servers.urls[0] is \"a:8000\", wanted http://… or https://…",
                "servers.urls[1] is \"http://a/v1/\", wanted the address without /v1",
                "servers.urls[3] is \"http://b/\", wanted each server once"
            ]
        );
    }
}
