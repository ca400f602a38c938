//! Large groups: requests are made as the judge takes them, and no decision scans the whole group.

use std::time::{Duration, Instant};

use super::*;
use crate::judge::RuleJudge;

/// Time that no group below needs by far, also without optimisation on a busy machine.
const QUICK: Duration = Duration::from_secs(30);

fn play_by_rule(tournament: TournamentConfig, n: usize) -> GroupResult {
    let config = RewardConfig { tournament, ..RewardConfig::default() };
    let mut request = group("g", &numbers(n));
    request.reference = Some("1".to_owned());
    let mut judge = RuleJudge::default();
    let began = Instant::now();
    let mut arena = Arena::new(&config, false);
    arena.add(request).unwrap();
    let result = loop {
        if let Some((_, result)) = arena.pump(&mut judge).pop() {
            break result;
        }
    };
    assert!(began.elapsed() < QUICK, "{n} members: {:?}", began.elapsed());
    result
}

#[test]
fn round_robin_of_256_is_quick() {
    let tournament = config(TournamentKind::RoundRobin, 1).tournament;
    let result = play_by_rule(tournament, 256);
    assert_eq!((result.matches.len(), result.votes.len()), (32_640, 32_640));
    assert_eq!(result.rewards[1].rank, Some(1));
}

#[test]
fn swiss_of_1024_is_quick() {
    let result = play_by_rule(TournamentConfig::default(), 1024);
    assert_eq!(result.matches.len(), 11 * 512);
    let mut met = std::collections::BTreeSet::new();
    assert!(result.matches.iter().all(|row| met.insert([row.member_a, row.member_b].map(|m| m.0))));
}

#[test]
fn swiss_of_as_many_rounds_as_a_round_robin_is_quick() {
    let tournament = TournamentConfig { rounds: Some(151), ..TournamentConfig::default() };
    let result = play_by_rule(tournament, 152);
    assert_eq!(result.matches.len(), 151 * 76);
}

#[test]
fn knockout_of_1024_is_quick() {
    let tournament = config(TournamentKind::Knockout, 1).tournament;
    let result = play_by_rule(tournament, 1024);
    assert_eq!(result.matches.len(), 1023);
    assert_eq!(result.winner, Some(Member(1)));
}

#[test]
fn requests_are_made_as_the_judge_takes_them() {
    let mut config = config(TournamentKind::RoundRobin, 1);
    config.tournament.votes.max = 1024;
    config.tournament.votes.stop = Stop::Never;
    let mut judge = ScriptedJudge::silent().with_capacity(16);
    let mut arena = Arena::new(&config, false);
    // 13 million votes
    let large = arena.add(group("large", &numbers(160))).unwrap();
    for _ in 0..3 {
        assert!(arena.pump(&mut judge).is_empty());
        assert_eq!((arena.n_in_flight(), judge.control().n_submitted()), (32, 32));
    }
    assert!(arena.cancel(large, &mut judge));
    assert_eq!((arena.n_in_flight(), judge.control().cancelled().len()), (0, 32));
}

#[test]
fn large_group_does_not_keep_the_judge_from_a_small_one() {
    let config = config(TournamentKind::RoundRobin, 1);
    let mut judge = ScriptedJudge::of_verdicts(larger).with_capacity(16);
    judge.control().set_max_replies_per_poll(16);
    let mut arena = Arena::new(&config, false);
    arena.add(group("large", &numbers(100))).unwrap();
    let small = arena.add(group("small", &numbers(3))).unwrap();
    let mut n_polls = 0;
    let first = loop {
        n_polls += 1;
        if let Some((handle, _)) = arena.pump(&mut judge).pop() {
            break handle;
        }
    };
    assert_eq!(first, small);
    assert!(n_polls < 12, "{n_polls} polls; the large group needs 310");
}
