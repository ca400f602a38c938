//! LoRA of a whole model: which projections have adapters, their fresh values, and their files in
//! PEFT's format. How an adapter computes is known to `model::adapter`.

use std::path::Path;

use joust_schema::seed::Seed;
use rand::Rng as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::Error;
use crate::json;
use crate::model::{Adapter, Decoder, FusedAdapters};
use crate::weights::{self, WeightMap};

/// Low-rank adapters: which projections have one, and how large it is. Names are those of PEFT's
/// `LoraConfig`; adapters have no dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the adapters. Default: 16.
    #[schemars(range(min = 1, max = 4096))]
    pub r: usize,
    /// Scale: an adapter's output is multiplied by `lora_alpha` / `r`. Default: 32.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e6))]
    pub lora_alpha: f64,
    /// Whether an adapter's output is multiplied by `lora_alpha` / √`r` instead (rsLoRA, arXiv
    /// 2312.03732). Default: false.
    pub use_rslora: bool,
    /// The projections with an adapter. Default: all.
    #[schemars(length(min = 1))]
    pub target_modules: Vec<Projection>,
}

/// A projection of a decoder layer.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Output of the attention.
    OProj,
    /// Gate of the MLP.
    GateProj,
    /// Input of the MLP that is gated.
    UpProj,
    /// Output of the MLP.
    DownProj,
}

impl Projection {
    /// All projections of a layer.
    const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// Name below `model.layers.N.`.
    fn module(self) -> &'static str {
        match self {
            Self::QProj => "self_attn.q_proj",
            Self::KProj => "self_attn.k_proj",
            Self::VProj => "self_attn.v_proj",
            Self::OProj => "self_attn.o_proj",
            Self::GateProj => "mlp.gate_proj",
            Self::UpProj => "mlp.up_proj",
            Self::DownProj => "mlp.down_proj",
        }
    }
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: 16, lora_alpha: 32.0, use_rslora: false, target_modules: Projection::ALL.into() }
    }
}

impl LoraConfig {
    fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }

    /// Number of parameters that the adapters of a model have.
    pub fn n_parameters(&self, model: &ModelConfig) -> usize {
        let (hidden, width) = (model.hidden_size, model.intermediate_size);
        let (q_width, kv_width) =
            (model.n_heads * model.head_dim, model.n_kv_heads * model.head_dim);
        let of = |projection: &Projection| match projection {
            Projection::QProj | Projection::OProj => hidden + q_width,
            Projection::KProj | Projection::VProj => hidden + kv_width,
            Projection::GateProj | Projection::UpProj | Projection::DownProj => hidden + width,
        };
        model.n_layers * self.r * self.target_modules.iter().map(of).sum::<usize>()
    }

    /// The adapter's `adapter_config.json`.
    fn to_json(&self, base: &Path) -> Value {
        json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": 0.0,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.use_rslora,
        })
    }
}

const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// PEFT's name of one matrix of an adapter; `side` is A or B.
fn tensor_name(layer: usize, projection: Projection, side: char) -> String {
    let module = projection.module();
    format!("base_model.model.model.layers.{layer}.{module}.lora_{side}.weight")
}

impl Decoder {
    /// Gives the model fresh adapters in place of those that it has: A is drawn uniformly from
    /// ±1/√K, B is 0, so that the model computes what it did. Each A depends on `seed` and its
    /// name alone. The matrices are f32 (f64 in a model that is f64).
    pub fn attach_adapters(&mut self, config: &LoraConfig, seed: Seed) {
        let (device, kind) = (self.device(), self.kind());
        let kind = if kind == Kind::Double { kind } else { Kind::Float };
        let (r, scale) = (config.r as i64, config.scale());
        self.map_projections(|layer, projection, shape| {
            let [rows, width] = shape;
            config.target_modules.contains(&projection).then(|| {
                let name = tensor_name(layer, projection, 'A');
                let bound = 1.0 / (width as f64).sqrt();
                let mut rng = seed.child_str("adapter", &name).rng();
                let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
                let values: Vec<f64> =
                    (0..r * width).map(|_| bound * (2.0 * unit() - 1.0)).collect();
                let a = Tensor::from_slice(&values).view([r, width]);
                let b = Tensor::zeros([rows, r], (kind, device));
                Adapter { a: a.to_kind(kind).to_device(device), b, scale }
            })
        });
    }

    /// The same model without its adapters; both share memory.
    pub fn without_adapters(&self) -> Decoder {
        let mut base = self.shared();
        base.map_projections(|_, _, _| None);
        base
    }

    /// Whether the model has adapters.
    pub fn has_adapters(&self) -> bool {
        self.layers().iter().any(|layer| layer.linears().iter().any(|it| it.adapters.is_some()))
    }

