//! Fits against independent references, the always-first judge, and permuted members.

use std::collections::BTreeMap;

use joust_schema::seed::Seed;
use proptest::prelude::*;
use serde::Deserialize;

use super::bradley_terry::{
    BradleyTerry, BradleyTerryConfig, POSITION_BIAS_PRIOR_SD, PositionBias, bradley_terry,
    bradley_terry_of_groups, bradley_terry_with_bias,
};
use super::elo::{EloConfig, elo};
use super::*;

fn match_votes(a: usize, b: usize, a_first: [u32; 2], b_first: [u32; 2]) -> MatchVotes {
    let order = |[a, b]: [u32; 2]| VoteCounts { a, b };
    MatchVotes { a, b, a_first: order(a_first), b_first: order(b_first) }
}

fn fit(n: usize, matches: &[MatchVotes]) -> BradleyTerry {
    bradley_terry(n, matches, &BradleyTerryConfig::default())
}

fn thetas(fit: &BradleyTerry) -> Vec<f64> {
    fit.ratings.iter().map(|rating| rating.theta).collect()
}

pub(super) fn assert_close(seen: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(seen.len(), wanted.len(), "{what}");
    for (seen, wanted) in seen.iter().zip(wanted) {
        assert!((seen - wanted).abs() <= tolerance, "{what}: {seen} is not {wanted}");
    }
}

#[derive(Deserialize)]
struct Golden {
    position_bias_prior_sd: f64,
    cases: Vec<PosteriorCase>,
    prior_free: Vec<PriorFreeCase>,
}

#[derive(Deserialize)]
struct PosteriorCase {
    name: String,
    n: usize,
    prior_sd: f64,
    position_bias_fitted: bool,
    games: Vec<[u32; 6]>,
    theta: Vec<f64>,
    stderr: Vec<f64>,
    win_rate: Vec<f64>,
    position_bias: f64,
    position_bias_stderr: f64,
}

#[derive(Deserialize)]
struct PriorFreeCase {
    name: String,
    n: usize,
    games: Vec<[u32; 6]>,
    theta: Vec<f64>,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/ratings.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn golden_matches(rows: &[[u32; 6]]) -> Vec<MatchVotes> {
    rows.iter()
        .map(|&[a, b, p, q, r, s]| match_votes(a as usize, b as usize, [p, q], [r, s]))
        .collect()
}

#[test]
fn bradley_terry_has_the_posterior_of_scipy() {
    let golden = golden();
    assert_eq!(golden.position_bias_prior_sd, POSITION_BIAS_PRIOR_SD);
    for case in golden.cases {
        let config = BradleyTerryConfig {
            prior_sd: case.prior_sd,
            position_bias: case.position_bias_fitted,
        };
        let fit = bradley_terry(case.n, &golden_matches(&case.games), &config);
        let column = |value: fn(&bradley_terry::Strength) -> f64| -> Vec<f64> {
            fit.ratings.iter().map(value).collect()
        };
        assert_close(&column(|r| r.theta), &case.theta, 2e-10, &case.name);
        assert_close(&column(|r| r.stderr), &case.stderr, 2e-10, &case.name);
        assert_close(&column(|r| r.win_rate), &case.win_rate, 2e-10, &case.name);
        let bias = [fit.position_bias.logits, fit.position_bias.stderr];
        assert_close(&bias, &[case.position_bias, case.position_bias_stderr], 2e-10, &case.name);
        assert!(fit.iterations <= 20, "{}: {} iterations", case.name, fit.iterations);
    }
}

#[derive(Deserialize)]
struct PooledGolden {
    position_bias_prior_sd: f64,
    cases: BTreeMap<String, PooledCase>,
}

#[derive(Deserialize)]
struct PooledCase {
    prior_sd: f64,
    groups: Vec<PooledGroup>,
    position_bias: f64,
    position_bias_stderr: f64,
}

#[derive(Deserialize)]
struct PooledGroup {
    n: usize,
    games: Vec<[u32; 6]>,
    theta: Vec<f64>,
    stderr: Vec<f64>,
}

#[test]
fn bradley_terry_of_groups_has_the_posterior_of_scipy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/pooled_ratings.json");
    let golden: PooledGolden =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(golden.position_bias_prior_sd, POSITION_BIAS_PRIOR_SD);
    assert_eq!(golden.cases.len(), 3);
    for (name, case) in golden.cases {
        let config = BradleyTerryConfig { prior_sd: case.prior_sd, position_bias: true };
        let matches: Vec<Vec<MatchVotes>> =
            case.groups.iter().map(|group| golden_matches(&group.games)).collect();
        let groups: Vec<GroupVotes<'_>> = case
            .groups
            .iter()
            .zip(&matches)
            .map(|(group, matches)| GroupVotes { n: group.n, matches })
            .collect();
        let fits = bradley_terry_of_groups(&groups, &config);
        assert_eq!(fits.len(), case.groups.len());
        for ((fit, group), votes) in fits.iter().zip(&case.groups).zip(&groups) {
            let bias = [fit.position_bias.logits, fit.position_bias.stderr];
            assert_close(&bias, &[case.position_bias, case.position_bias_stderr], 2e-10, &name);
            assert_close(&thetas(fit), &group.theta, 2e-10, &name);
            assert_close(&stderrs(fit), &group.stderr, 2e-10, &name);
            // the bias that all groups gave is all that a group needs of the others
            let alone = bradley_terry_with_bias(votes.n, votes.matches, &config, fit.position_bias);
            assert_close(&thetas(&alone), &thetas(fit), 1e-10, &name);
            assert_close(&stderrs(&alone), &stderrs(fit), 1e-10, &name);
        }
    }
}

