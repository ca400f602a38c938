//! Fair queue: decides whose group the judge gets next. Pure: no clock, no threads.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996) on two levels: shares (tenants, or
//! addresses where there are no tokens), and the clients' own names within a share. In virtual
//! time, an entry starts when the previous entry of the same queue ends; the earliest start is
//! served first. A share with a thousand queued groups delays the first group of another share by
//! one group, under however many names it sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::client::Client;

/// Maximum number of names of a share that have a part of their own at once. Clients with further
/// names have one part together.
const MAX_NAMES: usize = 64;

/// The name of the clients with further names: no client can send it in a header.
const FURTHER: &str = "\n";

/// Entries of many clients in their fair order.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    shares: BTreeMap<Arc<str>, ShareQueue<T>>,
    /// The shares that have entries, by the virtual time at which their next entry starts, then by
    /// the order in which they came.
    next: BTreeSet<(u64, u64, Arc<str>)>,
    /// Virtual time at which the last entry of each other share ends.
    ends: BTreeMap<Arc<str>, u64>,
    now: u64,
    n_pushed: u64,
}

/// Identifies an entry of the queue.
#[derive(Clone, Debug)]
pub(crate) struct EntryPosition {
    share: Arc<str>,
    start: u64,
    number: u64,
}

/// Entries of one share.
#[derive(Debug)]
struct ShareQueue<T> {
    /// Virtual time at which the next entry starts, and the number of the share's first entry.
    turn: (u64, u64),
    names: NameQueue<T>,
}

/// Entries of one share in the order of its names.
#[derive(Debug)]
struct NameQueue<T> {
    entries: BTreeMap<(u64, u64), (u64, T)>,
    /// Virtual time at which each name's last entry ends.
    ends: BTreeMap<String, u64>,
    now: u64,
}

impl<T> NameQueue<T> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), ends: BTreeMap::new(), now: 0 }
    }

    /// Adds an entry, and returns the virtual time at which it starts.
    fn push(&mut self, name: &str, cost: u64, number: u64, entry: T) -> u64 {
        let is_known = self.ends.contains_key(name) || self.ends.len() < MAX_NAMES;
        let name = if is_known { name } else { FURTHER };
        let start = self.ends.get(name).map_or(self.now, |&end| end.max(self.now));
        self.ends.insert(name.to_owned(), start.saturating_add(cost));
        self.entries.insert((start, number), (cost, entry));
        start
    }

    /// Removes and returns the next entry with its cost.
    fn pop(&mut self) -> Option<(u64, T)> {
        let ((start, _), entry) = self.entries.pop_first()?;
        self.now = start;
        self.ends.retain(|_, end| *end > start);
        Some(entry)
    }
}

impl<T> FairQueue<T> {
    pub(crate) fn new() -> Self {
        let (shares, next, ends) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { shares, next, ends, now: 0, n_pushed: 0 }
    }

    /// Adds an entry; `cost` is its work for the judge, in any unit.
    pub(crate) fn push(&mut self, client: &Client, cost: u64, entry: T) -> EntryPosition {
        self.n_pushed += 1;
        let number = self.n_pushed;
        let share: Arc<str> = match self.shares.get_key_value(client.share()) {
            Some((share, _)) => Arc::clone(share),
            None => {
                let share: Arc<str> = client.share().into();
                let start = self.ends.remove(&share).map_or(self.now, |end| end.max(self.now));
                let queue = ShareQueue { turn: (start, number), names: NameQueue::new() };
                self.next.insert((start, number, Arc::clone(&share)));
                self.shares.insert(Arc::clone(&share), queue);
                share
            }
        };
        let queue = self.shares.get_mut(&share).expect("it was just found. This is a bug.");
        let start = queue.names.push(client.name(), cost.max(1), number, entry);
        EntryPosition { share, start, number }
    }

