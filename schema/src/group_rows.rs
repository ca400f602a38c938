//! The rows of each group in tables that are ordered by group and member.
//!
//! The stage that builds a table knows the boundaries of its groups. They are kept beside the
//! table, so that later stages need not search for them by id.

use std::ops::Range;

/// The rows of each group, group after group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRows {
    /// Per group, the index after its last row.
    ends: Vec<usize>,
}

impl GroupRows {
    /// Adds a group of `n_rows` rows after the last one.
    pub fn push(&mut self, n_rows: usize) {
        self.ends.push(self.n_rows() + n_rows);
    }

    /// Number of groups.
    pub fn n_groups(&self) -> usize {
        self.ends.len()
    }

    /// Number of rows of all groups together.
    pub fn n_rows(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The rows of one group.
    pub fn rows(&self, group_idx: usize) -> Range<usize> {
        let start = if group_idx == 0 { 0 } else { self.ends[group_idx - 1] };
        start..self.ends[group_idx]
    }

    /// The rows of every group, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.n_groups()).map(|group_idx| self.rows(group_idx))
    }
}

impl FromIterator<usize> for GroupRows {
    /// From the sizes of the groups.
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        let mut groups = Self::default();
        sizes.into_iter().for_each(|n_rows| groups.push(n_rows));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::GroupRows;

    #[test]
    fn group_rows_follow_each_other_without_gaps() {
        let groups: GroupRows = [2, 0, 3].into_iter().collect();
        assert_eq!(groups.iter().collect::<Vec<_>>(), [0..2, 2..2, 2..5]);
        assert_eq!((groups.n_groups(), groups.n_rows()), (3, 5));
        assert_eq!(GroupRows::default().n_rows(), 0);
    }
}