fn stderrs(fit: &BradleyTerry) -> Vec<f64> {
    fit.ratings.iter().map(|rating| rating.stderr).collect()
}

#[test]
fn bradley_terry_of_many_groups_leaves_little_to_an_always_first_judge() {
    // three rounds of one vote: everyone was shown first once more than second, or once less
    let matches: Vec<MatchVotes> = (0..4)
        .flat_map(|pair| {
            let (a, b) = (2 * pair, 2 * pair + 1);
            let next = (b + 1) % 8;
            [(a, b), (b, next), (a, (a + 5) % 8)]
        })
        .map(|(a, b)| match_votes(a, b, [1, 0], [0, 0]))
        .collect();
    let spread = |n_groups: usize| {
        let group = GroupVotes { n: 8, matches: &matches };
        let fits = bradley_terry_of_groups(&vec![group; n_groups], &Default::default());
        let rates = fits[0].ratings.iter().map(|rating| rating.win_rate);
        rates.clone().fold(0.0, f64::max) - rates.fold(1.0, f64::min)
    };
    let (one, step, file) = (spread(1), spread(16), spread(400));
    assert!(one > 2.0 * step && step > 2.0 * file, "{one} {step} {file}");
    assert!(file < 0.02, "{file}");
}

#[test]
fn bradley_terry_of_a_thousand_players_is_quick() {
    let n = 1_000;
    let matches: Vec<MatchVotes> = (0..n)
        .flat_map(|a| (1..=5).map(move |step| (a, (a + step * step * 7) % n)))
        .map(|(a, b)| {
            let a_wins = Seed::new(a as u64).child("against", b as u64).unit() < 0.6;
            match_votes(a, b, [u32::from(a_wins), u32::from(!a_wins)], [0, 0])
        })
        .collect();
    let began = std::time::Instant::now();
    let fit = fit(n, &matches);
    assert!(thetas(&fit).iter().sum::<f64>().abs() < 1e-9);
    // without optimisation, on a busy machine; with it, half a second
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}

#[test]
fn bradley_terry_with_a_vanishing_prior_is_the_fit_of_choix() {
    for case in golden().prior_free {
        let config = BradleyTerryConfig { prior_sd: 1e4, position_bias: false };
        let fit = bradley_terry(case.n, &golden_matches(&case.games), &config);
        assert_close(&thetas(&fit), &case.theta, 2e-6, &case.name);
    }
}

