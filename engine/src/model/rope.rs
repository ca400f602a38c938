//! Rotary position embedding in the half-split layout of Qwen2 and Llama checkpoints.
//!
//! Angle of pair i at position p: p · theta^(−2i/D), rescaled as the configuration says
//! (RoFormer, arXiv 2104.09864; Llama 3.1's and YaRN's rescaling as in transformers'
//! `modeling_rope_utils`). YaRN's factor of sines and cosines is not in them but in
//! `ModelConfig::attention_scale`.

use tch::{Device, Kind, Tensor};

use crate::config::{ModelConfig, RopeScaling, Yarn};

/// Inverse frequencies of a model, one per pair of dimensions.
pub(crate) struct Rope {
    inv_freq: Tensor, // [D/2] f32
}

/// Cosines and sines of the angles at one batch's positions.
pub(crate) struct Rotation {
    cos: Tensor, // [N, 1, D/2]
    sin: Tensor,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig, device: Device) -> Self {
        let inv_freq: Vec<f32> =
            inverse_frequencies(config).into_iter().map(|freq| freq as f32).collect();
        Self { inv_freq: Tensor::from_slice(&inv_freq).to_device(device) }
    }

    pub(crate) fn shallow_clone(&self) -> Self {
        Self { inv_freq: self.inv_freq.shallow_clone() }
    }

    /// Inverse frequency per pair of dimensions: [D/2] f32.
    pub(crate) fn inv_freq(&self) -> &Tensor {
        &self.inv_freq
    }

    /// Rotation of the tokens at `positions` `[N]`: computed in f32, returned in `kind`.
    pub(crate) fn at(&self, positions: &Tensor, kind: Kind) -> Rotation {
        let positions = positions.to_kind(Kind::Float).unsqueeze(1); // [N, 1]
        let angles = positions * self.inv_freq.unsqueeze(0); // [N, D/2]
        Rotation {
            cos: angles.cos().to_kind(kind).unsqueeze(1),
            sin: angles.sin().to_kind(kind).unsqueeze(1),
        }
    }
}

impl Rotation {
    /// The rotation back, which takes gradients through this one.
    pub(super) fn reversed(&self) -> Self {
        Self { cos: self.cos.shallow_clone(), sin: self.sin.neg() }
    }

    /// Rotates every head: [N, heads, D] → [N, heads, D].
    pub(crate) fn apply(&self, x: &Tensor) -> Tensor {
        let halves = x.chunk(2, 2);
        let (x1, x2) = (&halves[0], &halves[1]);
        let y1 = x1 * &self.cos - x2 * &self.sin;
        let y2 = x2 * &self.cos + x1 * &self.sin;
        Tensor::cat(&[y1, y2], 2)
    }
}

fn inverse_frequencies(config: &ModelConfig) -> Vec<f64> {
    let head_dim = config.head_dim;
    let plain = (0..head_dim / 2)
        .map(|pair| config.rope_theta.powf(-((2 * pair) as f64) / head_dim as f64));
    match &config.rope_scaling {
        None | Some(RopeScaling::Dynamic { .. }) => plain.collect(),
        Some(RopeScaling::Linear { factor }) => plain.map(|freq| freq / factor).collect(),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position,
        }) => plain
            .map(|freq| {
                let wavelength = 2.0 * std::f64::consts::PI / freq;
                let original = *original_max_position as f64;
                if wavelength > original / low_freq_factor {
                    freq / factor
                } else if wavelength < original / high_freq_factor {
                    freq
                } else {
                    let smooth = (original / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * freq / factor + smooth * freq
                }
            })
            .collect(),
        Some(RopeScaling::Yarn(yarn)) => {
            let [low, high] = yarn_bounds(yarn, config.rope_theta, head_dim);
            let blended = |(pair, freq): (usize, f64)| {
                let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
                freq / yarn.factor * ramp + freq * (1.0 - ramp)
            };
            plain.enumerate().map(blended).collect()
        }
    }
}

/// The pairs of dimensions below which YaRN keeps frequencies, and above which it divides them:
/// those with `beta_fast` and `beta_slow` turns over the original context.
fn yarn_bounds(yarn: &Yarn, theta: f64, head_dim: usize) -> [f64; 2] {
    let pair_of = |turns: f64| {
        let wavelengths = yarn.original_max_position as f64 / (turns * std::f64::consts::TAU);
        head_dim as f64 * wavelengths.ln() / (2.0 * theta.ln())
    };
    let (mut low, mut high) = (pair_of(yarn.beta_fast), pair_of(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    // a ramp of no width would divide by 0
    [low, if low == high { high + 0.001 } else { high }]
}
