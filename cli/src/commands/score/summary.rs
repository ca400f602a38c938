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
    bias: Option<MeasuredPreference>,
    /// The preference for longer answers.
    #[serde(default)]
    length_slope: Option<MeasuredPreference>,
}

/// What the judge prefers beside the better answer, in logits, in one set or several.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct MeasuredPreference {
    n_sets: u64,
    lowest: f64,
    highest: f64,
    /// Largest standard error.
    stderr: f64,
}

impl MeasuredPreference {
    /// In groups that were rated together: all have the same.
    fn of(mut measured: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let (logits, stderr) = measured.next()?;
        Some(Self { n_sets: 1, lowest: logits, highest: logits, stderr })
    }

    /// In the sets of both.
    fn joined(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(Self {
                n_sets: one.n_sets + other.n_sets,
                lowest: one.lowest.min(other.lowest),
                highest: one.highest.max(other.highest),
                stderr: one.stderr.max(other.stderr),
            }),
            (one, other) => one.or(other),
        }
    }
}

impl std::fmt::Display for MeasuredPreference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { n_sets, lowest, highest, stderr } = self;
        match n_sets {
            1 => write!(f, "{lowest:+.3} ± {stderr:.3} log-odds"),
            _ => write!(
                f,
                "{lowest:+.3} to {highest:+.3} log-odds (each ± {stderr:.3} at most) in {n_sets} \
                 sets"
            ),
        }
    }
}

impl ScoreSummary {
    /// Of groups that were rated together.
    pub(super) fn of(results: &[GroupResult]) -> Self {
        let rewards = results.iter().flat_map(|result| &result.rewards);
        // of those that the rule scored
        let compared = results.iter().flat_map(|result| &result.correctness);
        let bias = |result: &GroupResult| result.position_bias.zip(result.position_bias_stderr);
        let slope = |result: &GroupResult| result.length_slope.zip(result.length_slope_stderr);
        Self {
            n_groups: results.len() as u64,
            n_missing: rewards.filter(|row| row.reward.is_none()).count() as u64,
            n_not_understood: compared.filter(|found| **found == Correctness::NotUnderstood).count()
                as u64,
            tally: VoteTally::of(results.iter().flat_map(|result| &result.votes)),
            bias: MeasuredPreference::of(results.iter().filter_map(bias)),
            length_slope: MeasuredPreference::of(results.iter().filter_map(slope)),
        }
    }

    /// Adds the counts of a later set.
    pub(super) fn add(&mut self, later: Self) {
        self.n_groups += later.n_groups;
        self.n_missing += later.n_missing;
        self.n_not_understood += later.n_not_understood;
        self.tally.add(later.tally);
        self.bias = MeasuredPreference::joined(self.bias, later.bias);
        self.length_slope = MeasuredPreference::joined(self.length_slope, later.length_slope);
    }

    /// Tells people of it. `length_control`: whether ratings are those at equal length.
    pub(super) fn tell(&self, folder: &Path, length_control: bool) {
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
        if let Some(bias) = self.bias {
            output::line(format!(
                "position bias of the judge: {bias} for the answer shown first, removed from the \
                 ratings"
            ));
        }
        if let Some(slope) = self.length_slope {
            let what_became = match length_control {
                true => "removed from the ratings",
                false => "in the ratings (reward.rating.length_control removes it)",
            };
            let text = format!("length slope of the judge: {slope} for longer answers, ");
            output::line(text + what_became);
        }
        for warning in vote_warnings(&self.tally) {
            output::line(warning);
        }
    }
}
