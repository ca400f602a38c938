//! Constants of small models for tests.

use super::{Family, ModelConfig, PassthroughKeys};

/// A Qwen2 model with two layers, tied embeddings and grouped-query attention.
pub(crate) fn tiny() -> ModelConfig {
    ModelConfig {
        family: Family::QWEN2,
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 8,
        max_position: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        attention_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
        torch_dtype: None,
        fp8: None,
        kept: PassthroughKeys::default(),
    }
}
