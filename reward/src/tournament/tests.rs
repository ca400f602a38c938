//! Counts, rounds and rematches of every format, and that permuting players permutes the
//! tournament.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::draw::all_can_meet;
use super::matching::Matching;
use super::*;

const KINDS: [TournamentKind; 3] =
    [TournamentKind::Swiss, TournamentKind::Knockout, TournamentKind::RoundRobin];

fn tournament(kind: TournamentKind, keys: &[u64], rounds: Option<u32>, seed: u64) -> Tournament {
    let plan = TournamentPlan { kind, rounds, balances_openings: true };
    Tournament::new(&plan, keys, Seed::new(seed))
}

fn maximum_matching_size(n: usize, adjacent: impl Fn(usize, usize) -> bool) -> usize {
    Matching::maximum(n, &adjacent).size()
}

/// A score that depends on the two keys only; about one match in five is a draw.
fn judge(key_a: u64, key_b: u64) -> MatchScore {
    let draw = |key: u64, other: u64| Seed::new(key).child("judge", other).unit();
    match (draw(key_a, key_b) + draw(key_b, key_a)) * 2.5 {
        sum if sum < 1.2 => MatchScore { votes_a: 0, votes_b: 0 },
        sum if sum < 1.6 => MatchScore { votes_a: 2, votes_b: 2 },
        _ => MatchScore {
            votes_a: (draw(key_a, key_b) * 6.0) as u32,
            votes_b: (draw(key_b, key_a) * 6.0) as u32,
        },
    }
}

/// The stronger key wins every vote.
fn perfect(key_a: u64, key_b: u64) -> MatchScore {
    MatchScore { votes_a: u32::from(key_a > key_b), votes_b: u32::from(key_b > key_a) }
}

fn keys(n: usize, salt: u64) -> Vec<u64> {
    (0..n as u64).map(|idx| Seed::new(salt).child("key", idx).0).collect()
}

/// The matches and the winner of a tournament, by key.
#[derive(Debug, PartialEq)]
struct Played {
    matches: Vec<(u64, u64, u32)>,
    winner: Option<u64>,
}

/// Plays to the end; scores are recorded in an order drawn from `order`, with the players in either
/// order.
fn play(
    kind: TournamentKind,
    keys: &[u64],
    rounds: Option<u32>,
    order: u64,
    judge: impl Fn(u64, u64) -> MatchScore,
) -> Played {
    let mut tournament = tournament(kind, keys, rounds, 17);
    let mut waiting: Vec<ReadyMatch> = Vec::new();
    let mut matches = Vec::new();
    let mut draw = Seed::new(order);
    while !tournament.is_done() {
        assert_eq!(tournament.winner(), None);
        let ready = tournament.take_ready_matches();
        assert_eq!(tournament.take_ready_matches(), [], "a match is handed out once");
        let key = |player: PlayerIdx| keys[player.0];
        matches.extend(ready.iter().map(|p| (key(p.a), key(p.b), p.round)));
        waiting.extend(ready);
        assert!(!waiting.is_empty(), "a tournament that is not done has a match to play");
        draw = draw.child("next", 0);
        let next = waiting.swap_remove((draw.unit() * waiting.len() as f64) as usize);
        let (a, b) = if draw.0.is_multiple_of(2) { (next.a, next.b) } else { (next.b, next.a) };
        let score = judge(key(a), key(b));
        assert_eq!(tournament.record_score(a, b, score), Ok(()));
        assert_eq!(tournament.record_score(a, b, score), Err(RecordError::NotPlaying { a, b }));
    }
    assert!(waiting.is_empty());
    assert_eq!(tournament.take_ready_matches(), []);
    assert_eq!(matches.len(), tournament.n_matches_planned());
    let size = TournamentSize::of(kind, keys.len(), rounds);
    assert_eq!(matches.len() as u64, size.n_matches);
    let n_played = |key| matches.iter().filter(|&&(a, b, _)| a == key || b == key).count() as u64;
    assert!(keys.iter().all(|&key| n_played(key) <= size.max_per_player));
    Played { matches, winner: tournament.winner().map(|player| keys[player.0]) }
}

/// Players per round, which must be different ones.
fn players_by_round(played: &Played) -> BTreeMap<u32, BTreeSet<u64>> {
    let mut rounds: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for &(a, b, round) in &played.matches {
        let members = rounds.entry(round).or_default();
        assert!(members.insert(a) && members.insert(b), "one match per player and round");
    }
    rounds
}

#[test]
fn tournament_of_none_or_one_is_done_at_once() {
    for kind in KINDS {
        let mut none = tournament(kind, &[], None, 1);
        assert_eq!((none.is_done(), none.winner(), none.n_matches_planned()), (true, None, 0));
        assert_eq!(none.take_ready_matches(), []);
        let mut one = tournament(kind, &[5], None, 1);
        assert_eq!((one.is_done(), one.winner()), (true, Some(PlayerIdx(0))));
        assert_eq!((one.take_ready_matches(), one.n_matches_planned()), (vec![], 0));
    }
}

