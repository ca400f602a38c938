//! Key/value memory as numbers: the content and users of each block, and which blocks may be
//! evicted. No tensors, no clock.
//!
//! Memory is cut into blocks of [`BLOCK_TOKENS`] slots. A sequence's context is a [`BlockTable`] of
//! spans, each the first slots of a block. Spans may be shorter than a block, so two sequences
//! share their prefix to the token without copying: each continues in a block of its own. Prompts
//! are cached in a [`prefix::PrefixTree`] for later requests.

mod block;
mod pool;
mod prefix;

pub(crate) use block::{BLOCK_TOKENS, KvSlot, Span};
use pool::BlockPool;
use prefix::{PrefixTree, TreePosition};

/// Context of one sequence.
#[derive(Debug, Default)]
pub(crate) struct BlockTable {
    spans: Vec<Span>,
    n_tokens: usize,
    /// Whether this sequence may write to the last block.
    owns_tail: bool,
    /// End of the context in the prefix tree; none once it has left the tree.
    position: Option<TreePosition>,
}

impl BlockTable {
    /// Number of tokens of the context.
    pub(crate) fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Spans of the context, in order.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn push(&mut self, slot: KvSlot) {
        match self.spans.last_mut() {
            Some(last) if last.block == slot.block => last.n_tokens += 1,
            _ => self.spans.push(Span { block: slot.block, n_tokens: 1 }),
        }
        self.n_tokens += 1;
    }
}

/// Use of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvUsage {
    /// Number of blocks.
    pub(crate) n_blocks: usize,
    /// Number of free blocks.
    pub(crate) n_free: usize,
    /// Number of blocks that only the prefix cache holds.
    pub(crate) n_cached: usize,
}

/// All blocks, and the prefix cache.
#[derive(Debug)]
pub(crate) struct KvMemory {
    pool: BlockPool,
    tree: PrefixTree,
    keeps_prefixes: bool,
}

impl KvMemory {
    pub(crate) fn new(n_blocks: usize, keeps_prefixes: bool) -> Self {
        Self { pool: BlockPool::new(n_blocks), tree: PrefixTree::default(), keeps_prefixes }
    }

    /// An empty context.
    pub(crate) fn open(&self) -> BlockTable {
        let position = self.keeps_prefixes.then(TreePosition::root);
        BlockTable { position, ..BlockTable::default() }
    }

    /// Extends a context by the cached part of the tokens that follow it. Returns the number of
    /// tokens reused.
    pub(crate) fn reuse(&mut self, table: &mut BlockTable, following: &[u32]) -> usize {
        let mut n_reused = 0;
        while let Some(position) = table.position {
            let Some((next, span)) = self.tree.step(position, &following[n_reused..]) else {
                break;
            };
            let n_new = match table.spans.last_mut() {
                Some(last) if last.block == span.block => {
                    let n_new = span.n_tokens - last.n_tokens;
                    *last = span;
                    n_new
                }
                _ => {
                    self.acquire(span.block);
                    table.spans.push(span);
                    table.owns_tail = false;
                    span.n_tokens
                }
            };
            n_reused += n_new as usize;
            table.position = Some(next);
        }
        table.n_tokens += n_reused;
        n_reused
    }

    /// Allocates slots for the tokens that follow a context, as many as there is room for.
    /// `is_prompt` adds them to the prefix cache.
    pub(crate) fn extend(
        &mut self,
        table: &mut BlockTable,
        following: &[u32],
        is_prompt: bool,
    ) -> Vec<KvSlot> {
        let mut slots = Vec::with_capacity(following.len());
        for (at, &token) in following.iter().enumerate() {
            if let Some(position) = table.position
                && (!is_prompt || (at == 0 && self.tree.step(position, &following[..1]).is_some()))
            {
                // generated tokens are not cached, nor is a cached token that is computed again for
                // its logits
                table.position = None;
            }
            let tail = table.spans.last().copied();
            let room =
                tail.filter(|tail| table.owns_tail && (tail.n_tokens as usize) < BLOCK_TOKENS);
            let slot = match room {
                Some(tail) => KvSlot { block: tail.block, offset: tail.n_tokens },
                None => match self.allocate() {
                    Some(block) => KvSlot { block, offset: 0 },
                    None => break,
                },
            };
            if let Some(position) = table.position {
                table.position = Some(self.remember(position, slot, token));
            }
            table.owns_tail = true;
            table.push(slot);
            slots.push(slot);
        }
        slots
    }

    /// Forks a context: a second one with the same content. The first one keeps the last block for
    /// writing.
    pub(crate) fn fork(&mut self, table: &BlockTable) -> BlockTable {
        for span in &table.spans {
            self.acquire(span.block);
        }
        BlockTable {
            spans: table.spans.clone(),
            n_tokens: table.n_tokens,
            owns_tail: false,
            position: table.position,
        }
    }

    /// Releases a context's blocks. Cached blocks stay until they are evicted.
    pub(crate) fn release(&mut self, table: BlockTable) {
        // from the back, so that leaves of the tree are evicted before their parents
        for span in table.spans.iter().rev() {
            let left = self.pool.release(span.block);
            if left == 1
                && let Some(node) = self.tree.node_of(span.block)
            {
                self.tree.set_unused(node);
            }
        }
    }

    /// Evicts all cached prefixes that no context uses.
    pub(crate) fn forget(&mut self) {
        while self.evict() {}
        self.pool.order();
    }

    pub(crate) fn usage(&self) -> KvUsage {
        KvUsage {
            n_blocks: self.pool.n_blocks(),
            n_free: self.pool.n_free(),
            n_cached: self.tree.n_unused(),
        }
    }

    fn acquire(&mut self, block: u32) {
        self.pool.acquire(block);
        if let Some(node) = self.tree.node_of(block) {
            self.tree.set_used(node);
        }
    }

    fn allocate(&mut self) -> Option<u32> {
        loop {
            if let Some(block) = self.pool.allocate() {
                return Some(block);
            }
            if !self.evict() {
                return None;
            }
        }
    }

    fn evict(&mut self) -> bool {
        let Some(block) = self.tree.remove_oldest() else { return false };
        let left = self.pool.release(block);
        debug_assert_eq!(left, 0, "an unused prefix is held by the tree alone");
        true
    }

    fn remember(&mut self, position: TreePosition, slot: KvSlot, token: u32) -> TreePosition {
        if slot.offset == 0 {
            self.pool.acquire(slot.block);
            self.tree.add(position, slot.block, token)
        } else {
            self.tree.grow(position, token)
        }
    }
}

#[cfg(test)]
mod tests;
