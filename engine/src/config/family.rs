//! The decoder families, each a description that loading, layers and export read: a family is one
//! entry of [`FAMILIES`]. It knows nothing of sizes, weights or devices.
//!
//! A family whose layers compute something that the others do not (a second activation, a norm
//! after the MLP) gets a field here, which `model/params.rs` (its tensors), `model/layer.rs`,
//! `cpu/` and `gpu/` (its computation) and `capacity.rs` (its bytes) read.

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

/// Which layers of a family's models attend to a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowRule {
    /// None of them.
    Never,
    /// Where `use_sliding_window` is set: the layers of `layer_types`, or those from
    /// `max_window_layers` on.
    Switched,
    /// All of them, unless `sliding_window` is null.
    Always,
}

/// What the models of one family have in common.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// Class in transformers.
    pub(crate) architecture: &'static str,
    /// `general.architecture` in GGUF files; none where llama.cpp gives the models that of another
    /// family.
    pub(crate) gguf_architecture: Option<&'static str>,
    /// Whether llama.cpp's converter reorders the rows of the query and key projections.
    pub(crate) gguf_permutes_rows: bool,
    /// Bias of the query, key and value projections.
    pub(crate) qkv_bias: Bias,
    /// Bias of the attention's output projection.
    pub(crate) output_bias: Bias,
    /// Whether each head's queries and keys have an RMSNorm before their rotation.
    pub(crate) head_norms: bool,
    /// Number of dimensions per head, for configurations without one; none: hidden size divided by
    /// query heads.
    pub(crate) default_head_dim: Option<usize>,
    /// Activation of the gated MLP, as `hidden_act` names it.
    pub(crate) activation: &'static str,
    /// Key of `config.json` with the constant added to the mean square in each norm.
    pub(crate) norm_eps_key: &'static str,
    /// That constant, for configurations without the key.
    pub(crate) default_norm_eps: f64,
    /// Maximum context in tokens, for configurations without one.
    pub(crate) default_max_position: usize,
    /// Which layers attend to a sliding window.
    pub(crate) window: WindowRule,
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
        gguf_architecture: Some("qwen2"),
        gguf_permutes_rows: false,
        qkv_bias: Bias::Always,
        output_bias: Bias::Never,
        head_norms: false,
        default_head_dim: None,
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 32_768,
        window: WindowRule::Switched,
        optional_kv_heads: false,
        absent_features: &["use_sliding_window"],
    };

    /// Qwen3 without experts: norms of each head's queries and keys, heads of a width of their own,
    /// no biases, unless `attention_bias` says otherwise.
    pub const QWEN3: &'static Self = &Self {
        model_type: "qwen3",
        architecture: "Qwen3ForCausalLM",
        gguf_architecture: Some("qwen3"),
        gguf_permutes_rows: false,
        qkv_bias: Bias::Configured,
        output_bias: Bias::Configured,
        head_norms: true,
        default_head_dim: Some(128),
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 32_768,
        window: WindowRule::Switched,
        optional_kv_heads: false,
        absent_features: &["use_sliding_window"],
    };

    /// Llama, SmolLM2: no biases, unless `attention_bias` says otherwise.
    pub const LLAMA: &'static Self = &Self {
        model_type: "llama",
        architecture: "LlamaForCausalLM",
        gguf_architecture: Some("llama"),
        gguf_permutes_rows: true,
        qkv_bias: Bias::Configured,
        output_bias: Bias::Configured,
        head_norms: false,
        default_head_dim: None,
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 2_048,
        window: WindowRule::Never,
        optional_kv_heads: true,
        absent_features: &["mlp_bias"],
    };

    /// Mistral without a sliding window, from version 0.2 on: no biases.
    pub const MISTRAL: &'static Self = &Self {
        model_type: "mistral",
        architecture: "MistralForCausalLM",
        gguf_architecture: None,
        gguf_permutes_rows: false,
        qkv_bias: Bias::Never,
        output_bias: Bias::Never,
        head_norms: false,
        default_head_dim: None,
        activation: "silu",
        norm_eps_key: "rms_norm_eps",
        default_norm_eps: 1e-6,
        default_max_position: 131_072,
        window: WindowRule::Always,
        optional_kv_heads: false,
        absent_features: &[],
    };

    /// The family of a `model_type`.
    pub(crate) fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.model_type == model_type)
    }

    /// The family of a GGUF file's architecture.
    pub(crate) fn of_gguf(architecture: &str) -> Option<&'static Self> {
        FAMILIES.into_iter().find(|family| family.gguf_architecture == Some(architecture))
    }

    /// All values of `model_type`, for error texts.
    pub(crate) fn model_types() -> String {
        alternatives(&FAMILIES.map(|family| family.model_type))
    }

    /// All GGUF architectures, for error texts.
    pub(crate) fn gguf_architectures() -> String {
        alternatives(&FAMILIES.into_iter().filter_map(|f| f.gguf_architecture).collect::<Vec<_>>())
    }
}

/// Names as a choice: `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// All families that the engine runs.
const FAMILIES: [&Family; 4] = [Family::QWEN2, Family::QWEN3, Family::LLAMA, Family::MISTRAL];