#[test]
fn knockout_of_any_size_has_one_winner() {
    for n in 2..=64 {
        let keys = keys(n, 3);
        for order in 0..3 {
            let played = play(TournamentKind::Knockout, &keys, None, order, perfect);
            assert_eq!(played.matches.len(), n - 1);
            assert_eq!(played.winner, keys.iter().max().copied(), "the best of {n} wins");
            let rounds = players_by_round(&played);
            assert_eq!(rounds.len(), n.next_power_of_two().ilog2() as usize);
            let first_round = n - n.next_power_of_two() / 2;
            assert_eq!(rounds[&0].len(), 2 * first_round, "byes in the first round only");
        }
    }
}

#[test]
fn knockout_releases_a_match_as_soon_as_its_players_are_known() {
    let mut tournament = tournament(TournamentKind::Knockout, &keys(8, 1), None, 2);
    let first = tournament.take_ready_matches();
    assert_eq!(first.iter().map(|p| p.round).collect::<Vec<_>>(), [0; 4]);
    let won = MatchScore { votes_a: 1, votes_b: 0 };
    let mut released = Vec::new();
    for ready in &first[..2] {
        tournament.record_score(ready.a, ready.b, won).unwrap();
        released.extend(tournament.take_ready_matches());
    }
    let [next] = released[..] else { panic!("{released:?}") };
    assert_eq!((next.a, next.b, next.round), (first[1].a, first[0].a, 1));
}

#[test]
fn knockout_decides_a_draw_by_a_fair_coin() {
    let n_seeds = 400;
    for score in [MatchScore::default(), MatchScore { votes_a: 3, votes_b: 3 }] {
        let mut n_won = [0; 2];
        for seed in 0..n_seeds {
            let mut tournament = tournament(TournamentKind::Knockout, &[8, 9], None, seed);
            let ready = tournament.take_ready_matches()[0];
            tournament.record_score(ready.a, ready.b, score).unwrap();
            n_won[tournament.winner().unwrap().0] += 1;
        }
        assert!(n_won.iter().all(|&won| won > n_seeds as usize * 2 / 5), "{n_won:?}");
    }
}

#[test]
fn round_robin_plays_every_pair_once_in_full_rounds() {
    for n in 2..=17 {
        let keys = keys(n, 4);
        let played = play(TournamentKind::RoundRobin, &keys, None, 1, perfect);
        let pairs: BTreeSet<_> =
            played.matches.iter().map(|&(a, b, _)| (a.min(b), a.max(b))).collect();
        assert_eq!((pairs.len(), played.matches.len()), (n * (n - 1) / 2, n * (n - 1) / 2));
        let rounds = players_by_round(&played);
        assert_eq!(rounds.len(), if n % 2 == 0 { n - 1 } else { n });
        assert!(rounds.values().all(|members| members.len() == n / 2 * 2));
        assert_eq!(played.winner, keys.iter().max().copied());
    }
}

#[test]
fn swiss_plans_its_rounds() {
    let cases = [
        // members, asked, planned
        (2, None, 1),
        (3, None, 3),
        (4, None, 3),
        (5, None, 4),
        (6, None, 4),
        (8, None, 4),
        (9, None, 5),
        (16, None, 5),
        (64, None, 7),
        (8, Some(2), 2),
        (8, Some(100), 7),
        (7, Some(100), 7),
        (8, Some(0), 1),
    ];
    for (n, asked, planned) in cases {
        let played = play(TournamentKind::Swiss, &keys(n, 5), asked, 1, perfect);
        let rounds = players_by_round(&played);
        assert_eq!(rounds.len(), planned, "{n} members, {asked:?} rounds");
        assert!(rounds.values().all(|members| members.len() == n / 2 * 2));
        if asked.is_none() && n > 3 {
            assert_eq!(played.winner, keys(n, 5).iter().max().copied(), "{n} members");
        }
    }
}

#[test]
fn swiss_has_no_rematch_in_its_default_rounds() {
    let sizes = (2..=13).map(|n| (n, 200)).chain([(16, 20), (33, 2), (63, 2), (64, 2)]);
    for (n, n_groups) in sizes {
        for salt in 0..n_groups {
            for judge in [judge, perfect] {
                let played = play(TournamentKind::Swiss, &keys(n, salt), None, salt, judge);
                let pairs: BTreeSet<_> =
                    played.matches.iter().map(|&(a, b, _)| (a.min(b), a.max(b))).collect();
                assert_eq!(pairs.len(), played.matches.len(), "{n} members, group {salt}");
            }
        }
    }
}