    /// Removes and returns the next entry.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (start, first, share) = self.next.pop_first()?;
        let queue = self.shares.get_mut(&share).expect("its turn is known. This is a bug.");
        let (cost, entry) = queue.names.pop().expect("it has entries. This is a bug.");
        self.now = start;
        self.ends.retain(|_, end| *end > start);
        queue.turn = (start.saturating_add(cost), first);
        match queue.names.entries.is_empty() {
            true => self.drop_empty(&share),
            false => drop(self.next.insert((queue.turn.0, first, share))),
        }
        Some(entry)
    }

    /// Forgets a share without entries, but for the time at which its last entry ends.
    fn drop_empty(&mut self, share: &Arc<str>) {
        if let Some(queue) = self.shares.remove(share) {
            let (start, first) = queue.turn;
            self.next.remove(&(start, first, Arc::clone(share)));
            if start > self.now {
                self.ends.insert(Arc::clone(share), start);
            }
        }
    }

    /// Removes and returns an entry before its turn; `None` if it is not in the queue.
    pub(crate) fn remove(&mut self, position: &EntryPosition) -> Option<T> {
        let EntryPosition { share, start, number } = position;
        let queue = self.shares.get_mut(share)?;
        let (_, entry) = queue.names.entries.remove(&(*start, *number))?;
        if queue.names.entries.is_empty() {
            self.drop_empty(share);
        }
        Some(entry)
    }

    /// Drops the entries for which `is_kept` is false.
    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        for queue in self.shares.values_mut() {
            queue.names.entries.retain(|_, (_, entry)| is_kept(entry));
        }
        let is_empty = |queue: &ShareQueue<T>| queue.names.entries.is_empty();
        let empty = self.shares.iter().filter(|(_, queue)| is_empty(queue));
        let empty: Vec<Arc<str>> = empty.map(|(share, _)| Arc::clone(share)).collect();
        empty.iter().for_each(|share| self.drop_empty(share));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(share: &str, name: &str) -> Client {
        Client::of_tenant(share, Some(name))
    }

    #[test]
    fn fair_queue_serves_one_client_in_order_and_lets_others_in() {
        let mut queue = FairQueue::new();
        let (a, b) = (client("a", ""), client("b", ""));
        for number in 0..100 {
            queue.push(&a, 10, ("a", number));
        }
        assert_eq!(queue.pop(), Some(("a", 0)));
        let position = queue.push(&b, 10, ("b", 0));
        queue.push(&b, 10, ("b", 1));
        assert_eq!(queue.remove(&position), Some(("b", 0)));
        assert_eq!(queue.remove(&position), None);
        let next: Vec<_> = (0..5).map_while(|_| queue.pop()).collect();
        assert_eq!(next, [("b", 1), ("a", 1), ("a", 2), ("a", 3), ("a", 4)]);
        queue.retain(|(_, number)| number % 50 == 0);
        assert_eq!(queue.pop(), Some(("a", 50)));
        assert!(queue.is_empty() && queue.pop().is_none());
        // a share that had its turn does not start before others when it comes back
        queue.push(&b, 10, ("b", 2));
        queue.push(&a, 10, ("a", 101));
        assert_eq!([queue.pop(), queue.pop()], [Some(("b", 2)), Some(("a", 101))]);
    }

    #[test]
    fn fair_queue_shares_by_tenant_first_and_by_name_below() {
        let mut queue = FairQueue::new();
        for number in 0..1000 {
            queue.push(&client("alice", &format!("n{number}")), 5, "alice");
        }
        for _ in 0..20 {
            queue.push(&client("bob", "one"), 5, "bob");
            queue.push(&client("bob", "two"), 5, "bob two");
        }
        let served: Vec<_> = (0..80).map_while(|_| queue.pop()).collect();
        let n = |who: &str| served.iter().filter(|one| **one == who).count();
        assert_eq!((n("alice"), n("bob"), n("bob two")), (40, 20, 20));
        // more names than have a part of their own
        let queue = &queue.shares["alice"];
        assert!(queue.names.ends.len() <= MAX_NAMES + 1, "{}", queue.names.ends.len());
    }

    proptest! {
        /// While two shares wait, under one name or many, the work done for them differs by at most
        /// one entry of each.
        #[test]
        fn fair_queue_gives_equal_shares(
            costs_a in prop::collection::vec(1u64..50, 20..60),
            costs_b in prop::collection::vec(1u64..50, 20..60),
            n_names in 1usize..100,
        ) {
            let mut queue = FairQueue::new();
            for (number, &cost) in costs_a.iter().enumerate() {
                queue.push(&client("a", &(number % n_names).to_string()), cost, (true, cost));
            }
            for &cost in &costs_b {
                queue.push(&client("b", ""), cost, (false, cost));
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
