//! An amount that many hold at once, in all and per share, and whether a share may hold more.
//!
//! A share that holds little may exceed the limit by a quarter, so that one tenant that holds
//! everything does not lock the others out. Does not know what is counted.

use std::collections::BTreeMap;

/// The amount that is held: groups, or bytes.
#[derive(Debug, Default)]
pub(crate) struct ShareCounts {
    n: usize,
    /// By tenant, or by address where there are no tokens.
    of_shares: BTreeMap<String, usize>,
}

impl ShareCounts {
    /// The amount of all shares.
    pub(crate) fn n(&self) -> usize {
        self.n
    }

    /// Whether a share may hold `more` while `most` may be held. A share with at most a quarter of
    /// that, `more` included, may exceed `most`, by up to a quarter for all of those together.
    pub(crate) fn has_room(&self, share: &str, more: usize, most: usize) -> bool {
        let quarter = most.div_ceil(4);
        let own = self.of_shares.get(share).map_or(0, |own| *own) + more;
        self.n + more <= most + if own <= quarter { quarter } else { 0 }
    }

    /// The share holds `n` more.
    pub(crate) fn add(&mut self, share: &str, n: usize) {
        self.n += n;
        match self.of_shares.get_mut(share) {
            Some(own) => *own += n,
            None => {
                self.of_shares.insert(share.to_owned(), n);
            }
        }
    }

    /// The share holds `n` less.
    pub(crate) fn remove(&mut self, share: &str, n: usize) {
        self.n -= n;
        if let Some(own) = self.of_shares.get_mut(share) {
            *own -= n;
            if *own == 0 {
                self.of_shares.remove(share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_with_little_has_room_beside_one_that_holds_everything() {
        let mut held = ShareCounts::default();
        held.add("a", 8);
        assert!(!held.has_room("a", 1, 8));
        for share in ["b", "b"] {
            assert!(held.has_room(share, 1, 8));
            held.add(share, 1);
        }
        assert!(!held.has_room("b", 1, 8), "a quarter for itself");
        assert!(!held.has_room("c", 1, 8), "a quarter more in all");
        held.remove("a", 1);
        assert!(held.has_room("c", 1, 8) && !held.has_room("c", 2, 8));
        assert!(!held.has_room("a", 1, 8) && !held.has_room("b", 1, 8));
        held.remove("a", 7);
        assert!(held.has_room("a", 6, 8) && !held.has_room("a", 7, 8));
        assert_eq!((held.n(), held.of_shares.len()), (2, 1));
    }
}
