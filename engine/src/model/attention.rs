//! Causal attention over a right-padded batch, and the trait that paths with a key/value cache
//! implement.
//!
//! Queries, keys and values arrive rotated and flat; the [`Attend`] decides on their layout,
//! storage and masking. This file knows nothing of projections.

use tch::Tensor;

/// Attention of one batch, called once per layer.
pub(crate) trait Attend {
    /// Attends in layer `layer_idx`.
    ///
    /// # Shapes
    /// `q` [N, Hq, D], `k` and `v` [N, Hkv, D] → [N, Hq·D].
    fn attend(&mut self, layer_idx: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor;
}

/// Full causal attention of a right-padded batch. Padding needs no mask: it comes last, so that no
/// real token attends to it.
pub(crate) struct Causal {
    /// Number of rows of the batch.
    pub(crate) n_rows: i64,
    /// Number of tokens per row, padding included.
    pub(crate) n_time: i64,
    /// Factor of the scores before the softmax.
    pub(crate) scale: f64,
}

impl Attend for Causal {
    fn attend(&mut self, _layer_idx: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (n_q_heads, head_dim) = (q.size()[1], q.size()[2]);
        let q = self.split(q);
        let k = repeat_heads(&self.split(k), n_q_heads); // [B, Hq, T, D]
        let v = repeat_heads(&self.split(v), n_q_heads);
        let out = Tensor::scaled_dot_product_attention(
            &q,
            &k,
            &v,
            None::<&Tensor>,
            0.0,
            self.n_time > 1,
            self.scale,
            false,
        ); // [B, Hq, T, D]
        out.transpose(1, 2).reshape([self.n_rows * self.n_time, n_q_heads * head_dim])
    }
}

impl Causal {
    /// [B·T, heads, D] → [B, heads, T, D], a view.
    fn split(&self, x: &Tensor) -> Tensor {
        let size = x.size();
        x.view([self.n_rows, self.n_time, size[1], size[2]]).transpose(1, 2)
    }
}

/// Repeats each key/value head for the query heads that share it: [B, Hkv, T, D] → [B, Hq, T, D].
pub(super) fn repeat_heads(x: &Tensor, n_q_heads: i64) -> Tensor {
    let size = x.size();
    let (n_rows, n_kv_heads, n_time, head_dim) = (size[0], size[1], size[2], size[3]);
    if n_kv_heads == n_q_heads {
        return x.shallow_clone();
    }
    let n_groups = n_q_heads / n_kv_heads;
    x.unsqueeze(2)
        .expand([n_rows, n_kv_heads, n_groups, n_time, head_dim], false)
        .reshape([n_rows, n_q_heads, n_time, head_dim])
}
