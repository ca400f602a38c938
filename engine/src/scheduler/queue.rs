//! Who waits, and who is next: by priority, then by arrival, with a share for the longest waiting.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Sequence;

/// One in so many admissions goes to the request that waits longest, whatever its priority, so that
/// a stream of urgent requests cannot hold it up for ever.
const TURN_OF_THE_OLDEST: u64 = 8;

/// A sequence's place among all: higher priority first, then arrival, then the sample's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    priority: Reverse<i32>,
    arrival: u64,
    sample: u32,
}

impl Place {
    pub(super) fn new(priority: i32, arrival: u64, sample: u32) -> Self {
        Self { priority: Reverse(priority), arrival, sample }
    }

    pub(super) fn of_sample(self, sample: u32) -> Self {
        Self { sample, ..self }
    }
}

/// The waiting sequences.
#[derive(Debug, Default)]
pub(super) struct Queue {
    by_place: BTreeMap<Place, Sequence>,
    by_arrival: BTreeMap<(u64, u32), Place>,
    n_popped: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.by_place.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    pub(super) fn push(&mut self, sequence: Sequence) {
        let place = sequence.place;
        self.by_arrival.insert((place.arrival, place.sample), place);
        self.by_place.insert(place, sequence);
    }

    pub(super) fn pop(&mut self) -> Option<Sequence> {
        self.n_popped += 1;
        let place = match self.n_popped.is_multiple_of(TURN_OF_THE_OLDEST) {
            true => *self.by_arrival.first_key_value()?.1,
            false => *self.by_place.first_key_value()?.0,
        };
        self.by_arrival.remove(&(place.arrival, place.sample));
        self.by_place.remove(&place)
    }

    /// Takes out all that `is_meant` names.
    pub(super) fn remove(&mut self, is_meant: impl Fn(&Sequence) -> bool) -> Vec<Sequence> {
        let meant = self.by_place.iter().filter(|(_, sequence)| is_meant(sequence));
        let places: Vec<Place> = meant.map(|(&place, _)| place).collect();
        let taken = places.into_iter().filter_map(|place| {
            self.by_arrival.remove(&(place.arrival, place.sample));
            self.by_place.remove(&place)
        });
        taken.collect()
    }
}
