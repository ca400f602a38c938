//! Groups through whole tournaments, with judges that are good, biased, broken or slow.

mod arrival;
mod length;
mod place;
mod size;

use std::collections::BTreeMap;

use joust_schema::ids::{GroupId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::{Reward, Status, Verdict};
use proptest::prelude::*;

use super::{Arena, GroupRequest, GroupResult};
use crate::config::{RatingMethod, RewardConfig, TournamentConfig};
use crate::judge::{Judge, JudgeError, ScriptedJudge, VoteRequest};
use crate::tournament::TournamentKind;
use crate::votes::Stop;

const KINDS: [TournamentKind; 3] =
    [TournamentKind::Knockout, TournamentKind::Swiss, TournamentKind::RoundRobin];

const METHODS: [RatingMethod; 3] =
    [RatingMethod::BradleyTerry, RatingMethod::Elo, RatingMethod::WinRate];

/// Gives the verdicts of `script`, the newest request first.
fn judge<'s>(
    script: impl FnMut(&VoteRequest) -> Result<Verdict, JudgeError> + Send + 's,
) -> ScriptedJudge<'s> {
    ScriptedJudge::of_verdicts(script).newest_first()
}

/// Prefers the larger number.
fn larger(request: &VoteRequest) -> Result<Verdict, JudgeError> {
    let value = |text: &str| text.parse::<i64>().unwrap();
    let first_wins = value(&request.answer_first) > value(&request.answer_second);
    Ok(if first_wins { Verdict::First } else { Verdict::Second })
}

/// Prefers the larger number in four votes of five.
fn noisy(request: &VoteRequest) -> Result<Verdict, JudgeError> {
    let verdict = larger(request)?;
    let errs = request.seed.child("err", 0).unit() < 0.2;
    Ok(match (verdict, errs) {
        (Verdict::First, false) | (Verdict::Second, true) => Verdict::First,
        _ => Verdict::Second,
    })
}

fn config(kind: TournamentKind, votes: u32) -> RewardConfig {
    RewardConfig {
        tournament: TournamentConfig { kind, votes: votes.into(), ..TournamentConfig::default() },
        ..RewardConfig::default()
    }
}

fn group(id: &str, completions: &[String]) -> GroupRequest {
    GroupRequest {
        step: 1,
        group_id: GroupId::from(id),
        question: "which is larger?".to_owned(),
        completions: completions.to_vec(),
        reference: None,
        seed: Seed::new(5),
        tournament: None,
    }
}

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|value| value.to_string()).collect()
}

fn play(config: &RewardConfig, judge: &mut dyn Judge, completions: &[String]) -> GroupResult {
    let mut arena = Arena::new(config, false);
    arena.add(group("g", completions)).unwrap();
    loop {
        if let Some((_, result)) = arena.pump(judge).pop() {
            assert_eq!((arena.n_open(), arena.n_in_flight()), (0, 0));
            return result;
        }
    }
}

fn rewards(result: &GroupResult) -> Vec<f64> {
    result.rewards.iter().map(|row| row.reward.unwrap()).collect()
}

/// Pearson's correlation; 0 without variance.
fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let moment = |a: &[f64], b: &[f64], mean_a: f64, mean_b: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    let of_both = moment(x, x, mean_x, mean_x) * moment(y, y, mean_y, mean_y);
    if of_both < 1e-12 { 0.0 } else { moment(x, y, mean_x, mean_y) / of_both.sqrt() }
}

#[test]
fn arena_orders_the_group_with_a_perfect_judge() {
    for kind in KINDS {
        let result = play(&config(kind, 1), &mut judge(larger), &numbers(8));
        assert_eq!(result.winner, Some(Member(7)), "{kind:?}");
        let rewards = rewards(&result);
        assert!(rewards[7] > rewards[0], "{kind:?} {rewards:?}");
        assert!(rewards.iter().all(|reward| (0.0..=1.0).contains(reward)));
        assert!(result.rewards.iter().all(|row| row.status == Status::Scored));
    }
    let result = play(&config(TournamentKind::RoundRobin, 1), &mut judge(larger), &numbers(8));
    let ranks: Vec<_> = result.rewards.iter().map(|row| row.rank.unwrap()).collect();
    assert_eq!(ranks, [8, 7, 6, 5, 4, 3, 2, 1]);
    assert!(result.rewards[7].rating.unwrap() > 1000.0);
    assert!(result.rewards[7].rating_stderr.unwrap() > 0.0);
}

#[test]
fn rewards_are_equal_under_a_judge_that_always_takes_the_first_answer() {
    let spread = |kind, votes| {
        let rigged = |_: &VoteRequest| Ok(Verdict::First);
        let result = play(&config(kind, votes), &mut judge(rigged), &numbers(8));
        assert!(result.position_bias.unwrap() > 1.0, "{:?}", result.position_bias);
        let distances = rewards(&result).into_iter().map(|reward| (reward - 0.5).abs());
        distances.fold(0.0, f64::max)
    };
    for kind in KINDS {
        assert!(spread(kind, 31) < 0.01, "{kind:?}");
    }
    // with one vote per match players are not shown first equally often, least in a bracket
    assert!(spread(TournamentKind::RoundRobin, 1) < 0.1);
    assert!(spread(TournamentKind::Swiss, 1) < 0.01);
}

