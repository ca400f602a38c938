//! Constants of models for tests: small ones that can be built, and a large one for plans.

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

/// As [`tiny`], with an output head of its own, larger heads and longer contexts.
pub(crate) fn tiny_with_head() -> ModelConfig {
    ModelConfig {
        vocab_size: 304,
        hidden_size: 64,
        intermediate_size: 96,
        head_dim: 16,
        max_position: 512,
        tie_word_embeddings: false,
        ..tiny()
    }
}

/// As [`tiny_with_head`], of the Qwen3 family: norms of heads, which are wider than the hidden size
/// divided by their number, and no biases.
pub(crate) fn tiny_qwen3() -> ModelConfig {
    ModelConfig {
        family: Family::QWEN3,
        hidden_size: 48,
        attention_bias: false,
        ..tiny_with_head()
    }
}

/// RRM-32B, a model of the Qwen2 family with 64 layers.
pub(crate) fn rrm_32b() -> ModelConfig {
    ModelConfig {
        vocab_size: 152_064,
        hidden_size: 5_120,
        intermediate_size: 27_648,
        n_layers: 64,
        n_heads: 40,
        n_kv_heads: 8,
        head_dim: 128,
        max_position: 131_072,
        tie_word_embeddings: false,
        ..tiny()
    }
}
