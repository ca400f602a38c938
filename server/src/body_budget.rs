//! Memory for the bodies that are read at the same time: a limit in bytes, and shares of it.
//!
//! Knows neither HTTP nor what the bytes are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::problem::Problem;

/// The limit, and how much of it is taken.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// A body's share, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: BodyBudget,
    n_bytes: usize,
}

impl BodyBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// An empty share.
    pub(crate) fn share(&self) -> BodyShare {
        BodyShare { budget: self.clone(), n_bytes: 0 }
    }
}

impl BodyShare {
    /// Size of the share.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Changes the size of the share. While no other share has any, it may have any size.
    ///
    /// # Errors
    /// [`Problem::TooManyBodies`]; the share stays as it is then.
    pub(crate) fn resize(&mut self, n_bytes: usize) -> Result<(), Problem> {
        let BodyBudget { taken, limit } = &self.budget;
        let (before, limit) = (self.n_bytes, *limit);
        let fits = |taken: usize| {
            let others = taken - before;
            let is_free = n_bytes <= before || others == 0 || others + n_bytes <= limit;
            is_free.then_some(others + n_bytes)
        };
        let changed = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        changed.map_err(|_| Problem::TooManyBodies { limit })?;
        self.n_bytes = n_bytes;
        Ok(())
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.n_bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_budget_bounds_all_shares_together_but_takes_any_first_one() {
        let budget = BodyBudget::new(100);
        let (mut first, mut second) = (budget.share(), budget.share());
        first.resize(150).unwrap();
        let full = Err(Problem::TooManyBodies { limit: 100 });
        assert_eq!(second.resize(1), full);
        first.resize(60).unwrap();
        second.resize(40).unwrap();
        assert_eq!(first.resize(61), full);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 100);
        drop(first);
        second.resize(1000).unwrap();
        drop(second);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }
}