#[test]
fn bradley_terry_rates_all_equal_under_an_always_first_judge_in_balanced_orders() {
    // a full round robin, a bracket, and a graph of two parts with unlike numbers of votes
    let round_robin = (0..7).flat_map(|b| (0..b).map(move |a| (a, b, 3))).collect();
    let bracket = vec![(0, 1, 1), (2, 3, 1), (4, 5, 1), (0, 2, 1), (4, 6, 1), (0, 4, 1)];
    let parts = vec![(0, 1, 1), (1, 2, 40), (3, 4, 7), (5, 6, 1000)];
    for pairs in [round_robin, bracket, parts] {
        let matches: Vec<MatchVotes> =
            pairs.iter().map(|&(a, b, votes)| match_votes(a, b, [votes, 0], [0, votes])).collect();
        let fit = fit(7, &matches);
        assert!(fit.position_bias.logits > 0.5, "{:?}", fit.position_bias);
        for rating in &fit.ratings {
            assert!(rating.theta.abs() < 1e-12 && (rating.win_rate - 0.5).abs() < 1e-12);
        }
        let elo_like = win_rate(7, &matches);
        assert!(elo_like.iter().all(|rate| rate.is_none_or(|rate| rate == 0.5)));
    }
}

#[test]
fn bradley_terry_fits_the_opposite_bias_of_an_always_second_judge() {
    let first = fit(2, &[match_votes(0, 1, [4, 0], [0, 4])]);
    let second = fit(2, &[match_votes(0, 1, [0, 4], [4, 0])]);
    let biases = [first, second.clone()].map(|fit| fit.position_bias.logits);
    assert_close(&[biases[1]], &[-biases[0]], 1e-12, "bias");
    assert_close(&thetas(&second), &[0.0, 0.0], 1e-12, "strengths");
}

#[test]
fn bradley_terry_explains_unbalanced_orders_by_the_position_term() {
    // One vote a match, won by whoever was shown first. In a ring everyone was first once and
    // second once: the position explains everything.
    let ring: Vec<MatchVotes> =
        (0..6).map(|a| match_votes(a, (a + 1) % 6, [1, 0], [0, 0])).collect();
    assert_close(&thetas(&fit(6, &ring)), &[0.0; 6], 1e-12, "ring");
    // In a ladder the upper ones were first more often: only a part can be explained, and the rest
    // is shrunk.
    let ladder: Vec<MatchVotes> =
        (0..6).flat_map(|b| (0..b).map(move |a| match_votes(a, b, [1, 0], [0, 0]))).collect();
    let without = BradleyTerryConfig { position_bias: false, ..Default::default() };
    let plain = thetas(&bradley_terry(6, &ladder, &without));
    let explained = thetas(&fit(6, &ladder));
    assert!(plain[0] > 1.0);
    assert!(explained[0] > 0.0 && explained[0] < 0.9 * plain[0], "{explained:?} {plain:?}");
    // Unlike votes for unlike reasons: a judge with a bias and the truth, one vote in a random
    // order each.
    let fitted = fit(2, &[match_votes(0, 1, [3, 1], [0, 0])]);
    let plain = bradley_terry(2, &[match_votes(0, 1, [3, 1], [0, 0])], &without);
    assert!(fitted.ratings[0].theta < plain.ratings[0].theta && fitted.position_bias.logits > 0.0);
    assert!(fitted.ratings[0].stderr > plain.ratings[0].stderr, "less is known");
}

#[test]
fn bradley_terry_keeps_the_prior_without_votes() {
    for n in 0..4 {
        let fit = fit(n, &[]);
        assert_eq!(fit.position_bias, PositionBias { logits: 0.0, stderr: POSITION_BIAS_PRIOR_SD });
        assert_eq!(fit.ratings.len(), n);
        for rating in fit.ratings {
            assert_eq!((rating.theta, rating.win_rate), (0.0, 0.5));
            let of_centred = 1.5 * (1.0 - 1.0 / n as f64).sqrt();
            assert!((rating.stderr - of_centred).abs() < 1e-12, "{}", rating.stderr);
        }
    }
    let off = BradleyTerryConfig { position_bias: false, ..Default::default() };
    let fit = bradley_terry(2, &[match_votes(0, 1, [5, 0], [0, 1])], &off);
    assert_eq!(fit.position_bias, PositionBias::default());
}

#[test]
fn bradley_terry_stays_finite_for_a_player_that_won_everything() {
    let matches: Vec<MatchVotes> =
        (1..5).map(|b| match_votes(0, b, [u32::MAX, 0], [u32::MAX, 0])).collect();
    let config = BradleyTerryConfig { prior_sd: 10.0, position_bias: true };
    let fit = bradley_terry(5, &matches, &config);
    assert!(thetas(&fit).iter().all(|theta| theta.is_finite()));
    assert!(fit.ratings[0].win_rate > 0.999 && fit.ratings[0].win_rate <= 1.0);
    assert!(fit.iterations < 200, "{}", fit.iterations);
}

