//! Slopes against scipy and by hand, what they leave alone, and permuted players.

use std::collections::BTreeMap;

use joust_schema::seed::Seed;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::rating::bradley_terry::{POSITION_BIAS_PRIOR_SD, bradley_terry_of_groups};
use crate::rating::tests::assert_close;
use crate::rating::{MatchVotes, VoteCounts};

fn match_votes(&[a, b, p, q, r, s]: &[u32; 6]) -> MatchVotes {
    let order = |a: u32, b: u32| VoteCounts { a, b };
    MatchVotes { a: a as usize, b: b as usize, a_first: order(p, q), b_first: order(r, s) }
}

/// Lengths and games of a group.
#[derive(Clone, Debug)]
struct Group {
    lengths: Vec<usize>,
    matches: Vec<MatchVotes>,
}

impl Group {
    fn new(lengths: &[usize], games: &[[u32; 6]]) -> Self {
        Self { lengths: lengths.to_vec(), matches: games.iter().map(match_votes).collect() }
    }
}

struct Controlled {
    plain: Vec<BradleyTerry>,
    slope: Option<LengthSlope>,
    at_equal_length: Vec<BradleyTerry>,
}

fn control(groups: &[Group], config: &BradleyTerryConfig) -> Controlled {
    let measured: Vec<MeasuredGroup<'_>> = groups
        .iter()
        .map(|Group { lengths, matches }| {
            let votes = GroupVotes { n: lengths.len(), matches };
            MeasuredGroup { votes, lengths }
        })
        .collect();
    let votes: Vec<GroupVotes<'_>> = measured.iter().map(|group| group.votes).collect();
    let plain = bradley_terry_of_groups(&votes, config);
    let fit = LengthFit::of(&measured, &plain, config);
    let slope = fit.as_ref().map(LengthFit::slope);
    let at_equal_length = fit.map_or(plain.clone(), |fit| fit.at_equal_length());
    Controlled { plain, slope, at_equal_length }
}

#[derive(Deserialize)]
struct Golden {
    position_bias_prior_sd: f64,
    length_slope_prior_sd: f64,
    cases: BTreeMap<String, GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    prior_sd: f64,
    groups: Vec<GoldenGroup>,
    position_bias: f64,
    length_slope: f64,
    length_slope_stderr: f64,
}

#[derive(Deserialize)]
struct GoldenGroup {
    lengths: Vec<usize>,
    games: Vec<[u32; 6]>,
    theta: Vec<f64>,
    stderr: Vec<f64>,
}

#[test]
fn length_control_has_the_posterior_of_scipy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/length_control.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(golden.position_bias_prior_sd, POSITION_BIAS_PRIOR_SD);
    assert_eq!(golden.length_slope_prior_sd, LENGTH_SLOPE_PRIOR_SD);
    assert_eq!(golden.cases.len(), 3);
    for (name, case) in golden.cases {
        let config = BradleyTerryConfig { prior_sd: case.prior_sd, position_bias: true };
        let of_golden = |group: &GoldenGroup| Group::new(&group.lengths, &group.games);
        let groups: Vec<Group> = case.groups.iter().map(of_golden).collect();
        let controlled = control(&groups, &config);
        let slope = controlled.slope.unwrap();
        let wanted = [case.length_slope, case.length_slope_stderr];
        assert_close(&[slope.logits, slope.stderr], &wanted, 2e-10, &name);
        for (fit, group) in controlled.at_equal_length.iter().zip(&case.groups) {
            let stderrs: Vec<f64> = fit.ratings.iter().map(|rating| rating.stderr).collect();
            assert_close(&[fit.position_bias.logits], &[case.position_bias], 2e-10, &name);
            assert_close(&thetas(fit), &group.theta, 2e-10, &name);
            assert_close(&stderrs, &group.stderr, 2e-10, &name);
            assert!(fit.iterations < 40, "{name}: {} iterations", fit.iterations);
        }
    }
}

#[test]
fn length_slope_of_one_vote_is_that_of_the_formula() {
    // one vote for the longer of two: lengths 10 from their mean, sd^2 = 200 / (2 - 1)
    let config = BradleyTerryConfig { prior_sd: 1.5, position_bias: false };
    let controlled = control(&[Group::new(&[10, 30], &[[0, 1, 0, 1, 0, 0]])], &config);
    let term = (10.0 / 200_f64.sqrt()).tanh();
    let gamma = controlled.slope.unwrap().logits;
    let theta = thetas(&controlled.at_equal_length[0]);
    let missing = 1.0 / (1.0 + (theta[1] - theta[0] + 2.0 * term * gamma).exp());
    assert_close(&theta, &[-2.25 * missing, 2.25 * missing], 1e-10, "strengths");
    assert_close(&[gamma], &[2.0 * term * missing], 1e-10, "slope");
    // the same by the whole strengths
    let whole = [theta[0] - gamma * term, theta[1] + gamma * term];
    let along = term * (whole[1] - whole[0]);
    assert_close(&[gamma], &[along / (2.0 * term * term + 2.25)], 1e-10, "shrinkage");
    // a part of what the plain strengths say is the length's
    assert!(theta[1] < thetas(&controlled.plain[0])[1] && theta[1] > 0.0);
}

