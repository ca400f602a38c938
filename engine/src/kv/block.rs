//! Blocks, spans of blocks and slots: how key/value memory is addressed. No state.

/// Number of slots per block.
pub(crate) const BLOCK_TOKENS: usize = 16;

/// The first `n_tokens` slots of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) block: u32,
    pub(crate) n_tokens: u32,
}

/// Place of one token's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvSlot {
    pub(crate) block: u32,
    pub(crate) offset: u32,
}
