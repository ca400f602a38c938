//! From a group's votes to its rewards, whichever method is configured.

use joust_schema::ids::{GroupId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::{Reward, Status};

use crate::config::{RatingMethod, RewardConfig, RewardKind};
use crate::rating::bradley_terry::bradley_terry;
use crate::rating::elo::elo;
use crate::rating::{ELO_SCALE, Game, elo_number, win_rate};

/// A finished tournament: members are slots, equal completions the same one.
pub(super) struct Standing<'a> {
    /// The slot of each member.
    pub(super) slot_of: &'a [usize],
    /// The key of each slot.
    pub(super) keys: &'a [u64],
    pub(super) games: &'a [Game],
    pub(super) seed: Seed,
}

/// What a method says about the slots.
struct Rated {
    /// Elo number and its standard error.
    rating: Vec<Option<(f64, Option<f64>)>>,
    /// Probability that one slot beats another; `None` where only a plain share is known.
    beats: Option<Box<dyn Fn(usize, usize) -> f64>>,
    share: Vec<Option<f64>>,
    position_bias: Option<f64>,
}

/// The rewards of a group, and the judge's position bias where it was measured.
pub(super) fn rewards(
    group_id: &GroupId,
    standing: &Standing<'_>,
    config: &RewardConfig,
) -> (Vec<Reward>, Option<f64>) {
    let n_members = standing.slot_of.len();
    let n_slots = standing.keys.len();
    let mut n_votes = vec![0; n_slots];
    let (mut wins, mut losses) = (vec![0; n_slots], vec![0; n_slots]);
    for game in standing.games {
        let (votes_a, votes_b) = (game.votes_a(), game.votes_b());
        n_votes[game.a] += votes_a + votes_b;
        n_votes[game.b] += votes_a + votes_b;
        match votes_a.cmp(&votes_b) {
            std::cmp::Ordering::Greater => {
                (wins[game.a], losses[game.b]) = (wins[game.a] + 1, losses[game.b] + 1)
            }
            std::cmp::Ordering::Less => {
                (wins[game.b], losses[game.a]) = (wins[game.b] + 1, losses[game.a] + 1)
            }
            std::cmp::Ordering::Equal => {}
        }
    }
    let rated = rate(standing, config);
    // a group of equal completions needs no votes to be known as equal
    let all_equal = n_slots == 1;
    let status = |slot: usize| match (n_members, all_equal || n_votes[slot] > 0) {
        (1, _) => Status::IncompleteGroup,
        (_, true) => Status::Scored,
        (_, false) => Status::JudgeFailed,
    };
    let expected = |member: usize| -> Option<f64> {
        let slot = standing.slot_of[member];
        if all_equal {
            return Some(0.5);
        }
        let Some(beats) = &rated.beats else {
            return rated.share[slot];
        };
        let others = (0..n_members)
            .filter(|&other| other != member && status(standing.slot_of[other]) == Status::Scored);
        // slot order keeps the sum the same however the members are permuted
        let mut others: Vec<usize> = others.map(|other| standing.slot_of[other]).collect();
        others.sort_unstable();
        let sum: f64 =
            others.iter().map(|&other| if other == slot { 0.5 } else { beats(slot, other) }).sum();
        (!others.is_empty()).then(|| sum / others.len() as f64)
    };
    let mut rows: Vec<Reward> = (0..n_members)
        .map(|member| {
            let slot = standing.slot_of[member];
            let status = status(slot);
            let is_scored = status == Status::Scored;
            let win_rate = expected(member).filter(|_| is_scored);
            let rating = rated.rating[slot].filter(|_| is_scored);
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
                rating_stderr: rating.and_then(|(_, stderr)| stderr),
                wins: wins[slot],
                losses: losses[slot],
                rank: None,
                advantage: None,
            }
        })
        .collect();
    rank(&mut rows);
    (rows, rated.position_bias)
}

fn rate(standing: &Standing<'_>, config: &RewardConfig) -> Rated {
    let n_slots = standing.keys.len();
    let share = win_rate(n_slots, standing.games);
    match config.rating.method {
        RatingMethod::WinRate => {
            Rated { rating: vec![None; n_slots], beats: None, share, position_bias: None }
        }
        RatingMethod::BradleyTerry => {
            let fit = bradley_terry(n_slots, standing.games, &config.rating.bradley_terry);
            let theta: Vec<f64> = fit.ratings.iter().map(|rating| rating.theta).collect();
            let to_elo = ELO_SCALE / std::f64::consts::LN_10;
            let rating = fit
                .ratings
                .iter()
                .map(|rating| Some((elo_number(rating.theta), Some(rating.stderr * to_elo))))
                .collect();
            let beats = move |a: usize, b: usize| 1.0 / (1.0 + (theta[b] - theta[a]).exp());
            let bias = config.rating.bradley_terry.position_bias && !standing.games.is_empty();
            Rated {
                rating,
                beats: Some(Box::new(beats)),
                share,
                position_bias: bias.then_some(fit.position_bias),
            }
        }
        RatingMethod::Elo => {
            let numbers = elo(standing.keys, standing.games, &config.rating.elo, standing.seed);
            let rating = numbers.iter().map(|&number| Some((number, None))).collect();
            let beats = move |a: usize, b: usize| {
                1.0 / (1.0 + 10f64.powf((numbers[b] - numbers[a]) / ELO_SCALE))
            };
            Rated { rating, beats: Some(Box::new(beats)), share, position_bias: None }
        }
    }
}

/// 1 for the best; members within rounding of each other share the better rank.
fn rank(rows: &mut [Reward]) {
    const SAME: f64 = 1e-12;
    let known: Vec<Option<f64>> = rows.iter().map(|row| row.win_rate).collect();
    for row in rows.iter_mut() {
        let Some(own) = row.win_rate else { continue };
        let better = known.iter().flatten().filter(|&&other| other > own + SAME).count();
        row.rank = Some(better as i32 + 1);
    }
}
