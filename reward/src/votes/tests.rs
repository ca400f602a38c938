//! The stop rules: their votes and their accuracy with judges of known accuracy.

use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;

use super::*;
use crate::arena::{Arena, GroupRequest};
use crate::config::{RewardConfig, TournamentConfig};
use crate::judge::ScriptedJudge;

fn rule(max: u32, stop: Stop) -> VoteRule {
    VoteRule { max, stop, ..VoteRule::default() }
}

#[test]
fn posterior_is_that_of_the_beta_distribution() {
    // scipy.stats.beta.sf(0.5, 1 + more, 1 + less)
    for (more, less, wanted) in [
        (0, 0, 0.5),
        (1, 0, 0.75),
        (2, 0, 0.875),
        (4, 0, 0.96875),
        (3, 1, 0.8125),
        (9, 4, 0.910_217_285),
    ] {
        assert!((posterior(more, less) - wanted).abs() < 1e-9, "{}", posterior(more, less));
        assert!((posterior(less, more) - wanted).abs() < 1e-9);
    }
}

#[test]
fn vote_rule_first_requests_the_votes_that_could_decide() {
    let wanted = |rule: VoteRule, pairs: &[[Option<bool>; 2]]| rule.n_wanted(&finished(pairs));
    let (a, split) = ([Some(true); 2], [Some(true), Some(false)]);
    assert_eq!(wanted(rule(16, Stop::Lead), &[]), 2);
    assert_eq!(wanted(rule(16, Stop::Lead), &[split]), 4);
    assert_eq!(wanted(rule(16, Stop::Lead), &[a]), 2, "it is decided");
    assert_eq!(wanted(rule(16, Stop::Posterior), &[]), 2);
    let strict = VoteRule { threshold: 0.95, ..rule(16, Stop::Posterior) };
    assert_eq!(wanted(strict, &[]), 4);
    assert_eq!(wanted(rule(3, Stop::Majority), &[]), 2);
    assert_eq!(wanted(rule(3, Stop::Majority), &[split]), 3);
    assert_eq!(wanted(rule(5, Stop::Majority), &[]), 4);
    assert_eq!(wanted(rule(5, Stop::Never), &[]), 5);
    assert_eq!(wanted(VoteRule { ahead: 3, ..rule(16, Stop::Lead) }, &[]), 5);
    assert_eq!(wanted(VoteRule { ahead: 3, ..rule(16, Stop::Lead) }, &[split]), 7);
    assert_eq!(wanted(VoteRule { ahead: 3, ..rule(4, Stop::Lead) }, &[]), 4);
    let most = VoteRule { ahead: u32::MAX, ..rule(u32::MAX, Stop::Never) };
    assert_eq!(wanted(most, &[split]), u32::MAX);
    for stop in [Stop::Never, Stop::Majority, Stop::Lead, Stop::Posterior] {
        let mut all = finished(&[a, split, split]);
        all.add_last(Some(false));
        assert!(rule(7, stop).is_decided(&all));
        assert_eq!(rule(7, stop).n_wanted(&all), 7);
    }
}

fn finished(pairs: &[[Option<bool>; 2]]) -> FinishedPairs {
    let mut finished = FinishedPairs::default();
    pairs.iter().for_each(|&pair| finished.add(pair));
    finished
}

#[test]
fn vote_rule_counts_pairs_with_two_valid_votes() {
    let (half, none) = ([Some(true), None], [None, None]);
    let halves = vec![half; 7];
    for stop in [Stop::Lead, Stop::Posterior] {
        assert!(!rule(16, stop).is_decided(&finished(&halves)), "{stop:?}");
        let with_pair: Vec<_> = halves.iter().copied().chain([[Some(false); 2]]).collect();
        assert!(rule(32, stop).is_decided(&finished(&with_pair)), "{stop:?}");
    }
    // 2:0 in pairs; two further votes and one without a partner could still turn the match
    let majority = rule(6, Stop::Majority);
    assert!(!majority.is_decided(&finished(&[[Some(true); 2], half])));
    assert!(!majority.is_decided(&finished(&[[Some(true); 2], none])), "2:2 is possible");
    assert!(rule(5, Stop::Majority).is_decided(&finished(&[[Some(true); 2], none])));
}

#[test]
fn posterior_stays_a_probability_for_any_number_of_votes() {
    for (more, less) in [(1_500, 1_500), (2_000, 1_000), (100_000, 0), (60_000, 59_500)] {
        let seen = posterior(more, less);
        assert!((0.5..=1.0).contains(&seen), "{more}:{less} {seen}");
        // the normal approximation: less than half of it is in the other tail
        let z = f64::from(more - less) / f64::from(more + less).sqrt();
        assert!((z > 4.0) == (seen > 0.9999), "{more}:{less} {seen} {z}");
    }
}