#[test]
fn openings_are_about_equally_many_per_player() {
    let mut first: BTreeMap<String, i32> = BTreeMap::new();
    let mut counting = judge(|request: &VoteRequest| {
        *first.entry(request.answer_first.clone()).or_default() += 1;
        *first.entry(request.answer_second.clone()).or_default() -= 1;
        noisy(request)
    });
    play(&config(TournamentKind::RoundRobin, 1), &mut counting, &numbers(9));
    drop(counting);
    assert!(first.values().all(|net| net.abs() <= 2), "{first:?}");
}

#[test]
fn rewards_are_missing_after_a_failed_judge() {
    for error in [JudgeError::Failed("gone".to_owned()), JudgeError::Refused("no".to_owned())] {
        for kind in KINDS {
            let mut n_asked = 0;
            let script = |_: &VoteRequest| {
                n_asked += 1;
                Err(error.clone())
            };
            let result = play(&config(kind, 1), &mut judge(script), &numbers(4));
            for row in &result.rewards {
                assert_eq!(row.status, Status::JudgeFailed);
                assert_eq!(
                    (row.reward, row.win_rate, row.rating, row.rank),
                    (None, None, None, None)
                );
            }
            assert_eq!(result.winner, None, "{kind:?}");
            let n_matches = result.matches.len();
            assert!(n_matches >= 3 && result.matches.iter().all(|row| row.winner.is_none()));
            let tries = if matches!(error, JudgeError::Refused(_)) { 1 } else { 2 };
            assert_eq!(n_asked, n_matches * tries, "failures are tried twice, refusals once");
        }
    }
}

#[test]
fn rewards_are_missing_only_for_members_without_a_valid_vote() {
    let script = |request: &VoteRequest| match [&request.answer_first, &request.answer_second] {
        shown if shown.iter().any(|text| *text == "3") => Ok(Verdict::Invalid),
        _ => larger(request),
    };
    let result = play(&config(TournamentKind::RoundRobin, 3), &mut judge(script), &numbers(5));
    let missing: Vec<bool> = result.rewards.iter().map(|row| row.reward.is_none()).collect();
    assert_eq!(missing, [false, false, false, true, false]);
    assert_eq!(result.rewards[3].status, Status::JudgeFailed);
    assert_eq!(result.rewards[4].rank, Some(1));
    let unclear =
        result.matches.iter().find(|row| row.member_b == Member(3) || row.member_a == Member(3));
    let unclear = unclear.unwrap();
    assert_eq!((unclear.votes_a, unclear.votes_b, unclear.votes_invalid), (0, 0, 3));
}

#[test]
fn invalid_vote_is_requested_once_more() {
    let script = |request: &VoteRequest| match request.attempt {
        0 => Ok(Verdict::Invalid),
        _ => larger(request),
    };
    let result = play(&config(TournamentKind::RoundRobin, 1), &mut judge(script), &numbers(3));
    assert_eq!(result.votes.len(), 6);
    assert!(result.matches.iter().all(|row| row.votes_invalid == 0 && row.winner.is_some()));
    let attempts: Vec<_> =
        result.votes.iter().map(|vote| (vote.attempt, vote.verdict == Verdict::Invalid)).collect();
    assert_eq!(attempts[..2], [(0, true), (1, false)]);
}

#[test]
fn match_is_decided_once_the_majority_is_safe() {
    let result = play(&config(TournamentKind::RoundRobin, 5), &mut judge(larger), &numbers(2));
    // a vote more than the three of a majority: what counts are pairs
    assert_eq!(result.votes.len(), 4);
    assert!(result.matches[0].decided_early);
    // both orders are shown
    assert_ne!(result.votes[0].a_shown_first, result.votes[1].a_shown_first);
    let mut patient = config(TournamentKind::RoundRobin, 5);
    patient.tournament.votes.stop = Stop::Never;
    let result = play(&patient, &mut judge(larger), &numbers(2));
    assert_eq!(result.votes.len(), 5);
    assert!(!result.matches[0].decided_early);
}

