//! From a group's votes to its rewards, by the configured rating method.
//!
//! Works on slots, whose order permuting the members does not change. It does not know how the
//! votes came about.

use std::cmp::Ordering;

use joust_schema::ids::{GroupId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::{Reward, Status};

use crate::config::{RatingMethod, RewardConfig, RewardKind};
use crate::rating::bradley_terry::BradleyTerry;
use crate::rating::elo::elo;
use crate::rating::{ELO_SCALE, GroupVotes, MatchVotes, elo_number, expected_win_rate, win_rate};

/// The votes of a finished tournament, by slot.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Standing {
    /// Per member: its slot. Members with equal completions share one.
    pub(super) slot_of_member: Vec<usize>,
    /// Per slot: its key.
    pub(super) keys: Vec<u64>,
    /// Per slot: number of characters of its completion, as the judge reads it.
    pub(super) lengths: Vec<usize>,
    pub(super) matches: Vec<MatchVotes>,
    pub(super) group_seed: Seed,
}

impl Standing {
    pub(super) fn votes(&self) -> GroupVotes<'_> {
        GroupVotes { n: self.keys.len(), matches: &self.matches }
    }
}

/// Ratings of the slots by one method.
struct SlotRatings {
    /// Elo number and its standard error.
    rating: Vec<Option<(f64, Option<f64>)>>,
    /// Probability that one slot beats another; `None` if only a plain share is known.
    beats: Option<Box<dyn Fn(usize, usize) -> f64>>,
    share: Vec<Option<f64>>,
}

/// Number of votes and of matches won and lost, per slot.
struct SlotCounts {
    votes: Vec<u64>,
    wins: Vec<i32>,
    losses: Vec<i32>,
}

impl SlotCounts {
    fn of(matches: &[MatchVotes], n_slots: usize) -> Self {
        let (votes, wins, losses) = (vec![0; n_slots], vec![0; n_slots], vec![0; n_slots]);
        let mut counts = Self { votes, wins, losses };
        for of_match in matches {
            let (votes_a, votes_b) = (of_match.votes_a(), of_match.votes_b());
            for slot in [of_match.a, of_match.b] {
                counts.votes[slot] += votes_a + votes_b;
            }
            let (winner, loser) = match votes_a.cmp(&votes_b) {
                Ordering::Greater => (of_match.a, of_match.b),
                Ordering::Less => (of_match.b, of_match.a),
                Ordering::Equal => continue,
            };
            counts.wins[winner] += 1;
            counts.losses[loser] += 1;
        }
        counts
    }
}

/// The rewards of a group; `fit` is its fit if the method is Bradley-Terry.
pub(super) fn rewards(
    group_id: &GroupId,
    standing: &Standing,
    config: &RewardConfig,
    fit: Option<&BradleyTerry>,
) -> Vec<Reward> {
    let n_members = standing.slot_of_member.len();
    let n_slots = standing.keys.len();
    let counts = SlotCounts::of(&standing.matches, n_slots);
    let rated = rate_slots(standing, config, fit);
    // equal completions are equal without a vote
    let all_equal = n_slots == 1;
    let status = |slot: usize| match (n_members, all_equal || counts.votes[slot] > 0) {
        (1, _) => Status::IncompleteGroup,
        (_, true) => Status::Scored,
        (_, false) => Status::JudgeFailed,
    };
    // number of members with a reward, by slot
    let mut n_scored = vec![0_u32; n_slots];
    for &slot in &standing.slot_of_member {
        n_scored[slot] += u32::from(status(slot) == Status::Scored);
    }
    let expected: Vec<Option<f64>> = match &rated.beats {
        _ if all_equal => vec![Some(0.5)],
        Some(beats) => expected_win_rate(&n_scored, beats),
        None => rated.share.clone(),
    };
    let mut rows: Vec<Reward> = (0..n_members)
        .map(|member| {
            let slot = standing.slot_of_member[member];
            let status = status(slot);
            let is_scored = status == Status::Scored;
            let win_rate = expected[slot].filter(|_| is_scored);
            let rating = rated.rating[slot].filter(|_| is_scored);
            // where no vote was cast, an error of 0 would say that all is known
            let stderr = rating.and_then(|(_, stderr)| stderr).filter(|_| counts.votes[slot] > 0);
            Reward {
                group_id: group_id.clone(),
                member: Member(member as u32),
                status,
                reward: match config.kind {
                    RewardKind::Rating => rating.map(|(value, _)| value),
                    _ => win_rate,
                },
                win_rate,
                rating: rating.map(|(value, _)| value),
                rating_stderr: stderr,
                wins: counts.wins[slot],
                losses: counts.losses[slot],
                rank: None,
                advantage: None,
            }
        })
        .collect();
    assign_ranks(&mut rows);
    rows
}

fn rate_slots(
    standing: &Standing,
    config: &RewardConfig,
    fit: Option<&BradleyTerry>,
) -> SlotRatings {
    let n_slots = standing.keys.len();
    let share = win_rate(n_slots, &standing.matches);
    match (config.rating.method, fit) {
        (RatingMethod::BradleyTerry, Some(fit)) => {
            let theta: Vec<f64> = fit.ratings.iter().map(|rating| rating.theta).collect();
            let to_elo = ELO_SCALE / std::f64::consts::LN_10;
            let rating = fit
                .ratings
                .iter()
                .map(|rating| Some((elo_number(rating.theta), Some(rating.stderr * to_elo))))
                .collect();
            let beats = move |a: usize, b: usize| 1.0 / (1.0 + (theta[b] - theta[a]).exp());
            SlotRatings { rating, beats: Some(Box::new(beats)), share }
        }
        (RatingMethod::Elo, _) => {
            let seed = standing.group_seed.child("rating", 0);
            let numbers = elo(&standing.keys, &standing.matches, &config.rating.elo, seed);
            let rating = numbers.iter().map(|&number| Some((number, None))).collect();
            let beats = move |a: usize, b: usize| {
                1.0 / (1.0 + 10f64.powf((numbers[b] - numbers[a]) / ELO_SCALE))
            };
            SlotRatings { rating, beats: Some(Box::new(beats)), share }
        }
        (RatingMethod::WinRate, _) | (RatingMethod::BradleyTerry, None) => {
            SlotRatings { rating: vec![None; n_slots], beats: None, share }
        }
    }
}

/// Ranks the rows: 1 for the best; members within rounding of each other share the better rank.
fn assign_ranks(rows: &mut [Reward]) {
    const SAME: f64 = 1e-12;
    let mut ascending: Vec<f64> = rows.iter().filter_map(|row| row.win_rate).collect();
    ascending.sort_by(f64::total_cmp);
    for row in rows.iter_mut() {
        let Some(own) = row.win_rate else { continue };
        let n_not_better = ascending.partition_point(|&other| other <= own + SAME);
        row.rank = Some((ascending.len() - n_not_better) as i32 + 1);
    }
}
