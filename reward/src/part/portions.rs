//! The places of a step in portions, for a judge whose replies depend on what it works on at the
//! same time: a portion goes to it once it is known whole and the one before is finished, so that
//! the judge sees the same groups together however fast they are sampled.
//!
//! It does not know groups.

use std::collections::BTreeSet;

/// Consecutive places, `size` by `size`.
pub(super) struct Portions {
    size: usize,
    n_places: usize,
    /// First place of the portion that is next.
    next: usize,
    /// Places of which it is known whether the judge gets them, from `next` on.
    known: BTreeSet<usize>,
    wanted: BTreeSet<usize>,
}

impl Portions {
    /// Portions of `size` places; 0 makes one of all.
    pub(super) fn new(n_places: usize, size: usize) -> Self {
        let size = if size == 0 { n_places.max(1) } else { size };
        Self { size, n_places, next: 0, known: BTreeSet::new(), wanted: BTreeSet::new() }
    }

    /// Notes whether the judge gets the group of a place.
    pub(super) fn decide(&mut self, place: usize, is_wanted: bool) {
        self.known.insert(place);
        if is_wanted {
            self.wanted.insert(place);
        }
    }

    /// The wanted places of the next portion, if all its places are known; portions without wanted
    /// places are passed over.
    pub(super) fn take_next(&mut self) -> Option<BTreeSet<usize>> {
        while self.next < self.n_places {
            let end = (self.next + self.size).min(self.n_places);
            if self.known.range(self.next..end).count() < end - self.next {
                return None;
            }
            self.next = end;
            let later = self.wanted.split_off(&end);
            let portion = std::mem::replace(&mut self.wanted, later);
            if !portion.is_empty() {
                return Some(portion);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(portions: &mut Portions) -> Vec<Vec<usize>> {
        std::iter::from_fn(|| portions.take_next()).map(|it| it.into_iter().collect()).collect()
    }

    #[test]
    fn portion_goes_once_all_its_places_are_known() {
        let mut portions = Portions::new(5, 2);
        portions.decide(2, true);
        portions.decide(1, true);
        assert!(taken(&mut portions).is_empty(), "place 0 is not known");
        portions.decide(0, false);
        assert_eq!(taken(&mut portions), [[1]]);
        portions.decide(4, true);
        assert!(taken(&mut portions).is_empty(), "place 3 is not known");
        portions.decide(3, true);
        assert_eq!(taken(&mut portions), [vec![2, 3], vec![4]]);
        assert!(taken(&mut portions).is_empty());
    }

    #[test]
    fn portion_without_wanted_places_is_passed_over() {
        let mut portions = Portions::new(4, 2);
        (0..4).for_each(|place| portions.decide(place, place == 3));
        assert_eq!(taken(&mut portions), [[3]]);
    }

    #[test]
    fn size_of_zero_makes_one_portion_of_all_places() {
        let mut portions = Portions::new(3, 0);
        portions.decide(2, true);
        portions.decide(0, true);
        assert!(taken(&mut portions).is_empty());
        portions.decide(1, true);
        assert_eq!(taken(&mut portions), [[0, 1, 2]]);
        assert!(taken(&mut Portions::new(0, 0)).is_empty());
    }
}
