//! Queue of waiting sequences: by priority, then by arrival, with a share for the longest waiting.

use std::collections::BTreeMap;

use super::types::{QueuePosition, Sequence};

/// Every n-th admission takes the request that waits longest, whatever its priority, so that a
/// stream of urgent requests cannot starve it.
const STARVATION_INTERVAL: u64 = 8;

/// The waiting sequences.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_position: BTreeMap<QueuePosition, Sequence>,
    by_arrival: BTreeMap<(u64, u32), QueuePosition>,
    n_popped: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.by_position.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_position.is_empty()
    }

    pub(super) fn push(&mut self, sequence: Sequence) {
        let position = sequence.position;
        self.by_arrival.insert((position.arrival, position.sample), position);
        self.by_position.insert(position, sequence);
    }

    pub(super) fn pop(&mut self) -> Option<Sequence> {
        self.n_popped += 1;
        let position = match self.n_popped.is_multiple_of(STARVATION_INTERVAL) {
            true => *self.by_arrival.first_key_value()?.1,
            false => *self.by_position.first_key_value()?.0,
        };
        self.by_arrival.remove(&(position.arrival, position.sample));
        self.by_position.remove(&position)
    }

    /// Removes all sequences for which `is_meant` is true.
    pub(super) fn remove(&mut self, is_meant: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let meant = self.by_position.iter().filter(|(_, sequence)| is_meant(sequence));
        let positions: Vec<QueuePosition> = meant.map(|(&position, _)| position).collect();
        let taken = positions.into_iter().filter_map(|position| {
            self.by_arrival.remove(&(position.arrival, position.sample));
            self.by_position.remove(&position)
        });
        taken.collect()
    }
}
