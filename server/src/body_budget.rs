//! Memory for the bodies that are read at the same time: a limit in bytes, and shares of it.
//!
//! A client that holds little of it may exceed the limit by a quarter, so that one client whose
//! bodies fill the memory does not lock the others out. Knows neither HTTP nor what the bytes are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Client;
use crate::problem::Problem;
use crate::share_counts::ShareCounts;

/// The limit, and how much of it is taken.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget {
    taken: Arc<Mutex<ShareCounts>>,
    limit: usize,
}

/// A request whose bytes have shares of the memory.
#[derive(Clone, Debug)]
pub(crate) struct BodyHolder {
    budget: BodyBudget,
    client: Client,
    /// Size of the request's shares, all together.
    own: Arc<AtomicUsize>,
}

/// A part of the memory, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct BodyShare {
    holder: BodyHolder,
    n_bytes: usize,
}

impl BodyBudget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// A request of the client, which holds nothing yet.
    pub(crate) fn holder(&self, client: &Client) -> BodyHolder {
        BodyHolder { budget: self.clone(), client: client.clone(), own: Arc::default() }
    }

    /// Size of all shares.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> usize {
        self.lock().n()
    }

    fn lock(&self) -> MutexGuard<'_, ShareCounts> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyHolder {
    /// An empty share.
    pub(crate) fn share(&self) -> BodyShare {
        BodyShare { holder: self.clone(), n_bytes: 0 }
    }
}

impl BodyShare {
    /// Size of the share.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Changes the size of the share. While no other request has any, it may have any size; it may
    /// always become smaller.
    ///
    /// # Errors
    /// [`Problem::TooManyBodies`]; the share stays as it is then.
    pub(crate) fn resize(&mut self, n_bytes: usize) -> Result<(), Problem> {
        let BodyHolder { budget: BodyBudget { limit, .. }, client, own } = &self.holder;
        let (share, limit) = (client.share(), *limit);
        let mut taken = self.holder.budget.lock();
        if n_bytes <= self.n_bytes {
            let less = self.n_bytes - n_bytes;
            taken.remove(share, less);
            own.fetch_sub(less, Ordering::Relaxed);
        } else {
            let more = n_bytes - self.n_bytes;
            let is_only = taken.n() == own.load(Ordering::Relaxed);
            if !is_only && !taken.has_room(share, more, limit) {
                return Err(Problem::TooManyBodies { limit });
            }
            taken.add(share, more);
            own.fetch_add(more, Ordering::Relaxed);
        }
        self.n_bytes = n_bytes;
        Ok(())
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.resize(0).expect("a share may always become smaller. This is a bug.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Result<(), Problem> = Err(Problem::TooManyBodies { limit: 100 });

    #[test]
    fn body_budget_bounds_all_shares_together_but_takes_any_first_request() {
        let budget = BodyBudget::new(100);
        let client = Client::default();
        let request = budget.holder(&client);
        let (mut first, mut second) = (request.share(), budget.holder(&client).share());
        first.resize(150).unwrap();
        assert_eq!(second.resize(1), FULL);
        let mut other_part = request.share();
        other_part.resize(50).unwrap();
        drop(other_part);
        first.resize(60).unwrap();
        second.resize(40).unwrap();
        assert_eq!(first.resize(61), FULL);
        assert_eq!((budget.n_bytes(), first.n_bytes()), (100, 60));
        drop(first);
        second.resize(1000).unwrap();
        drop(second);
        assert_eq!(budget.n_bytes(), 0);
    }

    #[test]
    fn body_budget_has_room_for_a_client_beside_one_that_fills_it() {
        let budget = BodyBudget::new(100);
        let share = |name: &str| budget.holder(&Client::of_tenant(name, None)).share();
        let (mut large, mut more) = (share("alice"), share("alice"));
        large.resize(100).unwrap();
        assert_eq!(more.resize(1), FULL, "another request of the same tenant");
        let (mut small, mut third) = (share("bob"), share("carol"));
        small.resize(20).unwrap();
        assert_eq!(small.resize(26), FULL, "a quarter of the memory");
        assert_eq!(third.resize(6), FULL, "a quarter more in all");
        third.resize(5).unwrap();
        drop((large, more));
        small.resize(95).unwrap();
        assert_eq!(budget.n_bytes(), 100);
    }
}
