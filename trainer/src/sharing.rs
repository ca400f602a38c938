//! Which tokens of samples are computed once: what the samples of a group begin with, and samples
//! that are equal.
//!
//! Pure numbers; the model is not known here.

use std::collections::BTreeMap;

use joust_engine::model::TokenTree;

use crate::sample::TrainingSample;

/// Samples as trees, a tree per group, and where their tokens lie.
#[derive(Debug, PartialEq)]
pub(crate) struct SharedSamples {
    pub(crate) trees: Vec<TokenTree>,
    /// Of each sample, in the order of the samples.
    pub(crate) places: Vec<SamplePlace>,
}

/// Where a sample's tokens lie among those of all trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SamplePlace {
    prefix_start: usize,
    n_prefix: usize,
    branch_start: usize,
}

impl SamplePlace {
    /// The flat position of the sample's token `t`.
    pub(crate) fn token(&self, t: usize) -> usize {
        match t.checked_sub(self.n_prefix) {
            None => self.prefix_start + t,
            Some(in_branch) => self.branch_start + in_branch,
        }
    }
}

/// A group of samples: what they begin with, and the different ways in which they go on.
pub(crate) struct SharedGroup {
    /// Indices of the samples.
    pub(crate) samples: Vec<usize>,
    /// Number of tokens that all begin with; at least one token less than the shortest has.
    pub(crate) n_prefix: usize,
    /// Of each sample, the index in `samples` of the first one with the same tokens.
    pub(crate) first_equal: Vec<usize>,
}

/// The groups of samples, in the order of their first samples.
pub(crate) fn groups(samples: &[&TrainingSample]) -> Vec<SharedGroup> {
    let mut by_group: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, sample) in samples.iter().enumerate() {
        by_group.entry(sample.group).or_default().push(row);
    }
    let mut groups: Vec<Vec<usize>> = by_group.into_values().collect();
    groups.sort_by_key(|rows| rows[0]);
    let shared = |rows: Vec<usize>| {
        let tokens: Vec<&[i64]> = rows.iter().map(|&row| &samples[row].tokens[..]).collect();
        let first_equal = |it: &&[i64]| {
            tokens
                .iter()
                .position(|other| other == it)
                .expect("it is equal to itself. This is a bug.")
        };
        SharedGroup {
            n_prefix: common_prefix(&tokens),
            first_equal: tokens.iter().map(first_equal).collect(),
            samples: rows,
        }
    };
    groups.into_iter().map(shared).collect()
}

/// Number of tokens that all sequences begin with; at least one token less than the shortest has,
/// and 0 where all are equal: nothing follows then.
fn common_prefix(sequences: &[&[i64]]) -> usize {
    let Some((first, others)) = sequences.split_first() else { return 0 };
    if others.iter().all(|other| other == first) {
        return 0;
    }
    let shortest = sequences.iter().map(|sequence| sequence.len()).min().unwrap_or(0);
    let common = |other: &&[i64]| first.iter().zip(*other).take_while(|(a, b)| a == b).count();
    let common = others.iter().map(common).min().unwrap_or(0);
    common.min(shortest.saturating_sub(1))
}

impl SharedSamples {
    pub(crate) fn new(samples: &[&TrainingSample]) -> Self {
        let mut trees = Vec::new();
        let mut places = vec![None; samples.len()];
        let mut start = 0;
        for group in groups(samples) {
            let SharedGroup { samples: rows, n_prefix, first_equal } = group;
            let mut tree = TokenTree {
                prefix: samples[rows[0]].tokens[..n_prefix].to_vec(),
                branches: Vec::new(),
            };
            for (member, &row) in rows.iter().enumerate() {
                let first = first_equal[member];
                if first < member {
                    places[row] = places[rows[first]];
                    continue;
                }
                let branch_start = start + tree.n_tokens();
                places[row] = Some(SamplePlace { prefix_start: start, n_prefix, branch_start });
                tree.branches.push(samples[row].tokens[n_prefix..].to_vec());
            }
            start += tree.n_tokens();
            trees.push(tree);
        }
        let places = places.into_iter().flatten().collect();
        Self { trees, places }
    }
}

#[cfg(test)]
mod tests {
    use super::{SharedSamples, TrainingSample};

    #[test]
    fn samples_of_a_group_share_what_they_begin_with_and_equal_ones_everything() {
        let sample = |prompt: &[u32], completion: &[u32], group| {
            TrainingSample::of_completion(prompt, completion, group)
        };
        let samples = [
            sample(&[1, 2], &[3, 4], 0),
            sample(&[7], &[8], 1),
            sample(&[1, 2], &[3], 0),
            sample(&[1, 2], &[3, 4], 0),
            sample(&[7], &[8], 1),
        ];
        let shared = SharedSamples::new(&samples.each_ref());
        let prefixes: Vec<&[i64]> = shared.trees.iter().map(|tree| &tree.prefix[..]).collect();
        // the shortest of the first group keeps a token of its own
        assert_eq!(prefixes, [&[1i64, 2][..], &[]]);
        assert_eq!(shared.trees[0].branches, [vec![3, 4], vec![3]]);
        assert_eq!(shared.trees[1].branches, [vec![7, 8]]);
        let tokens = |row: usize| {
            let n_tokens = samples[row].n_tokens();
            (0..n_tokens).map(|t| shared.places[row].token(t)).collect::<Vec<_>>()
        };
        assert_eq!(tokens(0), [0, 1, 2, 3]);
        assert_eq!(tokens(2), [0, 1, 4]);
        assert_eq!(tokens(3), tokens(0));
        assert_eq!(tokens(1), [5, 6]);
        assert_eq!(tokens(4), tokens(1));
    }
}
