//! Packing of samples into micro-batches.
//!
//! Pure numbers. There is no padding; tokens that samples of a micro-batch share count once.

use std::collections::BTreeSet;

use crate::sample::TrainingSample;
use crate::sharing::{SharedGroup, groups};

/// What a micro-batch may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackLimits {
    /// Number of samples.
    pub(crate) max_rows: usize,
    /// Number of tokens, shared ones counted once.
    pub(crate) max_tokens: usize,
    /// Whether groups are never split.
    pub(crate) keeps_groups: bool,
}

/// Splits samples into micro-batches, as lists of their indices. Groups follow each other, those
/// with long samples first; a unit (a group that is kept together, or else a sample) that is larger
/// than a micro-batch may be goes alone.
pub(crate) fn micro_batches(samples: &[&TrainingSample], limits: PackLimits) -> Vec<Vec<usize>> {
    let mut groups = groups(samples);
    let longest =
        |group: &SharedGroup| group.samples.iter().map(|&row| samples[row].n_tokens()).max();
    groups.sort_by_key(|group| (std::cmp::Reverse(longest(group)), group.samples[0]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut n_tokens = 0;
    for group in groups {
        let mut members: Vec<usize> = (0..group.samples.len()).collect();
        members.sort_by_key(|&member| (group.first_equal[member], member));
        let units: Vec<Vec<usize>> = match limits.keeps_groups {
            true => vec![members],
            false => members.into_iter().map(|member| vec![member]).collect(),
        };
        // the different samples of the group that the current micro-batch holds
        let mut held = BTreeSet::new();
        for unit in units {
            let cost = group.cost(samples, &unit, &held);
            let n_rows = batches.last().map_or(0, Vec::len);
            let fits = n_rows > 0
                && n_rows + unit.len() <= limits.max_rows
                && n_tokens + cost <= limits.max_tokens;
            if !fits {
                batches.push(Vec::new());
                held.clear();
                n_tokens = 0;
            }
            n_tokens += group.cost(samples, &unit, &held);
            held.extend(unit.iter().map(|&member| group.first_equal[member]));
            let rows = unit.iter().map(|&member| group.samples[member]);
            batches.last_mut().expect("one was pushed. This is a bug.").extend(rows);
        }
    }
    batches
}

impl SharedGroup {
    /// Number of tokens that members add to a micro-batch which holds the different samples `held`
    /// of the group.
    fn cost(
        &self,
        samples: &[&TrainingSample],
        members: &[usize],
        held: &BTreeSet<usize>,
    ) -> usize {
        let added: BTreeSet<usize> =
            members.iter().map(|&member| self.first_equal[member]).collect();
        let branch = |&first: &usize| samples[self.samples[first]].n_tokens() - self.n_prefix;
        let prefix = if held.is_empty() { self.n_prefix } else { 0 };
        prefix + added.difference(held).map(branch).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PackLimits, micro_batches};
    use crate::sample::TrainingSample;
    use crate::sharing::SharedSamples;

    proptest! {
        #[test]
        fn micro_batches_hold_every_sample_once_within_the_limits(
            rows in prop::collection::vec((0usize..4, 0usize..8, 1usize..40, 0u32..3), 0..60),
            keeps_groups in any::<bool>(),
            max_rows in 1usize..10,
            max_tokens in 1usize..200,
        ) {
            let sample = |&(n_prompt, group, n_completion, token): &_| {
                TrainingSample::of_completion(&vec![9; n_prompt], &vec![token; n_completion], group)
            };
            let samples: Vec<TrainingSample> = rows.iter().map(sample).collect();
            let samples: Vec<&TrainingSample> = samples.iter().collect();
            let limits = PackLimits { max_rows, max_tokens, keeps_groups };
            let batches = micro_batches(&samples, limits);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..samples.len()).collect::<Vec<_>>());
            for batch in &batches {
                let of_batch: Vec<_> = batch.iter().map(|&row| samples[row]).collect();
                let shared = SharedSamples::new(&of_batch);
                let n_tokens: usize = shared.trees.iter().map(|tree| tree.n_tokens()).sum();
                let group = |row: usize| samples[row].group;
                let is_unit = match keeps_groups {
                    true => batch.iter().all(|&row| group(row) == group(batch[0])),
                    false => batch.len() == 1,
                };
                prop_assert!(is_unit || (batch.len() <= max_rows && n_tokens <= max_tokens));
                if keeps_groups {
                    let mut others = batches.iter().filter(|other| *other != batch).flatten();
                    let is_own = |row: usize| batch.iter().any(|&own| group(own) == group(row));
                    prop_assert!(!others.any(|&row| is_own(row)));
                }
            }
        }
    }
}
