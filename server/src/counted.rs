//! State behind a lock, with numbers of it that are read without the lock: no probe waits for it.
//!
//! Knows no state.

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

/// State of which numbers are kept beside its lock.
pub(crate) trait Counted {
    /// The numbers.
    type Counts;

    /// Brings the numbers up to date.
    fn write_counts(&self, counts: &Self::Counts);
}

/// The locked state; the numbers follow it when it is released.
pub(crate) struct CountedGuard<'a, S: Counted> {
    state: MutexGuard<'a, S>,
    counts: &'a S::Counts,
}

impl<'a, S: Counted> CountedGuard<'a, S> {
    pub(crate) fn new(state: MutexGuard<'a, S>, counts: &'a S::Counts) -> Self {
        Self { state, counts }
    }
}

impl<S: Counted> Deref for CountedGuard<'_, S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S: Counted> DerefMut for CountedGuard<'_, S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

impl<S: Counted> Drop for CountedGuard<'_, S> {
    fn drop(&mut self) {
        self.state.write_counts(self.counts);
    }
}
