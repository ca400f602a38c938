//! Turns the scheduler's chunks into logits: the only part of the engine that runs the model.
//!
//! The runner owns the model and its keys and values. Unquantised models on a CPU run in `cpu`,
//! models with bf16 activations on a GPU in `gpu`, all others on libtorch's operations in `blocks`.
//! It knows nothing of requests, seeds or stop conditions.

mod blocks;

use tch::Tensor;

use crate::batch::{BatchRow, ForwardBatch};
use crate::capacity::{ExecutionPath, gpu_settings};
use crate::cpu::CpuRunner;
use crate::error::Error;
use crate::ffi::malloc::LARGE;
use crate::gpu::GpuRunner;
use crate::model::Decoder;
use crate::sampler::{self, Drawn, RowSampling};
use crate::scheduler::Chunk;
use crate::settings::EngineConfig;
use blocks::KvBlocks;

enum DeviceRunner {
    Cpu(CpuRunner),
    Gpu(Box<GpuRunner>),
    Libtorch(KvBlocks),
}

/// A model with the keys and values of the running samples.
pub(crate) struct Runner {
    pub(crate) model: Decoder,
    runner: DeviceRunner,
}

impl Runner {
    pub(crate) fn new(
        model: Decoder,
        path: ExecutionPath,
        config: &EngineConfig,
        n_blocks: usize,
    ) -> Result<Self, Error> {
        let runner = match path {
            ExecutionPath::Cpu => DeviceRunner::Cpu(CpuRunner::new(&model, n_blocks)?),
            ExecutionPath::Gpu(kv) => {
                let max_context = config.max_context_of(model.config());
                let settings = gpu_settings(config, n_blocks, max_context, kv);
                DeviceRunner::Gpu(Box::new(GpuRunner::new(&model, &settings)?))
            }
            ExecutionPath::Libtorch => DeviceRunner::Libtorch(KvBlocks::new(&model, n_blocks)?),
        };
        Ok(Self { model, runner })
    }

    /// A runner that uses the GPU path on any device.
    #[cfg(test)]
    pub(crate) fn of_gpu(model: Decoder, runner: GpuRunner) -> Self {
        Self { model, runner: DeviceRunner::Gpu(Box::new(runner)) }
    }

    /// Computes the chunks of one step. Returns the logits of the last token of each chunk with
    /// samples, in the order of the chunks: [chunks with samples, V].
    pub(crate) fn forward(&mut self, chunks: &[Chunk]) -> Result<Tensor, Error> {
        let batch = batch(chunks);
        match &mut self.runner {
            DeviceRunner::Cpu(runner) => runner.forward(&batch),
            DeviceRunner::Gpu(runner) => runner.forward(&self.model, &batch),
            DeviceRunner::Libtorch(blocks) => blocks.forward(&self.model, &batch),
        }
    }

    /// Draws one token per entry of `draws` from the logits of [`Runner::forward`].
    pub(crate) fn sample(
        &self,
        logits: &Tensor,
        draws: &[RowSampling],
    ) -> Result<Vec<Drawn>, Error> {
        match &self.runner {
            DeviceRunner::Gpu(runner) => runner.sample(logits, draws),
            _ => sampler::sample(logits, draws),
        }
    }

    /// Waits until the logits of [`Runner::forward`] are computed and can be read on the host.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        match &self.runner {
            DeviceRunner::Gpu(runner) => runner.wait(),
            _ => Ok(()),
        }
    }

    /// Frees what the next weights make anew: packed weights, keys and values of a large model on
    /// a CPU. A small model would spend more time on its pages than they are worth, and a GPU's
    /// memory for keys and values belongs to its recorded graphs.
    pub(crate) fn release(&mut self) {
        let is_large = self.model.n_bytes() > LARGE;
        if let DeviceRunner::Cpu(runner) = &mut self.runner
            && is_large
        {
            runner.release();
        }
    }

    /// Takes over the parameters of `weights`; they are not copied where they share the model's
    /// memory.
    pub(crate) fn publish(&mut self, weights: &Decoder) -> Result<(), Error> {
        if !self.model.shares_weights_with(weights) {
            self.model.copy_from(weights)?;
        }
        match &mut self.runner {
            DeviceRunner::Cpu(runner) => runner.take_weights(&self.model),
            DeviceRunner::Gpu(_) => GpuRunner::wait_for_weights(),
            DeviceRunner::Libtorch(_) => Ok(()),
        }
    }
}

/// Lays the chunks out one after the other.
fn batch(chunks: &[Chunk]) -> ForwardBatch {
    let mut batch = ForwardBatch::default();
    for chunk in chunks {
        let start = batch.tokens.len();
        batch.tokens.extend(&chunk.tokens);
        batch.positions.extend(chunk.positions.clone());
        batch.slots.extend(&chunk.slots);
        batch.rows.push(BatchRow {
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
