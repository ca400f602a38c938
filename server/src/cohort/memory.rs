//! Memory of what waits for groups: completions, questions, and what requests hold beside them. A
//! limit in bytes, and what is taken of it.
//!
//! Knows no group.

use std::collections::BTreeMap;

use super::terms::Ticket;
use crate::problem::Problem;
use crate::share_counts::ShareCounts;

/// What is taken of the memory.
#[derive(Debug)]
pub(super) struct WaitingMemory {
    limit: usize,
    bytes: ShareCounts,
    /// What each waiting request holds, with its share; requests that hold nothing are left out.
    held: BTreeMap<Ticket, (String, usize)>,
}

impl WaitingMemory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: ShareCounts::default(), held: BTreeMap::new() }
    }

    /// Number of bytes that are taken.
    #[cfg(test)]
    pub(super) fn n_bytes(&self) -> usize {
        self.bytes.n()
    }

    /// Whether a share has room for `n_more` bytes. While nothing waits, there is for any number.
    ///
    /// # Errors
    /// [`Problem::TooManyBytes`]
    pub(super) fn check(&self, share: &str, n_more: usize) -> Result<(), Problem> {
        match self.bytes.n() == 0 || self.bytes.has_room(share, n_more, self.limit) {
            true => Ok(()),
            false => Err(Problem::TooManyBytes { limit: self.limit }),
        }
    }

    /// Takes memory for texts.
    pub(super) fn take(&mut self, share: &str, n_bytes: usize) {
        self.bytes.add(share, n_bytes);
    }

    /// Gives memory of texts back.
    pub(super) fn give_back(&mut self, share: &str, n_bytes: usize) {
        self.bytes.remove(share, n_bytes);
    }

    /// Takes memory for what a request holds until it ends.
    pub(super) fn hold(&mut self, ticket: Ticket, share: &str, n_bytes: usize) {
        if n_bytes > 0 {
            self.bytes.add(share, n_bytes);
            self.held.insert(ticket, (share.to_owned(), n_bytes));
        }
    }

    /// Gives back what a request held that has ended.
    pub(super) fn release(&mut self, ticket: Ticket) {
        if let Some((share, n_bytes)) = self.held.remove(&ticket) {
            self.bytes.remove(&share, n_bytes);
        }
    }
}
