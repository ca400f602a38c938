//! Turns a plan into logits: the only part of the engine that runs the model.
//!
//! It keeps the model and the keys and values; it knows nothing of requests, seeds or stops. On a
//! CPU a plain model runs on `cpu`; all others on libtorch's own operations, `blocks`.

mod blocks;

use tch::{Device, Kind, Tensor};

use crate::batch::{Batch, Row};
use crate::cpu::{self, CpuRunner};
use crate::error::Error;
use crate::kv::BLOCK_TOKENS;
use crate::model::Decoder;
use crate::scheduler::Chunk;
use blocks::KvBlocks;

enum Path {
    Cpu(CpuRunner),
    Libtorch(KvBlocks),
}

/// The model with the keys and values of the samples it is running.
pub(crate) struct Runner {
    pub(crate) model: Decoder,
    path: Path,
}

/// Bytes that one block of keys and values takes.
pub(crate) fn block_bytes(model: &Decoder) -> usize {
    BLOCK_TOKENS * cpu::kv_bytes_per_token(model.config(), model.kind())
}

impl Runner {
    pub(crate) fn new(model: Decoder, n_blocks: usize) -> Result<Self, Error> {
        let is_known = matches!(model.kind(), Kind::Float | Kind::BFloat16);
        let path = match model.device() {
            Device::Cpu if is_known && !model.is_quantized() => Path::Cpu(CpuRunner::new(&model, n_blocks)?),
            _ => Path::Libtorch(KvBlocks::new(&model, n_blocks)?),
        };
        Ok(Self { model, path })
    }

    /// Computes the chunks of one step: logits of the last token of each chunk that has samples,
    /// in their order, [chunks with samples, V].
    pub(crate) fn forward(&mut self, chunks: &[Chunk]) -> Result<Tensor, Error> {
        let batch = batch(chunks);
        match &mut self.path {
            Path::Cpu(runner) => runner.forward(&batch),
            Path::Libtorch(blocks) => blocks.forward(&self.model, &batch),
        }
    }

    /// Overwrites the weights by those of `weights`, which may be the same memory.
    pub(crate) fn publish(&mut self, weights: &Decoder) -> Result<(), Error> {
        if !self.model.shares_weights_with(weights) {
            self.model.copy_from(weights)?;
        }
        match &mut self.path {
            Path::Cpu(runner) => runner.take_weights(&self.model),
            Path::Libtorch(_) => Ok(()),
        }
    }
}

fn batch(chunks: &[Chunk]) -> Batch {
    let mut batch = Batch::default();
    for chunk in chunks {
        let start = batch.tokens.len();
        batch.tokens.extend(&chunk.tokens);
        batch.positions.extend(chunk.positions.clone());
        batch.slots.extend(&chunk.slots);
        batch.rows.push(Row {
            start,
            len: chunk.tokens.len(),
            position: chunk.positions.start,
            spans: chunk.spans.clone(),
        });
        if chunk.n_samples > 0 {
            batch.wanted.push(batch.tokens.len() - 1);
        }
    }
    batch
}