#[test]
fn players_are_distinct_completions() {
    let completions: Vec<String> =
        ["7", "<think>hm</think>\n7", "9", "7 ", "1"].map(str::to_owned).to_vec();
    let script = |request: &VoteRequest| {
        assert_ne!(request.answer_first, request.answer_second);
        assert!(!request.answer_first.contains("think"));
        larger(request)
    };
    let result = play(&config(TournamentKind::RoundRobin, 1), &mut judge(script), &completions);
    assert_eq!(result.matches.len(), 3);
    let rewards = rewards(&result);
    assert_eq!((rewards[0], rewards[0]), (rewards[1], rewards[3]));
    assert!(rewards[2] > rewards[0] && rewards[0] > rewards[4]);
    let same = vec!["7".to_owned(); 4];
    let result = play(&config(TournamentKind::Swiss, 1), &mut judge(script), &same);
    assert_eq!(self::rewards(&result), [0.5; 4]);
    assert!(result.votes.is_empty());
    // no vote was cast, so no error is known: 0 would be certainty
    let row = &result.rewards[0];
    assert_eq!((row.rating, row.rating_stderr), (Some(1000.0), None));
}

#[test]
fn group_of_one_is_incomplete_and_of_none_is_refused() {
    let result = play(&config(TournamentKind::Swiss, 1), &mut judge(larger), &numbers(1));
    assert_eq!(result.rewards[0].status, Status::IncompleteGroup);
    assert_eq!(result.rewards[0].reward, None);
    let mut arena = Arena::new(&RewardConfig::default(), false);
    let message = arena.add(group("empty", &[])).unwrap_err().to_string();
    assert_eq!(message, "group empty: completions is empty, wanted at least one");
}

#[test]
fn group_never_waits_for_another() {
    let mut arena = Arena::new(&config(TournamentKind::Swiss, 1), false);
    let handles = ["slow", "quick"].map(|id| {
        let mut request = group(id, &numbers(8));
        request.question = id.to_owned();
        arena.add(request).unwrap()
    });
    let mut asked = Vec::new();
    let mut both = judge(|request: &VoteRequest| {
        asked.push(request.question.clone());
        larger(request)
    });
    // the judge takes the newest request first, so that one group runs ahead
    let first = loop {
        if let Some((handle, result)) = arena.pump(&mut both).pop() {
            assert_eq!(handle, handles[1]);
            break result;
        }
    };
    assert_eq!(first.group_id.0, "quick");
    assert_eq!(arena.n_open(), 1);
    drop(both);
    let n_quick = asked.iter().filter(|question| *question == "quick").count();
    assert_eq!(n_quick, asked.len(), "the other group's votes were open all the while");
}

#[test]
fn rating_methods_all_reward_the_better_completions() {
    for method in METHODS {
        let mut config = config(TournamentKind::RoundRobin, 1);
        config.rating.method = method;
        let result = play(&config, &mut judge(larger), &numbers(6));
        let rewards = rewards(&result);
        assert!(rewards.is_sorted(), "{method:?} {rewards:?}");
        assert_eq!(result.rewards[0].rating.is_some(), method != RatingMethod::WinRate);
    }
}

fn by_text(completions: &[String], rewards: &[Reward]) -> BTreeMap<String, Reward> {
    let anonymous = |row: &Reward| Reward { member: Member(0), ..row.clone() };
    completions.iter().cloned().zip(rewards.iter().map(anonymous)).collect()
}

proptest! {
    /// Rewards belong to completions, not to positions.
    #[test]
    fn rewards_are_permuted_with_the_members_and_nothing_else_changes(
        (order, copies) in (2usize..12).prop_flat_map(|n| {
            let order = Just((0..n).collect::<Vec<_>>()).prop_shuffle();
            (order, prop::collection::vec(0usize..n, 0..3))
        }),
        kind in prop::sample::select(&KINDS[..]),
        method in prop::sample::select(&METHODS[..]),
        votes in prop::sample::select(&[1u32, 2, 3, 5][..]),
        rounds in prop::option::of(1u32..6),
        controls_length in any::<bool>(),
    ) {
        let mut config = config(kind, votes);
        config.rating.method = method;
        config.rating.length_control = controls_length && method == RatingMethod::BradleyTerry;
        config.tournament.rounds = rounds;
        let n = order.len();
        // of unlike lengths, and some completions occur more than once
        let padded = |value: usize| format!("{value:0>width$}", width = 7 * value % 5);
        let mut plain: Vec<String> = (0..n).map(padded).collect();
        plain.extend(copies.iter().map(|&copy| plain[copy].clone()).collect::<Vec<_>>());
        let mut shuffled: Vec<String> = order.iter().map(|&idx| plain[idx].clone()).collect();
        shuffled.extend(plain[n..].iter().rev().cloned());
        let fails_sometimes = |request: &VoteRequest| match request.seed.child("fail", 0).unit() {
            draw if draw < 0.1 => Ok(Verdict::Invalid),
            _ => noisy(request),
        };
        let straight = play(&config, &mut judge(fails_sometimes), &plain);
        let permuted = play(&config, &mut judge(fails_sometimes), &shuffled);
        prop_assert_eq!(by_text(&plain, &straight.rewards), by_text(&shuffled, &permuted.rewards));
        prop_assert_eq!(straight.votes.len(), permuted.votes.len());
        prop_assert_eq!(straight.position_bias, permuted.position_bias);
        prop_assert_eq!(straight.length_slope, permuted.length_slope);
    }
}
