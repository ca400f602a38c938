//! What each of several ranks computes of the samples of an update, and how they tell each other.
//!
//! All ranks have the same samples in the same order, so that they agree on the shares without a
//! word. It knows no loss.

use std::collections::BTreeMap;

use tch::Tensor;

use super::Learner;
use crate::error::Error;
use crate::sample::TrainingSample;

/// The rank of each sample, for `n_ranks` ranks: a group stays together, because its prompt is
/// computed once. Groups are dealt out one by one, the one with the most tokens first, each to the
/// rank with the fewest tokens.
fn ranks_of(samples: &[&TrainingSample], n_ranks: usize) -> Vec<usize> {
    let mut tokens_of_groups: BTreeMap<usize, usize> = BTreeMap::new();
    for sample in samples {
        *tokens_of_groups.entry(sample.group).or_default() += sample.n_tokens();
    }
    let mut groups: Vec<(usize, usize)> =
        tokens_of_groups.into_iter().map(|(group, n_tokens)| (n_tokens, group)).collect();
    groups.sort_by_key(|&(n_tokens, group)| (std::cmp::Reverse(n_tokens), group));
    let mut loads = vec![0; n_ranks];
    let mut rank_of_group = BTreeMap::new();
    for (n_tokens, group) in groups {
        let least = (0..n_ranks).min_by_key(|&rank| (loads[rank], rank)).unwrap_or(0);
        loads[least] += n_tokens;
        rank_of_group.insert(group, least);
    }
    samples.iter().map(|sample| rank_of_group[&sample.group]).collect()
}

impl Learner {
    /// The indices of the samples that this rank computes.
    pub(super) fn share_of(&self, samples: &[&TrainingSample]) -> Vec<usize> {
        let world = self.ranks.world();
        let ranks = match world.size {
            1 => return (0..samples.len()).collect(),
            size => ranks_of(samples, size),
        };
        (0..samples.len()).filter(|&row| ranks[row] == world.rank).collect()
    }

    /// The samples that this rank computes.
    pub(super) fn share<'a>(&self, samples: &[&'a TrainingSample]) -> Vec<&'a TrainingSample> {
        self.share_of(samples).into_iter().map(|row| samples[row]).collect()
    }

    /// The numbers of all samples' trained tokens, from those of the samples that this rank has
    /// computed, by index.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(super) fn of_all_ranks(
        &self,
        samples: &[&TrainingSample],
        own: BTreeMap<usize, Vec<f32>>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        if self.ranks.world().size == 1 {
            return Ok(own.into_values().collect());
        }
        let n_trained: Vec<usize> = samples.iter().map(|sample| sample.n_trained()).collect();
        let of_row = |(row, &n): (usize, &usize)| match own.get(&row) {
            Some(numbers) => numbers.clone(),
            // the others' numbers are added to it
            None => vec![0.0; n],
        };
        let flat: Vec<f32> = n_trained.iter().enumerate().flat_map(of_row).collect();
        let mut flat = Tensor::from_slice(&flat).to_device(self.model().device());
        if flat.numel() > 0 {
            self.ranks.all_reduce_sum(&mut flat)?;
        }
        let mut flat = Vec::<f32>::try_from(flat)?.into_iter();
        Ok(n_trained.into_iter().map(|n| flat.by_ref().take(n).collect()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_dealt_out_whole_and_evenly_by_tokens() {
        let lengths = [(0, 5), (0, 4), (1, 1), (1, 1), (2, 7), (3, 3), (7, 2)];
        let samples: Vec<TrainingSample> = lengths
            .iter()
            .map(|&(group, n)| TrainingSample::of_completion(&[1_i64], &vec![2; n], group))
            .collect();
        let samples: Vec<&TrainingSample> = samples.iter().collect();
        // tokens with prompts: group 0 has 11, 1 has 4, 2 has 8, 3 has 4, 7 has 3
        assert_eq!(ranks_of(&samples, 2), [0, 0, 1, 1, 1, 0, 1]);
        assert_eq!(ranks_of(&samples, 1), [0; 7]);
        let alone = ranks_of(&samples, 9);
        assert_eq!(alone, [0, 0, 2, 2, 1, 3, 4]);
    }
}
