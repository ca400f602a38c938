//! Settings of the GPU runner and the buffer sizes that follow from them. It allocates nothing.

use super::arena::KvKind;
use super::buffers::Capacity;
use super::tuning::graph_rows;
use crate::config::ModelConfig;
use crate::kv::BLOCK_TOKENS;

/// Settings of one engine's runner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GpuSettings {
    /// Number of blocks of keys and values.
    pub(crate) n_blocks: usize,
    /// Maximum number of tokens per step.
    pub(crate) step_tokens: usize,
    /// Maximum number of rows per step.
    pub(crate) max_batch: usize,
    /// Maximum number of tokens per sequence.
    pub(crate) max_context: usize,
    /// Number format of keys and values.
    pub(crate) kv: KvKind,
    /// Whether fused kernels run; otherwise libtorch's operations do.
    pub(crate) kernels: bool,
    /// Whether decoding steps are recorded as CUDA graphs.
    pub(crate) graphs: bool,
    /// Whether decoding rows that share a prefix use cascade attention.
    pub(crate) shared_attention: bool,
    /// Maximum number of bytes of a product's weights that the kernel before it prefetches.
    pub(crate) fetch_ahead: usize,
}

impl GpuSettings {
    /// Largest step that the buffers must hold.
    pub(super) fn capacity(&self) -> Capacity {
        let n_rows = graph_rows(self.max_batch);
        // prefixes are shared per token, not per block: some spans are shorter than a block
        let n_spans = self.max_context.div_ceil(BLOCK_TOKENS) + 64;
        // several contexts are gathered together where they fit; one context always fits
        let n_gathered =
            self.max_batch.saturating_mul(self.max_context).min(32_768).max(self.max_context);
        Capacity { n_tokens: self.step_tokens.max(n_rows), n_rows, n_spans, n_gathered }
    }

    /// Bytes of a step's intermediate results.
    pub(crate) fn buffer_bytes(&self, config: &ModelConfig) -> usize {
        self.capacity().bytes(config)
    }
}
