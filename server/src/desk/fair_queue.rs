//! Fair queue: decides which client's group the judge gets next. Pure: no clock, no threads.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996): in virtual time, an entry starts when the
//! previous entry of the same client ends; the earliest start is served first. A client with a
//! thousand queued groups delays the first group of another client by one group.

use std::collections::BTreeMap;

/// Entries of many clients in their fair order.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    entries: BTreeMap<(u64, u64), T>,
    /// Virtual time at which each client's last entry ends.
    ends: BTreeMap<String, u64>,
    /// Virtual time.
    now: u64,
    n_pushed: u64,
}

/// Identifies an entry of the queue.
pub(crate) type EntryPosition = (u64, u64);

impl<T> FairQueue<T> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), ends: BTreeMap::new(), now: 0, n_pushed: 0 }
    }

    /// Adds an entry; `cost` is its work for the judge, in any unit.
    pub(crate) fn push(&mut self, client: &str, cost: u64, entry: T) -> EntryPosition {
        let start = self.ends.get(client).map_or(self.now, |&end| end.max(self.now));
        self.ends.insert(client.to_owned(), start.saturating_add(cost.max(1)));
        self.n_pushed += 1;
        let position = (start, self.n_pushed);
        self.entries.insert(position, entry);
        position
    }

    /// Removes and returns the next entry.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let ((start, _), entry) = self.entries.pop_first()?;
        self.now = start;
        self.ends.retain(|_, end| *end > start);
        Some(entry)
    }

    /// Removes and returns an entry before its turn; `None` if it is not in the queue.
    pub(crate) fn remove(&mut self, position: EntryPosition) -> Option<T> {
        self.entries.remove(&position)
    }

    /// Drops the entries for which `is_kept` is false.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        self.entries.retain(|_, entry| is_kept(entry));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fair_queue_serves_one_client_in_order_and_lets_others_in() {
        let mut queue = FairQueue::new();
        for number in 0..100 {
            queue.push("a", 10, ("a", number));
        }
        assert_eq!(queue.pop(), Some(("a", 0)));
        let position = queue.push("b", 10, ("b", 0));
        queue.push("b", 10, ("b", 1));
        assert_eq!(queue.remove(position), Some(("b", 0)));
        assert_eq!(queue.remove(position), None);
        let next: Vec<_> = (0..5).map_while(|_| queue.pop()).collect();
        assert_eq!(next, [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 4)]);
        queue.retain(|(_, number)| number % 50 == 0);
        assert_eq!(queue.pop(), Some(("a", 50)));
        assert!(queue.is_empty());
    }

    proptest! {
        /// While two clients wait, the work done for them differs by at most one entry of each.
        #[test]
        fn fair_queue_gives_equal_shares(
            costs_a in prop::collection::vec(1u64..50, 20..60),
            costs_b in prop::collection::vec(1u64..50, 20..60),
        ) {
            let mut queue = FairQueue::new();
            for &cost in &costs_a {
                queue.push("a", cost, (true, cost));
            }
            for &cost in &costs_b {
                queue.push("b", cost, (false, cost));
            }
            let (mut left, mut given) = ([costs_a.len(), costs_b.len()], [0i64, 0]);
            while left[0] > 0 && left[1] > 0 {
                let (is_a, cost) = queue.pop().unwrap();
                let client = usize::from(!is_a);
                left[client] -= 1;
                given[client] += cost as i64;
                prop_assert!((given[0] - given[1]).abs() <= 100, "{given:?}");
            }
        }
    }
}
