//! Memory of what waits for groups: completions, questions, and what requests hold beside them. A
//! limit in bytes, and what is taken of it.
//!
//! Knows no group.

use std::collections::BTreeMap;

use super::terms::Ticket;
use crate::problem::Problem;

/// What is taken of the memory.
#[derive(Debug)]
pub(super) struct WaitingMemory {
    limit: usize,
    n_bytes: usize,
    /// Size of what each waiting request holds; requests that hold nothing are left out.
    held: BTreeMap<Ticket, usize>,
}

impl WaitingMemory {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, n_bytes: 0, held: BTreeMap::new() }
    }

    /// Number of bytes that are taken.
    #[cfg(test)]
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Whether there is room for `n_more` bytes. While nothing waits, there is for any number.
    ///
    /// # Errors
    /// [`Problem::TooManyBytes`]
    pub(super) fn check(&self, n_more: usize) -> Result<(), Problem> {
        match self.n_bytes > 0 && self.n_bytes + n_more > self.limit {
            true => Err(Problem::TooManyBytes { limit: self.limit }),
            false => Ok(()),
        }
    }

    /// Takes memory for texts.
    pub(super) fn take(&mut self, n_bytes: usize) {
        self.n_bytes += n_bytes;
    }

    /// Gives memory of texts back.
    pub(super) fn give_back(&mut self, n_bytes: usize) {
        self.n_bytes -= n_bytes;
    }

    /// Takes memory for what a request holds until it ends.
    pub(super) fn hold(&mut self, ticket: Ticket, n_bytes: usize) {
        if n_bytes > 0 {
            self.n_bytes += n_bytes;
            self.held.insert(ticket, n_bytes);
        }
    }

    /// Gives back what a request held that has ended.
    pub(super) fn release(&mut self, ticket: Ticket) {
        self.n_bytes -= self.held.remove(&ticket).unwrap_or(0);
    }
}
