//! Settings of the training of a model, whatever its loss, and the number formats that follow from
//! them.

use joust_engine::device::DType;
use joust_engine::{Decoder, LoraConfig};
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::optim::OptimConfig;
use crate::weights::first::FirstWeights;
use crate::weights::stage::ShardStage;

/// Number formats of a model in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberFormats {
    /// Of the weights as they are loaded: master weights, or those that adapters stand in for.
    pub weights: Kind,
    /// Of the weights that passes compute with.
    pub working: Kind,
    /// Of the activations.
    pub compute: Kind,
}

/// Training of a model, whatever its loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfig {
    /// Number format of the activations. Master weights, gradients and softmax are f32.
    pub compute_dtype: DType,
    /// Number format of the weights that are computed with. `bf16` keeps rounded weights beside the
    /// f32 weights that the optimiser changes: 2 more bytes per parameter, no conversion in each
    /// product, and rollout workers that sample in bf16 on the same device use these weights in
    /// place of a copy. `f32`: the optimiser's own weights. With `lora`, only `f32`.
    pub working_dtype: DType,
    /// Maximum number of rows per micro-batch. The gradients of the micro-batches of a batch are
    /// accumulated.
    #[schemars(range(min = 1))]
    pub micro_batch_rows: usize,
    /// Maximum number of tokens per micro-batch, where the prompt of a group counts once. A row
    /// that is longer has a micro-batch of its own.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub micro_batch_tokens: usize,
    /// Maximum size of a tensor of logits, in MiB; about three such tensors are alive at once. A
    /// micro-batch with more logits computes its output head in chunks of tokens, and each chunk a
    /// second time for its gradient. Large chunks are faster on a GPU.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub logits_mib: usize,
    /// Whether only the input of each layer is kept for the gradient, and each layer computed a
    /// second time: less memory, about a quarter more time. The gradient is the same.
    pub checkpoint_activations: bool,
    /// How several ranks divide the model in training. `zero1`: each has a part of the optimiser's
    /// state. `zero2`: also of the sums of gradients, which are sent once per micro-batch in place
    /// of once per update. `zero3`: also of the weights, and of those of a reference; a layer's are
    /// gathered before its forward and its backward pass. `auto`: the first whose memory plan fits
    /// the device. `zero2` and `zero3` learn the same to the last bit; so does `zero1` where an
    /// update has one micro-batch per rank, and else but for last bits. With `lora`, not `zero3`.
    pub shard: ShardStage,
    /// Adapters that are trained in place of the model's weights (LoRA); the weights are kept in
    /// the format of `compute_dtype`. Without it, all weights are trained.
    pub lora: Option<LoraConfig>,
    /// AdamW, the optimiser.
    pub optim: OptimConfig,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        Self {
            compute_dtype: DType::Auto,
            working_dtype: DType::F32,
            micro_batch_rows: 64,
            micro_batch_tokens: 8_192,
            logits_mib: 64,
            checkpoint_activations: false,
            shard: ShardStage::Auto,
            lora: None,
            optim: OptimConfig::default(),
        }
    }
}

impl LearnerConfig {
    /// Number formats of a model in training on `device`.
    pub fn number_formats(&self, device: Device) -> NumberFormats {
        let is_auto = self.compute_dtype == DType::Auto && !device.is_cuda();
        let resolved = self.compute_dtype.resolve(device);
        if self.lora.is_some() {
            let weights = if is_auto { Kind::Float } else { resolved };
            return NumberFormats { weights, working: weights, compute: weights };
        }
        let working = self.working_dtype.resolve(device);
        let compute = if is_auto { working } else { resolved };
        NumberFormats { weights: Kind::Float, working, compute }
    }

    /// Number formats of a model in training that is open: as [`Self::number_formats`], but f64
    /// where its weights are.
    pub(crate) fn formats_of(&self, first: &FirstWeights) -> NumberFormats {
        let formats = self.number_formats(first.device());
        let wide = |kind| match (kind, first.kind()) {
            (Kind::Float, Kind::Double) => Kind::Double,
            (other, _) => other,
        };
        NumberFormats {
            weights: wide(formats.weights),
            working: wide(formats.working),
            compute: wide(formats.compute),
        }
    }

    /// Number format in which a model computes in training.
    pub fn compute_kind(&self, first: &FirstWeights) -> Kind {
        self.formats_of(first).compute
    }

    /// The stages that `n_ranks` ranks may divide the model by, in the order in which they need
    /// less memory.
    pub fn possible_shards(&self, n_ranks: usize) -> Vec<ShardStage> {
        let most = match (n_ranks, &self.lora) {
            (0 | 1, _) => ShardStage::Zero1,
            (_, Some(_)) => ShardStage::Zero2,
            _ => ShardStage::Zero3,
        };
        ShardStage::STAGES.into_iter().filter(|stage| *stage <= most).collect()
    }

    /// All contradictions, each named by its key.
    pub(crate) fn contradictions(&self) -> Option<String> {
        if self.lora.is_some() && self.shard == ShardStage::Zero3 {
            let text = "learner.shard is \"zero3\" with learner.lora, wanted another: what is \
                        trained is small, and the model's own weights are not divided";
            return Some(text.to_owned());
        }
        let is_rounded = self.working_dtype != DType::F32;
        if is_rounded && self.lora.is_some() {
            let text = "learner.working_dtype is set with learner.lora, wanted one of them: \
                        adapters are f32, and the model's own weights have the format of \
                        learner.compute_dtype";
            return Some(text.to_owned());
        }
        (is_rounded && self.compute_dtype == DType::F32).then(|| {
            "learner.compute_dtype is f32 with rounded weights (learner.working_dtype), wanted \
             auto or the same: each pass would widen what was rounded"
                .to_owned()
        })
    }

    /// Gives a model the adapters that are trained, if the config has some.
    pub fn attach_adapters(&self, model: &mut Decoder, seed: Seed) {
        if let Some(lora) = &self.lora {
            model.attach_adapters(lora, seed);
        }
    }
}