    /// The matrices of all adapters under PEFT's names, as shallow clones in a stable order.
    pub fn adapter_parameters(&self) -> Vec<(String, Tensor)> {
        let mut named = Vec::new();
        for (layer_idx, layer) in self.layers().iter().enumerate() {
            let of_linear = layer.linears().map(|linear| linear.adapters.as_ref());
            for (fused, adapters) in FUSED.iter().zip(of_linear) {
                let parts = adapters.iter().flat_map(|adapters| &adapters.0);
                for (&projection, (_, adapter)) in fused.iter().zip(parts) {
                    let Some(Adapter { a, b, .. }) = adapter else { continue };
                    for (side, matrix) in [('A', a), ('B', b)] {
                        let name = tensor_name(layer_idx, projection, side);
                        named.push((name, matrix.shallow_clone()));
                    }
                }
            }
        }
        named
    }

    /// The parameters that training changes: those of the adapters, or all where there are none.
    pub fn trained_parameters(&self) -> Vec<(String, Tensor)> {
        match self.has_adapters() {
            true => self.adapter_parameters(),
            false => self.named_parameters(),
        }
    }

    /// Overwrites the adapters with recorded matrices, in place.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] or [`Error::BadTensor`] for matrices that are not
    /// those of the model's adapters; nothing is written then.
    pub fn set_adapters(&self, recorded: &WeightMap) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let own = self.adapter_parameters();
        for (name, matrix) in &own {
            let Some(tensor) = recorded.get(name) else {
                return Err(Error::MissingTensor { name: name.clone(), path: Default::default() });
            };
            if tensor.size() != matrix.size() {
                let (seen, wanted) = (tensor.size(), matrix.size());
                return Err(Error::Shape { name: name.clone(), seen, wanted });
            }
        }
        if let Some(name) = recorded.keys().find(|name| own.iter().all(|(own, _)| own != *name)) {
            let reason = "belongs to no adapter of the model".to_owned();
            return Err(Error::BadTensor { name: name.clone(), reason });
        }
        for (name, mut matrix) in own {
            matrix.f_copy_(&recorded[&name])?;
        }
        Ok(())
    }

    /// Replaces the adapters of all projections; `adapter` takes a projection's layer and shape
    /// [N, K].
    fn map_projections(
        &mut self,
        adapter: impl Fn(usize, Projection, [i64; 2]) -> Option<Adapter>,
    ) {
        let head_dim = self.config().head_dim;
        let (q_rows, kv_rows) =
            (self.config().n_heads * head_dim, self.config().n_kv_heads * head_dim);
        let rows_of = |projection: Projection, hidden: i64, width: i64| match projection {
            Projection::QProj => q_rows as i64,
            Projection::KProj | Projection::VProj => kv_rows as i64,
            Projection::OProj | Projection::DownProj => hidden,
            Projection::GateProj | Projection::UpProj => width,
        };
        let (hidden, width) =
            (self.config().hidden_size as i64, self.config().intermediate_size as i64);
        for (layer_idx, layer) in self.layers_mut().iter_mut().enumerate() {
            for (fused, linear) in FUSED.iter().zip(layer.linears_mut()) {
                let n_inputs = linear.weight.size()[1];
                let part = |&projection: &Projection| {
                    let rows = rows_of(projection, hidden, width);
                    (rows, adapter(layer_idx, projection, [rows, n_inputs]))
                };
                let parts: Vec<_> = fused.iter().map(part).collect();
                let has_some = parts.iter().any(|(_, adapter)| adapter.is_some());
                linear.adapters = has_some.then_some(FusedAdapters(parts));
            }
        }
    }
}

/// The projections of each linear layer of a decoder layer, in the order of its rows.
const FUSED: [&[Projection]; 4] = [
    &[Projection::QProj, Projection::KProj, Projection::VProj],
    &[Projection::OProj],
    &[Projection::GateProj, Projection::UpProj],
    &[Projection::DownProj],
];

/// Writes a model's adapters in PEFT's format. `base` is the path of the model without them. The
/// write is not atomic.
///
/// # Errors
/// [`Error::Io`]
pub fn save(dir: &Path, model: &Decoder, config: &LoraConfig, base: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
    json::write(&dir.join(CONFIG_FILE), &config.to_json(base))?;
    let copy = |(name, matrix): (String, Tensor)| {
        (name, matrix.detach().to_device(tch::Device::Cpu).contiguous())
    };
    let weights: WeightMap = model.adapter_parameters().into_iter().map(copy).collect();
    weights::write_file(&dir.join(WEIGHTS_FILE), &weights)
}

/// Reads the matrices of adapters in PEFT's format.
///
/// # Errors
/// [`Error::Io`] or [`Error::BadFile`] for files that are missing or broken.
pub fn read(dir: &Path) -> Result<WeightMap, Error> {
    weights::read_file(&dir.join(WEIGHTS_FILE))
}

/// Whether a folder holds adapters and not a whole model.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG_FILE).exists() && !dir.join("config.json").exists()
}

#[cfg(test)]
mod tests;
