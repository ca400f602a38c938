//! Keys of configs that have a new name, and the page that lists them.
//!
//! An old key is an error that names the new one.

/// Old dotted key, new dotted key.
pub(crate) const RENAMED: [(&str, &str); 38] = [
    ("policy.dtype", "rollout.engine.dtype"),
    ("policy.max_context", "rollout.engine.max_context"),
    ("rollout.max_batch", "rollout.engine.max_batch"),
    ("rollout.step_tokens", "rollout.engine.step_tokens"),
    ("rollout.kv_memory_mib", "rollout.engine.kv_memory_mib"),
    ("rollout.prefix_cache", "rollout.engine.prefix_cache"),
    ("rollout.quantization", "rollout.engine.quantization"),
    ("rollout.kv_dtype", "rollout.engine.kv_dtype"),
    ("rollout.gpu_kernels", "rollout.engine.gpu_kernels"),
    ("rollout.cuda_graphs", "rollout.engine.cuda_graphs"),
    ("rollout.shared_attention", "rollout.engine.shared_attention"),
    ("rollout.fetch_ahead_mib", "rollout.engine.fetch_ahead_mib"),
    ("reward.judge.device", "reward.judge.engine.device"),
    ("reward.judge.dtype", "reward.judge.engine.dtype"),
    ("reward.judge.max_batch", "reward.judge.engine.max_batch"),
    ("reward.judge.max_context", "reward.judge.engine.max_context"),
    ("reward.judge.step_tokens", "reward.judge.engine.step_tokens"),
    ("reward.judge.kv_memory_mib", "reward.judge.engine.kv_memory_mib"),
    ("reward.judge.prefix_cache", "reward.judge.engine.prefix_cache"),
    ("reward.judge.quantization", "reward.judge.engine.quantization"),
    ("reward.judge.kv_dtype", "reward.judge.engine.kv_dtype"),
    ("reward.judge.gpu_kernels", "reward.judge.engine.gpu_kernels"),
    ("reward.judge.cuda_graphs", "reward.judge.engine.cuda_graphs"),
    ("reward.judge.shared_attention", "reward.judge.engine.shared_attention"),
    ("reward.judge.fetch_ahead_mib", "reward.judge.engine.fetch_ahead_mib"),
    ("reward.judge.http.urls", "reward.judge.urls"),
    ("reward.judge.http.model", "reward.judge.model"),
    ("reward.judge.http.api_key_env", "reward.judge.api_key_env"),
    ("reward.judge.http.concurrency", "reward.judge.concurrency"),
    ("reward.judge.http.samples_per_call", "reward.judge.samples_per_call"),
    ("reward.judge.http.requests_per_minute", "reward.judge.requests_per_minute"),
    ("reward.judge.http.timeout_s", "reward.judge.timeout_s"),
    ("reward.judge.http.tries", "reward.judge.tries"),
    ("trainer.loss_type", "trainer.loss.preset"),
    ("trainer.epsilon", "trainer.loss.surrogate.low"),
    ("trainer.epsilon_high", "trainer.loss.surrogate.high"),
    ("trainer.beta", "trainer.loss.kl.weight"),
    ("trainer.kl_bias_correction", "trainer.loss.kl.by_ratio"),
];

/// The new name of an old key.
pub(crate) fn new_name(old: &str) -> Option<&'static str> {
    RENAMED.iter().find(|(key, _)| *key == old).map(|(_, new)| *new)
}

/// The text of docs/migration.md.
pub fn page() -> String {
    let mut text = String::from(
        "# Renamed keys\n\n\
         Keys of config files and overrides that have a new name. An old key is an error that \
         names the new key. The `config.toml` of an old run folder has old keys, so that the run \
         cannot be resumed: finish it with the version that started it, or start it again with \
         `--clean`. This page is made by `make docs`.\n\n\
         | old key | new key |\n|---|---|\n",
    );
    for (old, new) in RENAMED {
        text += &format!("| `{old}` | `{new}` |\n");
    }
    text
}

#[cfg(test)]
mod tests;
