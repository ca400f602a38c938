//! A body as it arrives: bytes in blocks, so that none of them is moved when more come. A long text
//! in one piece would be copied whenever it grows, and other threads wait for the allocator
//! meanwhile.
//!
//! Knows neither HTTP nor what the bytes are.

/// Size of a block. The first one grows up to it.
const BLOCK_BYTES: usize = 1 << 20;

/// The bytes that have come.
#[derive(Debug, Default)]
pub(crate) struct BodyBlocks {
    /// All but the last are full.
    blocks: Vec<Vec<u8>>,
    n_bytes: usize,
}

impl BodyBlocks {
    /// Number of bytes.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        self.n_bytes += piece.len();
        while !piece.is_empty() {
            let is_full = |block: &Vec<u8>| block.len() == BLOCK_BYTES;
            if self.blocks.last().is_none_or(is_full) {
                let capacity = if self.blocks.is_empty() { 0 } else { BLOCK_BYTES };
                self.blocks.push(Vec::with_capacity(capacity));
            }
            let last = self.blocks.last_mut().expect("a block was just added. This is a bug.");
            let (fitting, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - last.len()));
            last.extend_from_slice(fitting);
            piece = rest;
        }
    }

    /// All bytes in one piece.
    pub(crate) fn joined(mut self) -> Vec<u8> {
        if self.blocks.len() <= 1 {
            return self.blocks.pop().unwrap_or_default();
        }
        let mut joined = Vec::with_capacity(self.n_bytes);
        // each block is given back before the next one is copied
        self.blocks.into_iter().for_each(|block| joined.extend_from_slice(&block));
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_blocks_are_the_bytes_in_their_order_and_no_block_grows_beyond_its_size() {
        let text: Vec<u8> = (0..3 * BLOCK_BYTES + 17).map(|at| (at % 251) as u8).collect();
        for sizes in [vec![text.len()], vec![1, 65_536, BLOCK_BYTES], vec![BLOCK_BYTES - 1, 2]] {
            let (mut blocks, mut rest) = (BodyBlocks::default(), &text[..]);
            let mut sizes = sizes.into_iter().cycle();
            while !rest.is_empty() {
                let (piece, others) = rest.split_at(rest.len().min(sizes.next().unwrap()));
                blocks.push(piece);
                rest = others;
            }
            assert_eq!((blocks.n_bytes(), blocks.blocks.len()), (text.len(), 4));
            assert!(blocks.blocks.iter().all(|block| block.capacity() <= 2 * BLOCK_BYTES));
            assert!(blocks.joined() == text);
        }
        assert!(BodyBlocks::default().joined().is_empty());
    }
}
