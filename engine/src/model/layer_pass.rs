//! A decoder layer in training: its forward pass with what is kept of it, and the way back.
//!
//! Kept are the inputs and outputs of products and of attention; norms, rotations and the gate are
//! cheap and computed again. The formulas of the gradients are those of the functions in `layer`;
//! autograd through them is the witness in the tests. Everything runs without autograd.

use tch::Tensor;

use super::gradients::Parameter;
use super::layer::{Layer, rms_norm, rms_norm_backward};
use super::rope::Rotation;
use super::tree_attention::{AttendedTokens, TreeAttention};
use crate::config::ModelConfig;
use crate::error::Error;

/// What all layers of a pass have in common.
pub(super) struct PassContext<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) rotation: Rotation,
    pub(super) attention: TreeAttention,
}

impl PassContext<'_> {
    /// Hq, Hkv and D.
    fn shape_of_heads(&self) -> [i64; 3] {
        [self.config.n_heads, self.config.n_kv_heads, self.config.head_dim].map(|n| n as i64)
    }
}

/// What is kept of a layer's forward pass.
pub(super) struct LayerActivations {
    qkv: Tensor, // [N, (Hq + 2·Hkv)·D]
    attended: AttendedTokens,
    middle: Tensor,  // [N, H], between attention and MLP
    gate_up: Tensor, // [N, 2·I]
}

/// Queries, keys and values of a layer.
struct ProjectedHeads {
    /// Queries and keys as projected: [N, Hq + Hkv, D].
    projected: Tensor,
    q: Tensor, // [N, Hq, D], rotated
    k: Tensor, // [N, Hkv, D], rotated
    v: Tensor, // [N, Hkv, D]
}

impl Layer {
    /// Runs the layer: `x` [N, H] → [N, H], and what its gradient needs beside `x`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(super) fn forward_kept(
        &self,
        context: &PassContext<'_>,
        x: &Tensor,
    ) -> Result<(Tensor, LayerActivations), Error> {
        let eps = context.config.rms_norm_eps;
        let normed = rms_norm(x, &self.input_norm, eps);
        let qkv = self.qkv.detach().forward(&normed)?;
        let ProjectedHeads { q, k, v, .. } = self.heads(context, &qkv);
        let attended = context.attention.forward([&q, &k, &v])?;
        let middle = x + self.output.detach().forward(&attended.out.flatten(1, 2))?;
        let normed = rms_norm(&middle, &self.post_norm, eps);
        let gate_up = self.gate_up.detach().forward(&normed)?;
        let y = &middle + self.down.detach().forward(&gated(&gate_up))?;
        Ok((y, LayerActivations { qkv, attended, middle, gate_up }))
    }

    /// Adds the gradients of the parameters to `sums`, and returns the gradient of the input `x`
    /// [N, H] from that of the output.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(super) fn backward(
        &self,
        context: &PassContext<'_>,
        x: &Tensor,
        kept: LayerActivations,
        gradient: &Tensor,
        sums: &Layer,
    ) -> Result<Tensor, Error> {
        let eps = context.config.rms_norm_eps;
        let LayerActivations { qkv, attended, middle, gate_up } = kept;
        let input_norm = Parameter { value: &self.input_norm, gradient: &sums.input_norm };
        let post_norm = Parameter { value: &self.post_norm, gradient: &sums.post_norm };

        let by_gated = self.down.backward(&gated(&gate_up), gradient, &sums.down)?; // [N, I]
        let by_gate_up = gated_backward(&gate_up, &by_gated);
        drop((gate_up, by_gated));
        let normed = rms_norm(&middle, &self.post_norm, eps);
        let by_normed = self.gate_up.backward(&normed, &by_gate_up, &sums.gate_up)?;
        drop((normed, by_gate_up));
        let by_middle = gradient + rms_norm_backward(&middle, post_norm, eps, &by_normed)?;

        let attended_heads = attended.out.flatten(1, 2);
        let by_attended = self.output.backward(&attended_heads, &by_middle, &sums.output)?;
        let by_qkv = self.heads_backward(context, &qkv, &attended, &by_attended, sums)?;
        drop((qkv, attended, attended_heads, by_attended));
        let normed = rms_norm(x, &self.input_norm, eps);
        let by_normed = self.qkv.backward(&normed, &by_qkv, &sums.qkv)?;
        Ok(by_middle + rms_norm_backward(x, input_norm, eps, &by_normed)?)
    }

    fn heads(&self, context: &PassContext<'_>, qkv: &Tensor) -> ProjectedHeads {
        let [n_q_heads, n_kv_heads, head_dim] = context.shape_of_heads();
        let qkv = qkv.view([-1, n_q_heads + 2 * n_kv_heads, head_dim]);
        let projected = qkv.narrow(1, 0, n_q_heads + n_kv_heads);
        let normed = self.head_norms.as_ref().map(|norms| norms.apply(&projected, n_q_heads));
        let rotated = context.rotation.apply(normed.as_ref().unwrap_or(&projected));
        ProjectedHeads {
            projected,
            q: rotated.narrow(1, 0, n_q_heads),
            k: rotated.narrow(1, n_q_heads, n_kv_heads),
            v: qkv.narrow(1, n_q_heads + n_kv_heads, n_kv_heads),
        }
    }

    /// The gradient of `qkv` from that of the attention's output [N, Hq·D].
    fn heads_backward(
        &self,
        context: &PassContext<'_>,
        qkv: &Tensor,
        attended: &AttendedTokens,
        gradient: &Tensor,
        sums: &Layer,
    ) -> Result<Tensor, Error> {
        let [n_q_heads, ..] = context.shape_of_heads();
        let ProjectedHeads { projected, q, k, v } = self.heads(context, qkv);
        let gradient = gradient.view_as(&attended.out);
        let [by_q, by_k, by_v] = context.attention.backward([&q, &k, &v], attended, &gradient)?;
        let by_rotated = Tensor::cat(&[by_q, by_k], 1); // [N, Hq + Hkv, D]
        let mut by_projected = context.rotation.reversed().apply(&by_rotated);
        if let (Some(norms), Some(sums)) = (&self.head_norms, &sums.head_norms) {
            by_projected = norms.backward(&projected, n_q_heads, &by_projected, sums)?;
        }
        Ok(Tensor::cat(&[by_projected, by_v], 1).flatten(1, 2))
    }
}

/// silu(gate)·up: [N, 2·I] → [N, I].
fn gated(gate_up: &Tensor) -> Tensor {
    let halves = gate_up.chunk(2, 1);
    halves[0].silu() * &halves[1]
}

/// The gradient of `gate_up` [N, 2·I] from that of [`gated`]: with s = σ(gate), that of the gate is
/// gradient·up·s·(1 + gate·(1 − s)), that of up gradient·gate·s.
fn gated_backward(gate_up: &Tensor, gradient: &Tensor) -> Tensor {
    let halves = gate_up.chunk(2, 1);
    let (gate, up) = (&halves[0], &halves[1]);
    let by_gate = gate.silu_backward(&(gradient * up));
    Tensor::cat(&[by_gate, gradient * gate.silu()], 1)
}
