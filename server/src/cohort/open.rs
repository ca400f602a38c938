//! Number of open groups, in all and per share, and whether a share may open another one.
//!
//! A share that holds few groups may exceed the limit by a quarter, so that one tenant whose groups
//! wait for members does not lock the others out. Knows no group.

use std::collections::BTreeMap;

/// Number of groups that are collected or judged.
#[derive(Debug, Default)]
pub(super) struct OpenCounts {
    n: usize,
    /// By tenant, or by address where there are no tokens.
    of_shares: BTreeMap<String, usize>,
}

impl OpenCounts {
    /// Number of groups of all shares.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    /// Whether a share may open a group while `most` may be open. A share with less than a quarter
    /// of them may exceed `most`, by up to a quarter for all of those together.
    pub(super) fn has_room(&self, share: &str, most: usize) -> bool {
        let quarter = most.div_ceil(4);
        let own = self.of_shares.get(share).copied().unwrap_or(0);
        self.n < most + if own < quarter { quarter } else { 0 }
    }

    /// A group of the share is opened.
    pub(super) fn add(&mut self, share: &str) {
        self.n += 1;
        *self.of_shares.entry(share.to_owned()).or_default() += 1;
    }

    /// A group of the share is over, or was forgotten.
    pub(super) fn remove(&mut self, share: &str) {
        self.n -= 1;
        if let Some(own) = self.of_shares.get_mut(share) {
            *own -= 1;
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
    fn share_with_few_groups_has_room_beside_one_that_holds_them_all() {
        let mut open = OpenCounts::default();
        (0..8).for_each(|_| open.add("a"));
        assert!(!open.has_room("a", 8));
        for share in ["b", "b"] {
            assert!(open.has_room(share, 8));
            open.add(share);
        }
        assert!(!open.has_room("b", 8), "a quarter for itself");
        assert!(!open.has_room("c", 8), "a quarter more in all");
        open.remove("a");
        assert!(open.has_room("c", 8) && !open.has_room("a", 8) && !open.has_room("b", 8));
        (0..7).for_each(|_| open.remove("a"));
        assert!(open.has_room("a", 8) && open.has_room("b", 8));
        assert_eq!((open.n(), open.of_shares.len()), (2, 1));
    }
}