#[test]
fn rating_settings_that_are_wrong_are_named() {
    let wrong = |prior_sd| BradleyTerryConfig { prior_sd, position_bias: true }.validate();
    assert_eq!(wrong(0.0), ["prior_sd is 0, wanted at least 0.001 and at most 10000"]);
    assert_eq!((wrong(f64::NAN).len(), wrong(f64::INFINITY).len(), wrong(0.1).len()), (1, 1, 0));
    assert_eq!(EloConfig { k: -1.0, start: f64::NAN }.validate().len(), 2);
    assert!(EloConfig::default().validate().is_empty());
    assert!(serde_json::from_str::<BradleyTerryConfig>(r#"{"prior": 1}"#).is_err());
    let parsed: EloConfig = serde_json::from_str(r#"{"k": 16}"#).unwrap();
    assert_eq!(parsed, EloConfig { k: 16.0, start: 1000.0 });
}

#[test]
fn elo_numbers_have_base_ten_and_scale_four_hundred() {
    assert_eq!(elo_number(0.0), 1000.0);
    assert_close(&[elo_number(std::f64::consts::LN_10)], &[1400.0], 1e-9, "odds of ten to one");
}

#[test]
fn elo_follows_the_textbook() {
    let config = EloConfig::default();
    let one = elo(&[7, 3], &[match_votes(0, 1, [0, 0], [1, 0])], &config, Seed::new(1));
    assert_close(&one, &[1016.0, 984.0], 1e-12, "an even match moves both by half of k");
    let two = elo(&[7, 3], &[match_votes(0, 1, [1, 0], [1, 0])], &config, Seed::new(1));
    let expected = 1.0 / (1.0 + 10_f64.powf((984.0 - 1016.0) / 400.0));
    let gain = 16.0 + 32.0 * (1.0 - expected);
    assert_close(&two, &[1000.0 + gain, 1000.0 - gain], 1e-9, "the favourite gains less");
    assert_eq!(elo(&[1, 2, 3], &[], &config, Seed::new(1)), [1000.0; 3]);
}

#[test]
fn elo_depends_on_the_seed() {
    let matches = [match_votes(0, 1, [2, 1], [1, 2]), match_votes(1, 2, [2, 0], [1, 1])];
    let of = |seed| elo(&[1, 2, 3], &matches, &EloConfig::default(), Seed::new(seed));
    assert_eq!(of(1), of(1));
    assert!((2..10).any(|seed| of(seed) != of(1)));
}

#[test]
fn win_rate_is_the_share_of_valid_votes() {
    let matches = [
        match_votes(0, 1, [2, 1], [0, 0]),
        match_votes(2, 0, [1, 0], [1, 1]),
        match_votes(1, 3, [0, 0], [0, 0]),
    ];
    assert_eq!(win_rate(4, &matches), [Some(0.5), Some(1.0 / 3.0), Some(2.0 / 3.0), None]);
}

/// Games of a group, an even share of them with votes in one order only.
fn any_matches(n: usize) -> impl Strategy<Value = Vec<MatchVotes>> {
    let votes = [0_u32..4, 0..4, 0..4, 0..4];
    let one = (0..n, 1..n, votes)
        .prop_map(move |(a, gap, [p, q, r, s])| match_votes(a, (a + gap) % n, [p, q], [r, s]));
    prop::collection::vec(one, 0..3 * n)
}

fn any_group() -> impl Strategy<Value = (usize, Vec<MatchVotes>)> {
    (2_usize..10).prop_flat_map(|n| any_matches(n).prop_map(move |matches| (n, matches)))
}

/// Tells each pair from the other member's side.
fn swapped(pair: &MatchVotes) -> MatchVotes {
    let swap = |order: VoteCounts| VoteCounts { a: order.b, b: order.a };
    MatchVotes { a: pair.b, b: pair.a, a_first: swap(pair.b_first), b_first: swap(pair.a_first) }
}

proptest! {
    #[test]
    fn ratings_are_permuted_with_the_players((n, matches) in any_group(), salt in any::<u64>()) {
        let keys: Vec<u64> = (0..n as u64).map(|idx| Seed::new(salt).child("key", idx).0).collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&idx| Seed::new(salt).child("permute", idx as u64).0);
        // Member order[i] moves to position i, matches are listed backwards, and every other one is
        // told by the other side.
        let place = |member: usize| order.iter().position(|&m| m == member).unwrap();
        let moved: Vec<MatchVotes> = matches
            .iter()
            .rev()
            .map(|pair| MatchVotes { a: place(pair.a), b: place(pair.b), ..*pair })
            .enumerate()
            .map(|(idx, pair)| if idx % 2 == 0 { pair } else { swapped(&pair) })
            .collect();
        let moved_keys: Vec<u64> = order.iter().map(|&member| keys[member]).collect();

        let (config, seed) = (EloConfig::default(), Seed::new(salt));
        let expected = elo(&keys, &matches, &config, seed);
        let seen = elo(&moved_keys, &moved, &config, seed);
        let permuted: Vec<_> = order.iter().map(|&m| expected[m]).collect();
        prop_assert_eq!(seen, permuted);

        let expected = win_rate(n, &matches);
        let permuted: Vec<_> = order.iter().map(|&m| expected[m]).collect();
        prop_assert_eq!(win_rate(n, &moved), permuted);

        let (expected, seen) = (fit(n, &matches), fit(n, &moved));
        let expected_thetas = thetas(&expected);
        let permuted: Vec<f64> = order.iter().map(|&m| expected_thetas[m]).collect();
        assert_close(&thetas(&seen), &permuted, 1e-11, "strengths");
        let (bias, of_moved) = (expected.position_bias.logits, seen.position_bias.logits);
        assert_close(&[of_moved], &[bias], 1e-11, "bias");
    }

    #[test]
    fn bradley_terry_is_finite_centred_and_quick(
        (n, matches) in any_group(),
        prior_sd in 0.05_f64..50.0,
    ) {
        let config = BradleyTerryConfig { prior_sd, position_bias: true };
        let fit = bradley_terry(n, &matches, &config);
        let thetas = thetas(&fit);
        prop_assert!(thetas.iter().sum::<f64>().abs() < 1e-9);
        prop_assert!(fit.iterations < 50, "{} iterations", fit.iterations);
        for rating in &fit.ratings {
            prop_assert!(rating.theta.is_finite() && rating.stderr > 0.0);
            prop_assert!(rating.stderr <= prior_sd, "votes never make less known than the prior");
            prop_assert!((0.0..=1.0).contains(&rating.win_rate));
        }
        let mean = fit.ratings.iter().map(|r| r.win_rate).sum::<f64>() / n as f64;
        prop_assert!((mean - 0.5).abs() < 1e-12);
        // what one member wins another loses
        let numbers = elo(&vec![1; n], &matches, &EloConfig::default(), Seed::new(0));
        prop_assert!((numbers.iter().sum::<f64>() - 1000.0 * n as f64).abs() < 1e-6);
    }
}

#[test]
fn expected_win_rate_counts_members_and_not_players() {
    let beats = |a: usize, b: usize| [[0.5, 0.8, 0.9], [0.2, 0.5, 0.6], [0.1, 0.4, 0.5]][a][b];
    let close = |seen: Vec<Option<f64>>, wanted: [Option<f64>; 3]| {
        for (seen, wanted) in seen.into_iter().zip(wanted) {
            assert_eq!(seen.is_some(), wanted.is_some());
            assert!((seen.unwrap_or(0.0) - wanted.unwrap_or(0.0)).abs() < 1e-12, "{seen:?}");
        }
    };
    close(expected_win_rate(&[1, 1, 1], &beats), [Some(0.85), Some(0.4), Some(0.25)]);
    // two members are the same player, and a third of the group has no rating
    let of_two = [(0.5 + 0.8) / 2.0, (0.2 + 0.2) / 2.0, (2.0 * 0.1 + 0.4) / 3.0];
    close(expected_win_rate(&[2, 1, 0], &beats), of_two.map(Some));
    close(expected_win_rate(&[1, 0, 0], &beats), [None, Some(0.2), Some(0.1)]);
}