#[test]
fn vote_rule_reads_a_number_or_a_table_and_names_mistakes() {
    let read = |text: &str| toml::from_str::<TournamentConfig>(text).map(|config| config.votes);
    assert_eq!(read("votes = 3").unwrap(), VoteRule::from(3));
    let table = r#"votes = { max = 16, stop = "lead", lead = 3 }"#;
    assert_eq!(read(table).unwrap(), VoteRule { lead: 3, ..rule(16, Stop::Lead) });
    for (text, wanted) in [
        ("votes = -1", "no number of votes"),
        ("votes = { max = 4, top = 1 }", "unknown field `top`"),
        ("votes = \"many\"", "a number of votes, or a table"),
    ] {
        assert!(read(text).unwrap_err().to_string().contains(wanted), "{text}");
    }
    let problems = |votes| TournamentConfig { votes, ..TournamentConfig::default() }.validate();
    assert_eq!(problems(VoteRule::from(0)), ["votes is 0, wanted at least 1"]);
    for stop in [Stop::Never, Stop::Majority, Stop::Lead, Stop::Posterior] {
        assert!(problems(rule(2, stop)).is_empty(), "one vote per order");
    }
    // `lead` matters to `lead` alone
    let no_lead = |stop| problems(VoteRule { lead: 0, ..rule(5, stop) });
    assert_eq!(no_lead(Stop::Lead), ["votes.lead is 0, wanted at least 1"]);
    assert!(no_lead(Stop::Never).is_empty());
    let certain = VoteRule { threshold: 1.0, ..rule(3, Stop::Posterior) };
    assert_eq!(problems(certain), ["votes.threshold is 1, wanted above 0.5 and below 1"]);
}

/// Prefers the better of two answers ("good", "bad") with a probability that the question names,
/// and adds to it its preference for the first place.
fn noisy(for_first_place: f64) -> ScriptedJudge<'static> {
    ScriptedJudge::of_verdicts(move |request| {
        let p: f64 = request.question.parse().unwrap();
        let good_first = request.answer_first == "good";
        let for_first = if good_first { p } else { 1.0 - p } + for_first_place;
        Ok(if request.seed.unit() < for_first { Verdict::First } else { Verdict::Second })
    })
}

/// Share of pairs in which the good answer won (a tie counts half), and votes per match.
fn play(votes: &VoteRule, judge: &mut ScriptedJudge<'_>, accuracies: &[f64]) -> (f64, f64) {
    let tournament = TournamentConfig { votes: votes.clone(), ..TournamentConfig::default() };
    let config = RewardConfig { tournament, ..RewardConfig::default() };
    let mut arena = Arena::new(&config, false);
    for (idx, p) in accuracies.iter().enumerate() {
        let group = GroupRequest {
            step: 0,
            group_id: GroupId(format!("{idx}")),
            question: p.to_string(),
            completions: vec!["good".to_owned(), "bad".to_owned()],
            reference: None,
            seed: Seed::new(1).child("pair", idx as u64),
            tournament: None,
        };
        arena.add(group).unwrap();
    }
    let mut right = 0.0;
    let mut n_votes = 0;
    while arena.n_open() > 0 {
        for (_, result) in arena.pump(judge) {
            let row = &result.matches[0];
            assert!(result.votes.len() <= votes.max as usize);
            n_votes += result.votes.len();
            right += match row.votes_a.cmp(&row.votes_b) {
                std::cmp::Ordering::Equal => 0.5,
                _ if row.winner.map(|member| member.0) == Some(0) => 1.0,
                _ => 0.0,
            };
        }
    }
    (right / accuracies.len() as f64, n_votes as f64 / accuracies.len() as f64)
}

/// Draws of Beta(0.52, 0.05), the spread of a judge's accuracies over pairs that fits RRM-32B's
/// gain from voting, by Jöhnk's method.
fn accuracies(n: u64) -> Vec<f64> {
    let draw = |pair: u64| {
        let mut attempt = 0;
        loop {
            let key = Seed::new(4).child("pair", pair).child("attempt", attempt);
            let x = key.child("x", 0).unit().powf(1.0 / 0.52);
            let y = key.child("y", 0).unit().powf(1.0 / 0.05);
            if x + y <= 1.0 && x + y > 0.0 {
                return x / (x + y);
            }
            attempt += 1;
        }
    };
    (0..n).map(draw).collect()
}

#[test]
fn vote_rule_that_adapts_agrees_as_well_for_a_quarter_of_the_votes() {
    let accuracies = accuracies(4_000);
    let (fixed, n_fixed) = play(&rule(16, Stop::Never), &mut noisy(0.0), &accuracies);
    assert_eq!(n_fixed, 16.0);
    // two standard errors of a difference of two shares
    let noise = 2.0 * (2.0 * fixed * (1.0 - fixed) / 4_000.0).sqrt();
    for stop in [Stop::Lead, Stop::Posterior] {
        let (right, n_votes) = play(&rule(16, stop), &mut noisy(0.0), &accuracies);
        assert!((right - fixed).abs() < noise, "{stop:?}: {right}, with 16 votes {fixed}");
        assert!(n_votes <= 4.0, "{stop:?}: {n_votes} votes a match");
    }
    let (right, n_votes) = play(&rule(15, Stop::Majority), &mut noisy(0.0), &accuracies);
    assert!((right - fixed).abs() < noise && n_votes < 10.5, "{right} {n_votes}");
}

#[test]
fn vote_rule_is_never_ended_by_a_judge_that_prefers_the_first_place() {
    for stop in [Stop::Lead, Stop::Posterior] {
        let votes = rule(16, stop);
        let (right, n_votes) = play(&votes, &mut noisy(1.0), &[0.5; 20]);
        assert_eq!((right, n_votes), (0.5, 16.0), "{stop:?}");
    }
}

#[test]
fn votes_requested_in_advance_are_cancelled_once_the_match_is_decided() {
    let votes = VoteRule { ahead: 14, ..rule(16, Stop::Lead) };
    // one vote at a time, so that the others can still be cancelled
    let mut judge = noisy(0.0);
    judge.control().set_max_replies_per_poll(1);
    let (right, n_votes) = play(&votes, &mut judge, &[1.0; 10]);
    assert_eq!((right, n_votes), (1.0, 2.0));
    assert_eq!((judge.control().n_submitted(), judge.control().cancelled().len()), (160, 140));
}
