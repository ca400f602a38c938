//! What `joust score` tells of scored groups.
//!
//! It does not know how they were scored.

use std::path::Path;

use joust_reward::rule::Correctness;
use joust_reward::{GroupResult, VoteTally};
use joust_run::counted;
use serde::{Deserialize, Serialize};

use crate::commands::votes::vote_warnings;
use crate::output;

/// Counts of scored groups.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ScoreSummary {
    n_groups: u64,
    n_missing: u64,
    n_not_understood: u64,
    pub(super) tally: VoteTally,
    bias: Option<MeasuredBias>,
}

/// The position bias of the judge, in one set or several.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct MeasuredBias {
    n_sets: u64,
    lowest: f64,
    highest: f64,
    /// Largest standard error.
    stderr: f64,
}

impl ScoreSummary {
    /// Of groups that were rated together.
    pub(super) fn of(results: &[GroupResult]) -> Self {
        let rewards = results.iter().flat_map(|result| &result.rewards);
        // of those that the rule scored
        let compared = results.iter().flat_map(|result| &result.correctness);
        let mut measured = results.iter();
        let measured =
            measured.find_map(|result| result.position_bias.zip(result.position_bias_stderr));
        Self {
            n_groups: results.len() as u64,
            n_missing: rewards.filter(|row| row.reward.is_none()).count() as u64,
            n_not_understood: compared.filter(|found| **found == Correctness::NotUnderstood).count()
                as u64,
            tally: VoteTally::of(results.iter().flat_map(|result| &result.votes)),
            bias: measured.map(|(bias, stderr)| MeasuredBias {
                n_sets: 1,
                lowest: bias,
                highest: bias,
                stderr,
            }),
        }
    }

    /// Adds the counts of a later set.
    pub(super) fn add(&mut self, later: Self) {
        self.n_groups += later.n_groups;
        self.n_missing += later.n_missing;
        self.n_not_understood += later.n_not_understood;
        self.tally.add(later.tally);
        self.bias = match (self.bias, later.bias) {
            (Some(one), Some(other)) => Some(MeasuredBias {
                n_sets: one.n_sets + other.n_sets,
                lowest: one.lowest.min(other.lowest),
                highest: one.highest.max(other.highest),
                stderr: one.stderr.max(other.stderr),
            }),
            (one, other) => one.or(other),
        };
    }

    /// Tells people of it.
    pub(super) fn tell(&self, folder: &Path) {
        if self.n_not_understood > 0 {
            output::note(format!(
                "{} completions count as wrong because their answer, or the known one, was not \
                 understood",
                self.n_not_understood
            ));
        }
        output::line(format!(
            "{}, {}, {} without a reward: {}",
            counted(self.n_groups, "group"),
            counted(self.tally.n_votes as u64, "vote"),
            counted(self.n_missing, "completion"),
            folder.display()
        ));
        match self.bias {
            Some(MeasuredBias { n_sets: 1, lowest: bias, stderr, .. }) => output::line(format!(
                "position bias of the judge: {bias:+.3} ± {stderr:.3} log-odds for the answer \
                 shown first, removed from the ratings"
            )),
            Some(MeasuredBias { n_sets, lowest, highest, stderr }) => output::line(format!(
                "position bias of the judge: {lowest:+.3} to {highest:+.3} log-odds (each ± \
                 {stderr:.3} at most) in {n_sets} sets for the answer shown first, removed from \
                 the ratings"
            )),
            None => {}
        }
        for warning in vote_warnings(&self.tally) {
            output::line(warning);
        }
    }
}
