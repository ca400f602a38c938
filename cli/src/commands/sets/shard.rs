//! The part of the input that one of several processes takes.
//!
//! It knows row numbers alone.

use std::fmt;
use std::str::FromStr;

/// Part `i` of `n`, counted from 1: the rows `i`, `i + n`, `i + 2n`, … of all files together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    idx: u64,
    n: u64,
}

impl Shard {
    /// The whole input.
    pub(crate) const ALL: Self = Self { idx: 0, n: 1 };

    /// Whether the row with this index, counted from 0 over all files, is of this part.
    pub(crate) fn has(self, row_idx: u64) -> bool {
        row_idx % self.n == self.idx
    }

    /// Number of rows of this part, of `n_rows` in all.
    pub(crate) fn n_of(self, n_rows: u64) -> u64 {
        (n_rows + self.n - 1).saturating_sub(self.idx) / self.n
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.idx + 1, self.n)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((i, n)) if (1..=n).contains(&i) => Ok(Self { idx: i - 1, n }),
            _ => Err("wanted i/n with i from 1 to n, as 3/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_all_rows() {
        for n in 1..6_u64 {
            let shards: Vec<Shard> = (1..=n).map(|i| format!("{i}/{n}").parse().unwrap()).collect();
            for n_rows in 0..13 {
                let owners = |row| shards.iter().filter(|shard| shard.has(row)).count();
                assert!((0..n_rows).all(|row| owners(row) == 1));
                for shard in &shards {
                    let wanted = (0..n_rows).filter(|row| shard.has(*row)).count() as u64;
                    assert_eq!(shard.n_of(n_rows), wanted, "{shard} of {n_rows}");
                }
            }
        }
        assert_eq!(Shard::ALL, "1/1".parse().unwrap());
        for wrong in ["0/4", "5/4", "1", "1/0", "a/2", "-1/2", "1/2/3"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
