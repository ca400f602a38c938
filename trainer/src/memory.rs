//! How much memory the training of a model needs. Arithmetic on a model's constants; nothing is
//! loaded.

use joust_engine::capacity::weight_bytes;
use joust_engine::config::ModelConfig;
use serde::Serialize;
use tch::Kind;

use crate::learner::config::{LearnerConfig, NumberFormats};
use crate::weights::stage::ShardStage;

/// Bytes that training needs, by what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrainingMemory {
    /// Weights of the model, with adapters; where those that are computed with are rounded, also
    /// this process's part of the others. Where they are in parts: this process's part alone.
    pub weight_bytes: usize,
    /// Sums of gradients of the trained parameters, in f32; where they are in parts, this process's
    /// part.
    pub gradient_bytes: usize,
    /// Buffers in which weights and gradients that are in parts become whole, section by section.
    pub buffer_bytes: usize,
    /// Both running means of AdamW, in f32.
    pub optimizer_bytes: usize,
    /// Weights of the reference, where there is one of its own.
    pub reference_bytes: usize,
    /// What is kept of the layers of a micro-batch for the gradient.
    pub activation_bytes: usize,
    /// Intermediate results of the layer that is computed.
    pub layer_bytes: usize,
    /// Logits of a chunk, and what is computed from them.
    pub logits_bytes: usize,
}

/// What is trained.
#[derive(Clone, Copy, Debug)]
pub struct TrainedModel<'a> {
    /// The model's constants.
    pub model: &'a ModelConfig,
    /// Number formats of weights and activations.
    pub formats: NumberFormats,
    /// Whether the loss needs a reference.
    pub has_reference: bool,
    /// Number of processes that train together.
    pub n_ranks: usize,
    /// How they divide the model.
    pub shard: ShardStage,
    /// Number of sequences of a step of one process.
    pub n_sequences: usize,
    /// Maximum number of tokens per sequence.
    pub longest: usize,
}

/// Tensors of the size of a chunk's logits that are alive at once.
const LOGITS_ALIVE: usize = 3;

impl TrainingMemory {
    /// All bytes.
    pub fn needed_bytes(&self) -> usize {
        let parts = [
            self.weight_bytes,
            self.gradient_bytes,
            self.buffer_bytes,
            self.optimizer_bytes,
            self.reference_bytes,
            self.activation_bytes,
            self.layer_bytes,
            self.logits_bytes,
        ];
        parts.into_iter().fold(0, usize::saturating_add)
    }

    /// Plans the training of a model. A sequence, or a pair of them, that has more tokens than
    /// `micro_batch_tokens` needs more than is planned.
    pub fn plan(trained: TrainedModel<'_>, config: &LearnerConfig) -> Self {
        let TrainedModel { model, formats, .. } = trained;
        let NumberFormats { weights, working, compute } = formats;
        let all_weights = weight_bytes(model, weights.into());
        let n_adapters = config.lora.as_ref().map(|lora| lora.n_parameters(model));
        let n_parameters = all_weights / weights.elt_size_in_bytes();
        let n_trained = n_adapters.unwrap_or(n_parameters);
        let f32_bytes = Kind::Float.elt_size_in_bytes();
        let part = |bytes: usize| bytes.div_ceil(trained.n_ranks.max(1));
        let in_parts = trained.shard.in_parts(trained.n_ranks);
        let own_weights = match working == weights {
            _ if in_parts.weights => part(all_weights),
            true => all_weights,
            false => weight_bytes(model, working.into()) + part(all_weights),
        };
        let buffer = |is_used: bool, kind: Kind| match is_used {
            true => buffered_values(model) * kind.elt_size_in_bytes(),
            false => 0,
        };
        let has_gradient_buffers = in_parts.gradients && n_adapters.is_none();
        // a reference in another number format has buffers of its own
        let reference_buffers = in_parts.weights && trained.has_reference && compute != working;
        let reference_bytes = match in_parts.weights {
            true => part(weight_bytes(model, compute.into())),
            false => weight_bytes(model, compute.into()),
        };
        let own_reference = trained.has_reference && config.lora.is_none();
        let n_rows = config.micro_batch_rows.min(trained.n_sequences);
        let n_tokens = config.micro_batch_tokens.min(n_rows.saturating_mul(trained.longest));
        let shape = LayerShape { model, value: compute.elt_size_in_bytes() };
        let kept = match config.checkpoint_activations {
            true => shape.input(),
            false => shape.products(),
        };
        let logits = n_tokens.saturating_mul(model.vocab_size * f32_bytes);
        let chunk = (config.logits_mib << 20).min(logits);
        Self {
            weight_bytes: own_weights + n_adapters.unwrap_or(0) * f32_bytes,
            gradient_bytes: match in_parts.gradients {
                true => part(n_trained * f32_bytes),
                false => n_trained * f32_bytes,
            },
            buffer_bytes: buffer(in_parts.weights, working)
                + buffer(reference_buffers, compute)
                + buffer(has_gradient_buffers, Kind::Float),
            optimizer_bytes: part(2 * n_trained * f32_bytes),
            reference_bytes: if own_reference { reference_bytes } else { 0 },
            activation_bytes: n_tokens.saturating_mul(model.n_layers * kept),
            layer_bytes: n_tokens.saturating_mul(shape.working()),
            logits_bytes: LOGITS_ALIVE * chunk,
        }
    }
}

/// Values of the buffers that sections of a model take turns in: two layers, and the embedding or
/// the output head with the final norm.
fn buffered_values(model: &ModelConfig) -> usize {
    let of_layers = |n_layers| {
        let model = ModelConfig { n_layers, ..model.clone() };
        weight_bytes(&model, Kind::Float.into()) / Kind::Float.elt_size_in_bytes()
    };
    2 * (of_layers(1) - of_layers(0)) + (model.vocab_size + 1) * model.hidden_size
}

/// Bytes per token of a layer's tensors.
struct LayerShape<'a> {
    model: &'a ModelConfig,
    /// Bytes of a value.
    value: usize,
}

impl LayerShape<'_> {
    fn q_width(&self) -> usize {
        self.model.n_heads * self.model.head_dim
    }

    fn kv_width(&self) -> usize {
        self.model.n_kv_heads * self.model.head_dim
    }

    /// The input of the layer.
    fn input(&self) -> usize {
        self.value * self.model.hidden_size
    }

    /// Inputs and outputs of its products and of attention.
    fn products(&self) -> usize {
        let ModelConfig { hidden_size, intermediate_size, n_heads, .. } = *self.model;
        let values = 2 * hidden_size + 2 * self.q_width() + 2 * self.kv_width();
        self.value * (values + 2 * intermediate_size) + n_heads * Kind::Float.elt_size_in_bytes()
    }

    /// Everything that is alive where a layer's gradient is computed: the larger of its two halves,
    /// and the norms in f32.
    fn working(&self) -> usize {
        let ModelConfig { hidden_size, intermediate_size, .. } = *self.model;
        let mlp = 8 * intermediate_size;
        let attention = 10 * self.q_width() + 4 * self.kv_width();
        self.products()
            + self.value * mlp.max(attention)
            + 6 * hidden_size * Kind::Float.elt_size_in_bytes()
    }
}
