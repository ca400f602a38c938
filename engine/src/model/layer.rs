//! One decoder layer: attention and gated MLP, each behind an RMSNorm and a residual.
//!
//! Projections with the same input are stored fused (`qkv`, `gate_up`). A layer knows nothing of
//! how keys and values are stored.

use tch::{Kind, Tensor};

use super::attention::Attend;
use super::gradients::{self, Parameter};
use super::linear::Linear;
use super::rope::Rotation;
use crate::config::ModelConfig;
use crate::error::Error;

/// Parameters of one layer.
pub(crate) struct Layer {
    pub(crate) input_norm: Tensor, // [H]
    pub(crate) qkv: Linear,        // [(Hq + 2·Hkv)·D, H]
    pub(crate) head_norms: Option<HeadNorms>,
    pub(crate) output: Linear,    // [H, Hq·D]
    pub(crate) post_norm: Tensor, // [H]
    pub(crate) gate_up: Linear,   // [2·I, H]
    pub(crate) down: Linear,      // [H, I]
}

/// RMSNorms of each head's queries and keys before their rotation.
#[derive(Debug)]
pub(crate) struct HeadNorms {
    pub(crate) q: Tensor, // [D]
    pub(crate) k: Tensor, // [D]
    pub(crate) eps: f64,
}

impl HeadNorms {
    /// A second handle to the same parameters; no memory is copied.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self { q: self.q.shallow_clone(), k: self.k.shallow_clone(), eps: self.eps }
    }

    /// The same parameters without gradients; no memory is copied.
    pub(crate) fn detach(&self) -> Self {
        Self { q: self.q.detach(), k: self.k.detach(), eps: self.eps }
    }

    /// Normalises the heads of `x` [N, Hq + Hkv, D], of which the first `n_q_heads` are queries.
    pub(crate) fn apply(&self, x: &Tensor, n_q_heads: i64) -> Tensor {
        let (n_kv_heads, head_dim) = (x.size()[1] - n_q_heads, x.size()[2]);
        let (q, k) = (
            self.q.expand([n_q_heads, head_dim], false),
            self.k.expand([n_kv_heads, head_dim], false),
        );
        rms_norm(x, &Tensor::cat(&[q, k], 0), self.eps) // weight [Hq + Hkv, D]
    }

    /// The gradient of `x` [N, Hq + Hkv, D] from that of the normalised heads; those of the weights
    /// are added to `sums`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        n_q_heads: i64,
        gradient: &Tensor,
        sums: &HeadNorms,
    ) -> Result<Tensor, Error> {
        let n_kv_heads = x.size()[1] - n_q_heads;
        let part = |weight: Parameter<'_>, start: i64, n_heads: i64| {
            let [x, gradient] = [x, gradient].map(|it| it.narrow(1, start, n_heads));
            rms_norm_backward(&x, weight, self.eps, &gradient)
        };
        let q = Parameter { value: &self.q, gradient: &sums.q };
        let k = Parameter { value: &self.k, gradient: &sums.k };
        let parts = [part(q, 0, n_q_heads)?, part(k, n_q_heads, n_kv_heads)?];
        Ok(Tensor::cat(&parts, 1))
    }
}

impl Layer {
    /// The linear layers: `qkv`, `output`, `gate_up`, `down`.
    pub(crate) fn linears(&self) -> [&Linear; 4] {
        [&self.qkv, &self.output, &self.gate_up, &self.down]
    }

    /// As [`Layer::linears`].
    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.qkv, &mut self.output, &mut self.gate_up, &mut self.down]
    }

    /// A second handle to the same parameters; no memory is copied.
    pub(crate) fn shallow_clone(&self) -> Self {
        Self {
            input_norm: self.input_norm.shallow_clone(),
            qkv: self.qkv.shallow_clone(),
            head_norms: self.head_norms.as_ref().map(HeadNorms::shallow_clone),
            output: self.output.shallow_clone(),
            post_norm: self.post_norm.shallow_clone(),
            gate_up: self.gate_up.shallow_clone(),
            down: self.down.shallow_clone(),
        }
    }

    /// Runs the layer: `x` [N, H] → [N, H].
    pub(crate) fn forward(
        &self,
        config: &ModelConfig,
        layer_idx: usize,
        x: &Tensor,
        rotation: &Rotation,
        attend: &mut dyn Attend,
    ) -> Result<Tensor, Error> {
        let n_q_heads = config.n_heads as i64;
        let n_kv_heads = config.n_kv_heads as i64;
        let head_dim = config.head_dim as i64;

        let normed = rms_norm(x, &self.input_norm, config.rms_norm_eps);
        let qkv = self.qkv.forward(&normed)?;
        let qkv = qkv.view([-1, n_q_heads + 2 * n_kv_heads, head_dim]); // [N, Hq + 2·Hkv, D]
        let parts = qkv.split_with_sizes([n_q_heads + n_kv_heads, n_kv_heads], 1);
        let normed = self.head_norms.as_ref().map(|norms| norms.apply(&parts[0], n_q_heads));
        let rotated = rotation.apply(normed.as_ref().unwrap_or(&parts[0]));
        let rotated = rotated.split_with_sizes([n_q_heads, n_kv_heads], 1);
        let attended = attend.attend(layer_idx, &rotated[0], &rotated[1], &parts[1]); // [N, Hq·D]
        let x = x + self.output.forward(&attended)?;

        let normed = rms_norm(&x, &self.post_norm, config.rms_norm_eps);
        let gate_up = self.gate_up.forward(&normed)?; // [N, 2·I]
        let halves = gate_up.chunk(2, 1);
        let activated = halves[0].silu() * &halves[1]; // [N, I]
        Ok(x + self.down.forward(&activated)?)
    }
}

/// x / sqrt(mean(x²) + eps) · weight over the last dimension, the mean in at least f32 (Zhang and
/// Sennrich, arXiv 1910.07467).
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let kind = x.kind();
    let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
    let x_wide = x.to_kind(wide);
    let scale = (x_wide.square().mean_dim([-1i64].as_slice(), true, wide) + eps).rsqrt(); // [.., 1]
    (x_wide * scale).to_kind(kind) * weight.to_kind(kind)
}

/// The gradient of `x` [.., D] from that of [`rms_norm`]; that of the weight `[D]` is added to its
/// sum. With r = 1/sqrt(mean(x²) + eps), n = x·r and g = gradient·weight, it is
/// r·(g − n·mean(g·n)), and that of the weight the sum of gradient·n over all rows.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn rms_norm_backward(
    x: &Tensor,
    weight: Parameter<'_>,
    eps: f64,
    gradient: &Tensor,
) -> Result<Tensor, Error> {
    let kind = x.kind();
    let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
    let (x, gradient) = (x.to_kind(wide), gradient.to_kind(wide));
    let mean = |values: Tensor| values.mean_dim([-1i64].as_slice(), true, wide);
    let scale = (mean(x.square()) + eps).rsqrt(); // [.., 1]
    let normed = x * &scale;
    if weight.value.requires_grad() {
        let rows = (&gradient * &normed).reshape([-1, weight.value.size()[0]]);
        gradients::add(weight.gradient, &rows.sum_dim_intlist([0i64].as_slice(), false, wide))?;
    }
    let by_normed = gradient * weight.value.detach().to_kind(wide);
    let share = mean(&by_normed * &normed);
    Ok(((by_normed - normed * share) * scale).to_kind(kind))
}