#[test]
fn standings_break_ties_by_buchholz_then_head_to_head_then_seed_order() {
    let won = MatchScore { votes_a: 1, votes_b: 0 };
    let standings = |decided: &[(usize, usize)], drawn: &[(usize, usize)]| {
        let mut standings = standings::Standings::new(5);
        decided.iter().for_each(|&(winner, loser)| {
            standings.record_score(SlotIdx(winner), SlotIdx(loser), won)
        });
        drawn.iter().for_each(|&(a, b)| {
            standings.record_score(SlotIdx(a), SlotIdx(b), MatchScore::default())
        });
        standings
    };
    let level = standings(&[(0, 2), (1, 3)], &[(3, 4)]);
    assert_eq!(level.best(), Some(SlotIdx(1)), "1 beat 3, who has more points than 2");
    assert_eq!(
        level.ranked(),
        [0, 1, 3, 4, 2].map(SlotIdx),
        "rounds are paired by points, then seed order"
    );
    let level = standings(&[(0, 2), (3, 1), (1, 2)], &[]);
    assert_eq!(level.best(), Some(SlotIdx(3)), "0 met the weakest only, 3 beat 1");
    let level = standings(&[(0, 2), (1, 3)], &[]);
    assert_eq!(level.best(), Some(SlotIdx(0)), "nothing but the seed order tells 0 from 1");
    assert_eq!(standings::Standings::new(3).best(), Some(SlotIdx(0)));
}

#[test]
fn tournament_refuses_scores_of_matches_not_in_play() {
    for kind in KINDS {
        let mut tournament = tournament(kind, &keys(4, 7), None, 1);
        let score = MatchScore { votes_a: 1, votes_b: 0 };
        let (a, b) = (PlayerIdx(0), PlayerIdx(1));
        assert_eq!(tournament.record_score(a, b, score), Err(RecordError::NotPlaying { a, b }));
        let b = PlayerIdx(4);
        assert_eq!(
            tournament.record_score(a, b, score).unwrap_err().to_string(),
            "no match between players 0 and 4 is in play, \
             wanted each match of take_ready_matches() to be recorded once"
        );
    }
}

/// Maximum number of fresh pairs in a perfect matching of the players in `left`, by exhaustive
/// search.
fn most_fresh_pairs(left: u32, fresh: &dyn Fn(usize, usize) -> bool) -> usize {
    if left == 0 {
        return 0;
    }
    let first = left.trailing_zeros() as usize;
    let others = left & (left - 1);
    (0..32)
        .filter(|other| others & (1 << other) != 0)
        .map(|other| {
            usize::from(fresh(first, other)) + most_fresh_pairs(others & !(1 << other), fresh)
        })
        .max()
        .unwrap_or(0)
}

/// Plays a Swiss tournament and checks each round against all possible draws.
fn check_swiss_rounds(keys: &[u64], rounds: u32, salt: u64) {
    let n = keys.len();
    let kind = TournamentKind::Swiss;
    let mut played = tournament(kind, keys, Some(rounds), salt);
    let rank_of = |member: usize| tournament_position(&tournament(kind, keys, None, salt), member);
    let mut met = BTreeSet::new();
    let mut half_points = vec![0_u32; n];
    let mut n_byes = vec![0; n];
    while !played.is_done() {
        let ready = played.take_ready_matches();
        let fresh = |a: usize, b: usize| !met.contains(&(a.min(b), a.max(b)));
        let pairs: Vec<(usize, usize)> = ready.iter().map(|p| (p.a.0, p.b.0)).collect();
        let n_fresh = pairs.iter().filter(|&&(a, b)| fresh(a, b)).count();
        let everyone = (1_u32 << n) - 1;
        if n.is_multiple_of(2) {
            assert_eq!(n_fresh, most_fresh_pairs(everyone, &fresh), "avoidable rematch");
        } else {
            let resting = (0..n).find(|&m| pairs.iter().all(|&(a, b)| a != m && b != m)).unwrap();
            // fewest rematches, then fewest byes, then fewest points, then last in seed order
            let cost = |m: usize| {
                let n_rematches = n / 2 - most_fresh_pairs(everyone & !(1 << m), &fresh);
                (n_rematches, n_byes[m], half_points[m], usize::MAX - rank_of(m))
            };
            assert_eq!(n / 2 - n_fresh, cost(resting).0, "avoidable rematch");
            assert_eq!((0..n).min_by_key(|&m| cost(m)), Some(resting), "whose turn to rest");
            n_byes[resting] += 1;
            half_points[resting] += 2;
        }
        for (a, b) in pairs {
            met.insert((a.min(b), a.max(b)));
            let score = judge(keys[a] ^ salt, keys[b] ^ salt);
            let (to_a, to_b) = match score.outcome() {
                Ordering::Greater => (2, 0),
                Ordering::Equal => (1, 1),
                Ordering::Less => (0, 2),
            };
            half_points[a] += to_a;
            half_points[b] += to_b;
            played.record_score(PlayerIdx(a), PlayerIdx(b), score).unwrap();
        }
    }
}