#[test]
fn length_slope_needs_lengths_that_differ_among_players_with_votes() {
    let config = BradleyTerryConfig::default();
    let game = [0, 1, 1, 0, 0, 2];
    let equal = Group::new(&[50, 50, 50], &[game, [1, 2, 1, 0, 0, 0]]);
    let unplayed = Group::new(&[50, 50, 900], &[game, [1, 2, 0, 0, 0, 0]]);
    let alone = [Group::new(&[7], &[]), Group::new(&[], &[]), Group::new(&[1, 9], &[])];
    for groups in [&[equal.clone()][..], &[unplayed], &alone, &[]] {
        let controlled = control(groups, &config);
        assert_eq!(controlled.slope, None);
        assert_eq!(controlled.at_equal_length, controlled.plain);
    }
    // beside groups of other lengths, too
    let other = Group::new(&[10, 90], &[[0, 1, 0, 2, 1, 3]]);
    let controlled = control(&[equal, other], &config);
    assert!(controlled.slope.is_some());
    assert_eq!(controlled.at_equal_length[0], controlled.plain[0]);
    assert_ne!(controlled.at_equal_length[1], controlled.plain[1]);
}

#[test]
fn length_of_a_player_without_votes_changes_nothing() {
    let games = [[0, 1, 1, 0, 0, 2], [1, 3, 1, 0, 0, 0], [3, 2, 0, 0, 0, 0]];
    let of = |length: usize| {
        control(&[Group::new(&[30, 80, length, 55], &games)], &BradleyTerryConfig::default())
    };
    let (short, long) = (of(1), of(100_000));
    assert_eq!(short.slope, long.slope);
    assert_eq!(short.at_equal_length, long.at_equal_length);
    assert_eq!(short.at_equal_length[0].ratings[2].theta, 0.0);
}

#[test]
fn length_slope_of_mirrored_lengths_is_the_opposite() {
    let games = [[0, 1, 1, 0, 0, 2], [1, 2, 1, 1, 0, 3], [2, 0, 0, 2, 1, 1]];
    let of = |lengths: [usize; 3]| {
        control(&[Group::new(&lengths, &games)], &BradleyTerryConfig::default())
    };
    let (one, other) = (of([20, 45, 400]), of([480, 455, 100]));
    assert_close(&[one.slope.unwrap().logits], &[-other.slope.unwrap().logits], 1e-12, "slope");
    let [one, other] = [one, other].map(|controlled| thetas(&controlled.at_equal_length[0]));
    assert_close(&one, &other, 1e-12, "strengths");
}

#[test]
fn length_slope_of_extreme_lengths_is_finite() {
    let games: Vec<[u32; 6]> = (1..5).map(|other| [0, other, u32::MAX, 0, u32::MAX, 0]).collect();
    let config = BradleyTerryConfig { prior_sd: 10.0, position_bias: true };
    let group = Group::new(&[usize::MAX >> 12, 0, 1, 2, 3], &games);
    let controlled = control(&[group], &config);
    assert!(controlled.slope.unwrap().logits.is_finite());
    let fit = &controlled.at_equal_length[0];
    assert!(fit.ratings.iter().all(|rating| rating.theta.is_finite() && rating.stderr > 0.0));
}

fn any_group() -> impl Strategy<Value = Group> {
    let votes = prop::array::uniform4(0_u32..4);
    (2_usize..9).prop_flat_map(move |n| {
        let game = (0..n as u32, 1..n as u32, votes.clone()).prop_map(move |(a, gap, votes)| {
            let [p, q, r, s] = votes;
            [a, (a + gap) % n as u32, p, q, r, s]
        });
        let games = prop::collection::vec(game, 0..3 * n);
        let lengths = prop::collection::vec(0_usize..300, n);
        (lengths, games).prop_map(|(lengths, games)| Group::new(&lengths, &games))
    })
}

proptest! {
    #[test]
    fn strengths_at_equal_length_are_permuted_with_the_players(
        group in any_group(),
        other in any_group(),
        prior_sd in 0.05_f64..20.0,
        salt in any::<u64>(),
    ) {
        let n = group.lengths.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&idx| Seed::new(salt).child("permute", idx as u64).0);
        let place = |player: usize| order.iter().position(|&p| p == player).unwrap();
        let moved = Group {
            lengths: order.iter().map(|&player| group.lengths[player]).collect(),
            matches: group
                .matches
                .iter()
                .rev()
                .map(|pair| MatchVotes { a: place(pair.a), b: place(pair.b), ..*pair })
                .collect(),
        };
        let config = BradleyTerryConfig { prior_sd, position_bias: true };
        let wanted = control(&[group.clone(), other.clone()], &config);
        let seen = control(&[moved, other], &config);
        prop_assert_eq!(wanted.slope.is_some(), seen.slope.is_some());
        if let (Some(wanted), Some(seen)) = (wanted.slope, seen.slope) {
            let numbers = [seen, wanted].map(|slope| [slope.logits, slope.stderr]);
            assert_close(&numbers[0], &numbers[1], 1e-9, "slope");
            prop_assert!(seen.logits.is_finite() && seen.stderr <= LENGTH_SLOPE_PRIOR_SD);
        }
        let of_first = thetas(&wanted.at_equal_length[0]);
        let permuted: Vec<f64> = order.iter().map(|&player| of_first[player]).collect();
        assert_close(&thetas(&seen.at_equal_length[0]), &permuted, 1e-9, "strengths");
        for fit in &seen.at_equal_length {
            prop_assert!(thetas(fit).iter().sum::<f64>().abs() < 1e-9);
        }
    }
}
