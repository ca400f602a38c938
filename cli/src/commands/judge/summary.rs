//! What `joust judge` tells of judged pairs: counts, and the judge's accuracy where winners are
//! known.
//!
//! It does not know how pairs were judged.

use joust_reward::VoteTally;
use joust_run::counted;
use joust_schema::tables::{Verdict, Vote};
use serde::{Deserialize, Serialize};

use super::pairs::{NumberedPair, Side};
use crate::commands::votes::vote_warnings;
use crate::output;

/// Counts of judged pairs.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct JudgingCounts {
    n_pairs: usize,
    /// Votes for the answer shown first.
    n_first: usize,
    /// Per order, known winner shown second and first: votes, and votes for the known winner.
    by_order: [(usize, usize); 2],
    /// Pairs with several votes, and those of them whose votes all agree on one winner.
    in_both: (usize, usize),
    pub(super) tally: VoteTally,
    /// Seconds of judging, and the tokens of these votes; not kept, so that sets repeat.
    #[serde(skip)]
    seconds: f64,
    #[serde(skip)]
    n_tokens: u64,
}

/// Summary of all votes. Accuracies are over votes whose pair has a known winner; an invalid vote
/// counts as wrong.
#[derive(Default, Serialize)]
pub(super) struct JudgingSummary {
    pairs: usize,
    votes: usize,
    invalid_votes: usize,
    /// Votes without a reply of the judge; they are among the invalid ones.
    failed_votes: usize,
    /// Votes that the limit of tokens or the end of the context cut off.
    cut_off_votes: usize,
    /// Why the first vote without a reply has none.
    first_failure: Option<String>,
    /// Share of the valid votes for the answer shown first.
    first_share: Option<f64>,
    /// Share of votes for the known winner.
    accuracy: Option<f64>,
    /// Accuracy over votes that showed the known winner first.
    accuracy_better_first: Option<f64>,
    /// Accuracy over votes that showed the known winner second.
    accuracy_better_second: Option<f64>,
    /// Share of pairs with votes in both orders whose votes all agree on one winner.
    consistency: Option<f64>,
    seconds: f64,
    judge_tokens_per_second: f64,
}

impl JudgingCounts {
    /// Of pairs with `n_votes` votes each, in their order.
    pub(super) fn of(pairs: &[NumberedPair], votes: &[Vote], n_votes: u32, seconds: f64) -> Self {
        let mut by_order = [(0, 0); 2];
        for (idx, vote) in votes.iter().enumerate() {
            let Some(winner) = pairs[idx / n_votes as usize].pair.winner else {
                continue;
            };
            let better_first = vote.a_shown_first == (winner == Side::A);
            let wanted = if better_first { Verdict::First } else { Verdict::Second };
            let slot = &mut by_order[usize::from(better_first)];
            slot.0 += 1;
            slot.1 += usize::from(vote.verdict == wanted);
        }
        let in_both: Vec<bool> = votes
            .chunks(n_votes as usize)
            .filter(|votes| votes.len() > 1)
            .map(|votes| {
                let wins: Vec<_> =
                    votes.iter().map(|vote| vote.verdict.for_a(vote.a_shown_first)).collect();
                wins[0].is_some() && wins.iter().all(|win| *win == wins[0])
            })
            .collect();
        Self {
            n_pairs: pairs.len(),
            n_first: votes.iter().filter(|vote| vote.verdict == Verdict::First).count(),
            by_order,
            in_both: (in_both.len(), in_both.iter().filter(|same| **same).count()),
            tally: VoteTally::of(votes),
            seconds,
            n_tokens: votes.iter().map(|vote| vote.completion_tokens.max(0) as u64).sum(),
        }
    }

    /// Adds the counts of later pairs.
    pub(super) fn add(&mut self, later: Self) {
        let added = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
        self.n_pairs += later.n_pairs;
        self.n_first += later.n_first;
        for (order, later) in self.by_order.iter_mut().zip(later.by_order) {
            *order = added(*order, later);
        }
        self.in_both = added(self.in_both, later.in_both);
        self.tally.add(later.tally);
        self.seconds += later.seconds;
        self.n_tokens += later.n_tokens;
    }

    /// The shares that the counts make.
    pub(super) fn summary(&self) -> JudgingSummary {
        let share = |n: usize, of: usize| (of > 0).then(|| n as f64 / of as f64);
        let ([second, first], tally) = (self.by_order, &self.tally);
        JudgingSummary {
            pairs: self.n_pairs,
            votes: tally.n_votes,
            invalid_votes: tally.n_invalid,
            failed_votes: tally.n_failed,
            cut_off_votes: tally.n_cut_off,
            first_failure: tally.first_failure.clone(),
            first_share: share(self.n_first, tally.n_votes - tally.n_invalid),
            accuracy: share(first.1 + second.1, first.0 + second.0),
            accuracy_better_first: share(first.1, first.0),
            accuracy_better_second: share(second.1, second.0),
            consistency: share(self.in_both.1, self.in_both.0),
            seconds: self.seconds,
            judge_tokens_per_second: self.n_tokens as f64 / self.seconds.max(1e-9),
        }
    }
}

/// Tells people of it.
pub(super) fn tell(summary: &JudgingSummary, tally: &VoteTally) {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.1} %", share * 100.0));
    output::line(format!(
        "{}, {}, {} invalid, {:.0} s, {:.0} judge tokens/s",
        counted(summary.pairs as u64, "pair"),
        counted(summary.votes as u64, "vote"),
        summary.invalid_votes,
        summary.seconds,
        summary.judge_tokens_per_second
    ));
    for warning in vote_warnings(tally) {
        output::line(warning);
    }
    let rows = [
        ("votes for the answer shown first", summary.first_share),
        ("accuracy", summary.accuracy),
        ("  better answer shown first", summary.accuracy_better_first),
        ("  better answer shown second", summary.accuracy_better_second),
        ("pairs whose votes all agree", summary.consistency),
    ];
    for (name, share) in rows {
        if let Some(text) = percent(share) {
            output::line(format!("{name:<34} {text}"));
        }
    }
}