fn tournament_position(tournament: &Tournament, member: usize) -> usize {
    tournament.seed_order().iter().position(|m| m.0 == member).unwrap()
}

/// Every graph on the vertices given by the bits of `edges`.
fn graph(n: usize, edges: u64) -> impl Fn(usize, usize) -> bool {
    move |a, b| {
        let (low, high) = (a.min(b), a.max(b));
        edges >> (high * (high - 1) / 2 + low) & 1 == 1 && high < n
    }
}

/// The maximum matching, by exhaustive search.
fn matching_by_trial(left: u32, adjacent: &dyn Fn(usize, usize) -> bool) -> usize {
    if left == 0 {
        return 0;
    }
    let first = left.trailing_zeros() as usize;
    let others = left & (left - 1);
    let partners = (first + 1..32).filter(|&v| others & (1 << v) != 0 && adjacent(first, v));
    let matched = partners.map(|v| 1 + matching_by_trial(others & !(1 << v), adjacent));
    matched.max().unwrap_or(0).max(matching_by_trial(others, adjacent))
}

#[test]
fn matching_is_maximum_in_all_graphs_of_six_vertices() {
    for edges in 0..1 << 15 {
        let adjacent = graph(6, edges);
        assert_eq!(maximum_matching_size(6, &adjacent), matching_by_trial(0b11_1111, &adjacent));
    }
}

fn permutation(n: usize, salt: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&idx| Seed::new(salt).child("permute", idx as u64).0);
    order
}

proptest! {
    /// The shortcut without a search agrees with the search.
    #[test]
    fn swiss_finds_a_fresh_round_while_few_have_met(
        half in 0usize..9,
        rounds in prop::collection::vec(any::<u64>(), 0..8),
    ) {
        let n = 2 * half;
        let mut met = BTreeSet::new();
        for &round in &rounds {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by_key(|&at| Seed::new(round).child("at", at as u64).0);
            met.extend(order.chunks(2).map(|pair| (pair[0].min(pair[1]), pair[0].max(pair[1]))));
        }
        if all_can_meet(n, rounds.len()) {
            let fresh = |a: usize, b: usize| !met.contains(&(a.min(b), a.max(b)));
            prop_assert_eq!(maximum_matching_size(n, fresh), half);
        }
    }
}

proptest! {
    #[test]
    fn matching_is_maximum_in_random_graphs(
        n in 7_usize..=11,
        edges in any::<u64>(),
        thin in any::<u64>(),
    ) {
        let adjacent = graph(n, edges & thin);
        let found = maximum_matching_size(n, &adjacent);
        prop_assert_eq!(found, matching_by_trial((1 << n) - 1, &adjacent));
    }

    #[test]
    fn tournament_is_permuted_with_its_players(
        n in 2_usize..=20,
        salt in any::<u64>(),
        rounds in prop::option::of(1_u32..8),
    ) {
        let keys = keys(n, salt);
        let permuted: Vec<u64> = permutation(n, salt).into_iter().map(|idx| keys[idx]).collect();
        for kind in KINDS {
            prop_assert_eq!(
                play(kind, &keys, rounds, salt, judge),
                play(kind, &permuted, rounds, salt, judge)
            );
        }
    }

    #[test]
    fn tournament_ignores_the_order_of_recording(n in 2_usize..=20, salt in any::<u64>()) {
        let keys = keys(n, salt);
        for kind in KINDS {
            let mut one = play(kind, &keys, None, salt, judge);
            let mut other = play(kind, &keys, None, !salt, judge);
            one.matches.sort_unstable();
            other.matches.sort_unstable();
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn swiss_has_no_avoidable_rematch(n in 2_usize..=9, rounds in 1_u32..=9, salt in any::<u64>()) {
        check_swiss_rounds(&keys(n, salt), rounds, salt);
    }

    #[test]
    fn tournament_plays_the_planned_matches(n in 2_usize..=24, salt in any::<u64>()) {
        let keys = keys(n, salt);
        let count = |kind| play(kind, &keys, None, salt, judge).matches.len();
        prop_assert_eq!(count(TournamentKind::Knockout), n - 1);
        prop_assert_eq!(count(TournamentKind::RoundRobin), n * (n - 1) / 2);
        let rounds = (n as f64).log2().ceil() as usize + 1;
        let most = if n % 2 == 0 { n - 1 } else { n };
        prop_assert_eq!(count(TournamentKind::Swiss), rounds.min(most) * (n / 2));
    }
}
