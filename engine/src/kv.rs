//! The memory of keys and values: one row of a padded arena a running sample.
//!
//! Rows 0..n are the running samples, without gaps, so that a decode step reads one narrow view of
//! the arena. It knows nothing of requests or sampling; who sits in which row is the engine's
//! business.

use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::model::attention::{Attend, Causal};

/// Smallest number of positions that a row is given.
const MIN_CAPACITY: usize = 64;

/// Keys and values of all layers, [rows, capacity, Hkv, D] each.
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    n_rows: usize,
    capacity: usize,
    row_shape: [i64; 2],
    options: (Kind, Device),
}

impl KvCache {
    pub(crate) fn new(config: &ModelConfig, kind: Kind, device: Device) -> Self {
        let row_shape = [config.n_kv_heads as i64, config.head_dim as i64];
        let options = (kind, device);
        let empty = || Tensor::zeros([0, 0, row_shape[0], row_shape[1]], options);
        let layers = (0..config.n_layers).map(|_| (empty(), empty())).collect();
        Self { layers, n_rows: 0, capacity: 0, row_shape, options }
    }

    /// Makes room for `n_rows` rows of `n_tokens` tokens, keeping what is stored.
    pub(crate) fn reserve(&mut self, n_rows: usize, n_tokens: usize) {
        if n_rows <= self.n_rows && n_tokens <= self.capacity {
            return;
        }
        let rows = grown(self.n_rows, n_rows, 1);
        let capacity = grown(self.capacity, n_tokens, MIN_CAPACITY);
        let [heads, head_dim] = self.row_shape;
        for (keys, values) in &mut self.layers {
            for arena in [keys, values] {
                let bigger =
                    Tensor::zeros([rows as i64, capacity as i64, heads, head_dim], self.options);
                if self.n_rows > 0 {
                    bigger
                        .narrow(0, 0, self.n_rows as i64)
                        .narrow(1, 0, self.capacity as i64)
                        .copy_(arena);
                }
                *arena = bigger;
            }
        }
        self.n_rows = rows;
        self.capacity = capacity;
    }

    /// Copies the first `n_tokens` tokens of row `from` over row `to`.
    pub(crate) fn move_row(&mut self, from: usize, to: usize, n_tokens: usize) {
        for (keys, values) in &self.layers {
            for arena in [keys, values] {
                let row = |idx: usize| arena.get(idx as i64).narrow(0, 0, n_tokens as i64);
                row(to).copy_(&row(from));
            }
        }
    }

    /// Attention of a right-padded batch of prompts that stores what it computes: row
    /// `first_row + i` of the arena receives prompt `prompt_of_row[i]`.
    pub(crate) fn prefill(
        &mut self,
        n_prompts: usize,
        n_time: usize,
        first_row: usize,
        prompt_of_row: &[i64],
    ) -> Prefill<'_> {
        self.reserve(first_row + prompt_of_row.len(), n_time);
        Prefill {
            causal: Causal { n_rows: n_prompts as i64, n_time: n_time as i64 },
            first_row: first_row as i64,
            prompt_of_row: Tensor::from_slice(prompt_of_row).to_device(self.options.1),
            cache: self,
        }
    }

    /// Attention of one new token in each of rows 0..n, whose stored lengths are `lengths`.
    pub(crate) fn decode(&mut self, lengths: &[usize]) -> Decode<'_> {
        let n_time = lengths.iter().max().map_or(1, |longest| longest + 1);
        self.reserve(lengths.len(), n_time);
        let (kind, device) = self.options;
        let slots: Vec<i64> = lengths
            .iter()
            .enumerate()
            .map(|(row, &length)| (row * self.capacity + length) as i64)
            .collect();
        let ragged = lengths.iter().any(|&length| length + 1 != n_time);
        let mask = ragged.then(|| {
            let lengths: Vec<i64> = lengths.iter().map(|&length| length as i64).collect();
            let last = Tensor::from_slice(&lengths).to_device(device).view([-1, 1, 1, 1]);
            let beyond = Tensor::arange(n_time as i64, (Kind::Int64, device)).gt_tensor(&last);
            Tensor::zeros([lengths.len() as i64, 1, 1, n_time as i64], (kind, device))
                .masked_fill(&beyond, f64::NEG_INFINITY) // [B, 1, 1, T]
        });
        Decode {
            slots: Tensor::from_slice(&slots).to_device(device),
            n_rows: lengths.len() as i64,
            n_time: n_time as i64,
            mask,
            cache: self,
        }
    }
}

/// See [`KvCache::prefill`].
pub(crate) struct Prefill<'a> {
    cache: &'a mut KvCache,
    causal: Causal,
    first_row: i64,
    prompt_of_row: Tensor,
}

impl Attend for Prefill<'_> {
    fn attend(&mut self, layer_idx: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let Causal { n_rows, n_time } = self.causal;
        let (keys, values) = &self.cache.layers[layer_idx];
        let [heads, head_dim] = self.cache.row_shape;
        for (arena, new) in [(keys, k), (values, v)] {
            let new = new.reshape([n_rows, n_time, heads, head_dim]);
            arena
                .narrow(0, self.first_row, self.prompt_of_row.size()[0])
                .narrow(1, 0, n_time)
                .copy_(&new.index_select(0, &self.prompt_of_row));
        }
        self.causal.attend(layer_idx, q, k, v)
    }
}

/// See [`KvCache::decode`].
pub(crate) struct Decode<'a> {
    cache: &'a mut KvCache,
    slots: Tensor,
    n_rows: i64,
    n_time: i64,
    mask: Option<Tensor>,
}

impl Attend for Decode<'_> {
    fn attend(&mut self, layer_idx: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (keys, values) = &self.cache.layers[layer_idx];
        let [heads, head_dim] = self.cache.row_shape;
        for (arena, new) in [(keys, k), (values, v)] {
            let _ = arena.view([-1, heads, head_dim]).index_copy_(0, &self.slots, new);
        }
        let view = |arena: &Tensor| {
            arena.narrow(0, 0, self.n_rows).narrow(1, 0, self.n_time).transpose(1, 2) // [B, Hkv, T, D]
        };
        let n_groups = q.size()[1] / heads;
        // query heads that share a key/value head become rows of one small matrix
        let q = q.reshape([self.n_rows, heads, n_groups, head_dim]);
        let mask = self
            .mask
            .as_ref()
            .map(|mask| mask.expand([self.n_rows, 1, n_groups, self.n_time], false));
        let out = Tensor::scaled_dot_product_attention(
            &q,
            &view(keys),
            &view(values),
            mask.as_ref(),
            0.0,
            false,
            None,
            false,
        ); // [B, Hkv, G, D]
        out.reshape([self.n_rows, heads * n_groups * head_dim])
    }
}

/// The next size at or above `wanted`, doubling from `least` so that growth is rare.
fn grown(current: usize, wanted: usize, least: usize) -> usize {
    if wanted <= current { current } else { wanted.next_power_of_two().max(least) }
}
