//! Blocks by number, with a reference count each.

/// Blocks 0..n with their reference counts. Knows nothing of their content.
#[derive(Debug)]
pub(super) struct BlockPool {
    users: Vec<u32>,
    free: Vec<u32>,
}

impl BlockPool {
    pub(super) fn new(n_blocks: usize) -> Self {
        let n_blocks = u32::try_from(n_blocks).unwrap_or(u32::MAX);
        // the lowest number is allocated first, so that unused memory stays untouched
        Self { users: vec![0; n_blocks as usize], free: (0..n_blocks).rev().collect() }
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.users.len()
    }

    pub(super) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// Allocates a block with one user.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let block = self.free.pop()?;
        self.users[block as usize] = 1;
        Some(block)
    }

    /// Free blocks are allocated in the order of their numbers again, whatever was released before:
    /// the order of a batch's rows, and with it the last bits of its numbers, follows the blocks.
    pub(super) fn order(&mut self) {
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Adds a user.
    pub(super) fn acquire(&mut self, block: u32) {
        self.users[block as usize] += 1;
    }

    /// Removes a user and returns the number left; a block without users is free.
    pub(super) fn release(&mut self, block: u32) -> u32 {
        let users = &mut self.users[block as usize];
        *users = users.checked_sub(1).expect("a block is released by who holds it. This is a bug.");
        if *users == 0 {
            self.free.push(block);
        }
        *users
    }
}
