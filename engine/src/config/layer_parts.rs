//! The tensors of a decoder layer in one table: their names in Hugging Face folders and in GGUF
//! files. Which of them a model has, and their shapes, is not known here.

/// What a tensor of a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// A matrix, with a bias in some models. FP8 checkpoints may have it in FP8.
    Matrix,
    /// The weight of a norm.
    Norm,
}

/// A module of a layer that has a weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPart {
    /// Name below `model.layers.N.`, without `.weight`.
    pub(crate) name: &'static str,
    /// llama.cpp's name below `blk.N.`, without `.weight`.
    pub(crate) gguf_name: &'static str,
    pub(crate) kind: PartKind,
}

const fn matrix(name: &'static str, gguf_name: &'static str) -> LayerPart {
    LayerPart { name, gguf_name, kind: PartKind::Matrix }
}

const fn norm(name: &'static str, gguf_name: &'static str) -> LayerPart {
    LayerPart { name, gguf_name, kind: PartKind::Norm }
}

/// All parts that layers of some family have.
pub(crate) const LAYER_PARTS: [LayerPart; 11] = [
    norm("input_layernorm", "attn_norm"),
    matrix("self_attn.q_proj", "attn_q"),
    matrix("self_attn.k_proj", "attn_k"),
    matrix("self_attn.v_proj", "attn_v"),
    norm("self_attn.q_norm", "attn_q_norm"),
    norm("self_attn.k_norm", "attn_k_norm"),
    matrix("self_attn.o_proj", "attn_output"),
    norm("post_attention_layernorm", "ffn_norm"),
    matrix("mlp.gate_proj", "ffn_gate"),
    matrix("mlp.up_proj", "ffn_up"),
    matrix("mlp.down_proj", "ffn_down"),
];
