//! A model of two layers with random weights, for this crate's tests.

use joust_engine::Decoder;
use joust_engine::config::{Family, ModelConfig, PassthroughKeys};
use joust_schema::seed::Seed;
use tch::{Device, Kind};

/// The model with parameters in `kind`; with a head of its own unless it is tied to the embedding.
pub(crate) fn tiny_model(kind: Kind, is_tied: bool) -> Decoder {
    let config = ModelConfig {
        family: Family::QWEN2,
        vocab_size: 30,
        hidden_size: 16,
        intermediate_size: 24,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 8,
        max_position: 32,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        tie_word_embeddings: is_tied,
        attention_bias: true,
        bos_token_id: None,
        eos_token_ids: vec![0],
        torch_dtype: None,
        fp8: None,
        kept: PassthroughKeys::default(),
    };
    Decoder::random(&config, Seed::new(1), Device::Cpu, kind)
}

/// A run of one process.
pub(crate) fn alone() -> std::sync::Arc<joust_dist::Collectives> {
    std::sync::Arc::new(joust_dist::Collectives::single(Device::Cpu))
}
