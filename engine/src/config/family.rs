//! The decoder families, each a description that loading, layers and export read: a family is one
//! entry of [`FAMILIES`]. It knows nothing of sizes, weights or devices.
//!
//! A family whose layers compute something that the others do not (norms of queries and keys, a
//! second activation, a sliding window) gets a field here, which `model/params.rs` (its tensors),
//! `model/layer.rs`, `cpu/` and `gpu/` (its computation) and `capacity.rs` (its bytes) read.

/// Which models of a family have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bias {
    /// All of them.
    Always,
    /// None of them.
    Never,
    /// Those whose configuration sets `attention_bias`.
    Configured,
}

impl Bias {
    /// Whether a model with this value of `attention_bias` has the bias.
    pub(crate) fn is_present(self, attention_bias: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Configured => attention_bias,
        }
    }
}

/// What the models of one family have in common.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// Class in transformers.
    pub(crate) architecture: &'static str,
    /// `general.architecture` in GGUF files.
    pub(crate) gguf_architecture: &'static str,
    /// Whether llama.cpp's converter reorders the rows of the query and key projections.
    pub(crate) gguf_permutes_rows: bool,
    /// Bias of the query, key and value projections.
    pub(crate) qkv_bias: Bias,
    /// Bias of the attention's output projection.
    pub(crate) output_bias: Bias,
    /// Activation of the gated MLP, as `hidden_act` names it.
    pub(crate) activation: &'static str,
    /// Key of `config.json` with the constant added to the mean square in each norm.
    pub(crate) norm_eps_key: &'static str,
    /// That constant, for configurations without the key.
    pub(crate) default_norm_eps: f64,
    /// Maximum context in tokens, for configurations without one.
    pub(crate) default_max_position: usize,
    /// Whether the models may have layers with a sliding window.
    pub(crate) reads_window: bool,
    /// Whether a configuration may omit `num_key_value_heads`, which then equals the query heads.
    pub(crate) optional_kv_heads: bool,
    /// Flags of `config.json` that are written as false: features that the engine does not have.
    pub(crate) absent_features: &'static [&'static str],
}

impl Family {
    /// Qwen2, Qwen2.5, R1-Distill-Qwen, RRM: biases on queries, keys and values.
    pub const QWEN2: &'static Self = &Self {
        model_type: "qwen2",
        architecture: "Qwen2ForCausalLM",
        gguf_architecture: "qwen2",
        gguf_permutes_rows: false,
        qkv_bias: Bias::Always,
        output_bias: Bias::Never,
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 32_768,
        reads_window: true,
        optional_kv_heads: false,
        absent_features: &["use_sliding_window"],
    };

    /// Llama, SmolLM2: no biases, unless `attention_bias` says otherwise.
    pub const LLAMA: &'static Self = &Self {
        model_type: "llama",
        architecture: "LlamaForCausalLM",
        gguf_architecture: "llama",
        gguf_permutes_rows: true,
        qkv_bias: Bias::Configured,
        output_bias: Bias::Configured,
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 2_048,
        reads_window: false,
        optional_kv_heads: true,
        absent_features: &["mlp_bias"],
    };

    /// The family of a `model_type`.
    pub(crate) fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.model_type == model_type)
    }

    /// The family of a GGUF file's architecture.
    pub(crate) fn of_gguf(architecture: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.gguf_architecture == architecture)
    }

    /// All values of `model_type`, for error texts.
    pub(crate) fn model_types() -> String {
        FAMILIES.map(|family| family.model_type).join(" or ")
    }

    /// All GGUF architectures, for error texts.
    pub(crate) fn gguf_architectures() -> String {
        FAMILIES.map(|family| family.gguf_architecture).join(" or ")
    }
}

/// All families that the engine runs.
const FAMILIES: [&Family; 2] = [Family::QWEN2, Family::LLAMA];
