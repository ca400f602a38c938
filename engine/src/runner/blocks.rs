//! Keys and values in blocks on any device, with libtorch's attention: the reference implementation
//! of the faster paths. A row's context is gathered from its blocks, and the row's tokens attend to
//! it with a mask. It knows nothing of scheduling.

use tch::{Kind, Tensor};

use crate::batch::{BatchRow, ForwardBatch};
use crate::error::Error;
use crate::kv::BLOCK_TOKENS;
use crate::model::Decoder;
use crate::model::attention::Attend;

/// Keys and values per layer, each [slots, Hkv, D].
pub(super) struct KvBlocks {
    layers: Vec<(Tensor, Tensor)>,
    /// Factor of the scores before the softmax.
    scale: f64,
}

impl KvBlocks {
    pub(super) fn new(model: &Decoder, n_blocks: usize) -> Result<Self, Error> {
        let config = model.config();
        let n_slots = (n_blocks * BLOCK_TOKENS) as i64;
        let shape = [n_slots, config.n_kv_heads as i64, config.head_dim as i64];
        let zeros = || Tensor::f_zeros(shape, (model.kind(), model.device()));
        let layers = (0..config.n_layers).map(|_| Ok((zeros()?, zeros()?)));
        let layers = layers.collect::<Result<_, Error>>()?;
        Ok(Self { layers, scale: config.attention_scale() })
    }

    /// Computes a batch. Returns the logits of the wanted tokens, [wanted, V] f32.
    pub(super) fn forward(
        &mut self,
        model: &Decoder,
        batch: &ForwardBatch,
    ) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let to_tensor = |values: Vec<i64>| Tensor::from_slice(&values).to_device(model.device());
        let slots = batch.slots.iter();
        let slots =
            slots.map(|slot| i64::from(slot.block) * BLOCK_TOKENS as i64 + i64::from(slot.offset));
        let contexts = batch.rows.iter().map(|row| to_tensor(context(row))).collect();
        let mut attend =
            Rows { kv: self, rows: &batch.rows, slots: to_tensor(slots.collect()), contexts };
        let ids = to_tensor(batch.tokens.iter().map(|&id| i64::from(id)).collect());
        let positions = to_tensor(batch.positions.iter().map(|&at| at as i64).collect());
        let hidden = model.forward(&ids, &positions, model.kind(), &mut attend)?;
        let wanted = to_tensor(batch.wanted.iter().map(|&at| at as i64).collect());
        model.logits(&hidden.index_select(0, &wanted))
    }
}

/// Slots of a row's context, in order of position.
fn context(row: &BatchRow) -> Vec<i64> {
    let spans = row.spans.iter().flat_map(|span| {
        let first = i64::from(span.block) * BLOCK_TOKENS as i64;
        first..first + i64::from(span.n_tokens)
    });
    spans.collect()
}

/// Attention of one batch's rows over their gathered contexts.
struct Rows<'a> {
    kv: &'a mut KvBlocks,
    rows: &'a [BatchRow],
    slots: Tensor,
    contexts: Vec<Tensor>,
}

impl Attend for Rows<'_> {
    fn attend(&mut self, layer_idx: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let scale = self.kv.scale;
        let (keys, values) = &mut self.kv.layers[layer_idx];
        let _ = keys.index_copy_(0, &self.slots, k);
        let _ = values.index_copy_(0, &self.slots, v);
        let (n_heads, head_dim) = (q.size()[1], q.size()[2]);
        let n_kv_heads = k.size()[1];
        let outs = self.rows.iter().zip(&self.contexts).map(|(row, context)| {
            let (len, n_context) = (row.len as i64, context.size()[0]);
            // [Hkv, T, D]
            let gathered = |arena: &Tensor| arena.index_select(0, context).transpose(0, 1);
            let q = q.narrow(0, row.start as i64, len).transpose(0, 1); // [Hq, len, D]
            let n_groups = n_heads / n_kv_heads;
            // the query heads that share a key/value head become rows of one product
            let q = q.reshape([n_kv_heads, n_groups * len, head_dim]);
            let mask = (len > 1).then(|| {
                let options = (Kind::Int64, q.device());
                let at = Tensor::arange(n_context, options).unsqueeze(0);
                let last = Tensor::arange(len, options).unsqueeze(1) + row.position as i64;
                Tensor::zeros([len, n_context], (q.kind(), q.device()))
                    .masked_fill(&at.gt_tensor(&last), f64::NEG_INFINITY)
                    .repeat([n_groups, 1])
            });
            let out = Tensor::scaled_dot_product_attention(
                &q.unsqueeze(0),
                &gathered(keys).unsqueeze(0),
                &gathered(values).unsqueeze(0),
                mask.as_ref(),
                0.0,
                false,
                scale,
                false,
            ); // [1, Hkv, G·len, D]
            out.reshape([n_heads, len, head_dim]).transpose(0, 1).reshape([len, n_heads * head_dim])
        });
        Tensor::cat(&outs.collect::<Vec<_>>(), 0)
    }
}
