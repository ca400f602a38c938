//! What a judge's preference for a position leaves in the rewards, with one vote per match.

use super::*;
use crate::scorer::Scorer;

/// Net number of times that each member was shown first.
fn times_first(result: &GroupResult) -> Vec<f64> {
    let mut net = vec![0.0; result.rewards.len()];
    let matches: BTreeMap<_, _> = result.matches.iter().map(|row| (&row.match_id, row)).collect();
    for vote in &result.votes {
        let row = matches[&vote.match_id];
        let sign = if vote.a_shown_first { 1.0 } else { -1.0 };
        net[row.member_a.idx()] += sign;
        net[row.member_b.idx()] -= sign;
    }
    net
}

fn spread(rewards: &[f64]) -> f64 {
    let (low, high) = rewards
        .iter()
        .fold((1.0_f64, 0.0_f64), |(low, high), &reward| (low.min(reward), high.max(reward)));
    high - low
}

/// Plays groups of `n` with a judge of Bradley and Terry: strengths with standard deviation `sd`
/// (uniform), plus `bias` for the answer shown first, in logits.
fn play_groups(tournament: &TournamentConfig, n: usize, bias: f64, sd: f64) -> Vec<GroupResult> {
    let config = RewardConfig { tournament: tournament.clone(), ..RewardConfig::default() };
    let script = |request: &VoteRequest| {
        let strength = |answer: &str| {
            let draw = Seed::new(9).child_str(&request.question, answer).unit();
            sd * 12_f64.sqrt() * (draw - 0.5)
        };
        let logit = strength(&request.answer_first) - strength(&request.answer_second) + bias;
        let for_first = request.seed.child("coin", 0).unit() < 1.0 / (1.0 + (-logit).exp());
        Ok(if for_first { Verdict::First } else { Verdict::Second })
    };
    let mut judge = judge_of(script);
    let mut arena = Arena::new(&config, false);
    for idx in 0..N_GROUPS {
        let mut request = group(&idx.to_string(), &numbers(n));
        request.question = idx.to_string();
        request.seed = Seed::new(idx);
        arena.add(request).unwrap();
    }
    let mut results = Vec::new();
    while arena.n_open() > 0 {
        results.extend(arena.pump(&mut judge).into_iter().map(|(_, result)| result));
    }
    results
}

const N_GROUPS: u64 = 600;

fn judge_of<'s>(
    script: impl FnMut(&VoteRequest) -> Result<Verdict, JudgeError> + Send + 's,
) -> ScriptedJudge<'s> {
    ScriptedJudge::of_verdicts(script)
}

/// Mean correlation of rewards with the times shown first, over groups of `n`.
fn correlation_with_place(tournament: &TournamentConfig, n: usize, bias: f64) -> f64 {
    let results = play_groups(tournament, n, bias, 0.0);
    let of_group = |result: &GroupResult| correlation(&rewards(result), &times_first(result));
    results.iter().map(of_group).sum::<f64>() / results.len() as f64
}

fn swiss(rounds: Option<u32>) -> TournamentConfig {
    TournamentConfig { rounds, ..TournamentConfig::default() }
}

#[test]
fn rewards_of_equal_answers_do_not_follow_the_place() {
    // 62 and 73 of 100 votes for the answer shown first
    for (bias, most) in [(0.5, 0.03), (1.0, 0.08)] {
        for rounds in [None, Some(2), Some(3), Some(6)] {
            let seen = correlation_with_place(&swiss(rounds), 8, bias);
            assert!(seen.abs() <= most, "{rounds:?} rounds, bias {bias}: {seen}");
        }
        let kind = TournamentKind::RoundRobin;
        let seen = correlation_with_place(&TournamentConfig { kind, ..swiss(None) }, 8, bias);
        assert!(seen.abs() <= most, "round robin, bias {bias}: {seen}");
    }
}

#[test]
fn rewards_are_equal_under_an_always_first_judge_after_an_even_number_of_rounds() {
    for (n, rounds) in [(8, 2), (8, 4), (8, 6), (6, 4), (4, 2), (16, 4), (12, 2), (100, 4)] {
        let tournament = swiss(Some(rounds));
        let config = RewardConfig { tournament, ..RewardConfig::default() };
        for seed in 0..40 {
            let mut request = group("g", &numbers(n));
            request.seed = Seed::new(seed);
            let mut judge = judge_of(|_| Ok(Verdict::First));
            let mut arena = Arena::new(&config, false);
            arena.add(request).unwrap();
            let result = loop {
                if let Some((_, result)) = arena.pump(&mut judge).pop() {
                    break result;
                }
            };
            assert_eq!(times_first(&result), vec![0.0; n], "{n} members, {rounds} rounds");
            assert!(spread(&rewards(&result)) < 1e-9, "{n} members, {rounds} rounds");
        }
    }
}

#[test]
fn pairing_by_place_costs_no_information() {
    let results = play_groups(&swiss(None), 8, 0.5, 1.5);
    let truth = |result: &GroupResult| -> Vec<f64> {
        let strength = |n: usize| {
            Seed::new(9).child_str(&result.group_id.0, &n.to_string()).unit() * 12_f64.sqrt() * 1.5
        };
        let strengths: Vec<f64> = (0..8).map(strength).collect();
        let beats = |own: f64| strengths.iter().map(move |other| 1.0 / (1.0 + (other - own).exp()));
        strengths.iter().map(|&own| beats(own).sum::<f64>()).collect()
    };
    let of_group = |result: &GroupResult| correlation(&rewards(result), &truth(result));
    let mean = results.iter().map(of_group).sum::<f64>() / results.len() as f64;
    assert!(mean > 0.74, "{mean}");
}

/// Scores groups in steps of 16, as a training run does.
fn score_in_steps(tournament: &TournamentConfig, bias: f64) -> Vec<GroupResult> {
    let config = RewardConfig { tournament: tournament.clone(), ..RewardConfig::default() };
    let mut results = Vec::new();
    for step in 0..N_GROUPS / 16 {
        let script = move |request: &VoteRequest| {
            let for_first = request.seed.child("coin", 0).unit() < 1.0 / (1.0 + (-bias).exp());
            Ok(if for_first { Verdict::First } else { Verdict::Second })
        };
        let judge = Box::new(judge_of(script));
        let groups = (0..16).map(|idx| {
            let mut request = group(&idx.to_string(), &numbers(8));
            request.seed = Seed::new(step).child("group", idx);
            request
        });
        let mut scorer = Scorer::with_judge(&config, Some(judge), false);
        results.extend(scorer.score_all(groups.collect(), &mut || {}).unwrap());
    }
    results
}

#[test]
fn rewards_of_a_step_do_not_follow_the_place_after_an_odd_number_of_rounds() {
    for (bias, most) in [(0.5, 0.03), (1.0, 0.08)] {
        let results = score_in_steps(&swiss(Some(3)), bias);
        let of_group = |result: &GroupResult| correlation(&rewards(result), &times_first(result));
        let seen = results.iter().map(of_group).sum::<f64>() / results.len() as f64;
        assert!(seen.abs() <= most, "bias {bias}: {seen}");
        // measured over the step: within four of its standard errors nearly always
        let measured = results.chunks(16).map(|step| {
            assert!(step.iter().all(|group| group.position_bias == step[0].position_bias));
            (step[0].position_bias.unwrap(), step[0].position_bias_stderr.unwrap())
        });
        let measured: Vec<(f64, f64)> = measured.collect();
        let n_off = measured.iter().filter(|(seen, stderr)| (seen - bias).abs() > 4.0 * stderr);
        assert!(n_off.count() <= 1, "{measured:?}");
        assert!(measured.iter().all(|(_, stderr)| (0.05..0.35).contains(stderr)), "{measured:?}");
    }
}

#[test]
fn rewards_of_a_step_do_not_depend_on_the_order_of_its_groups() {
    let mut groups: Vec<GroupRequest> = (0..5)
        .map(|idx| {
            let mut request = group(&format!("g{idx}"), &numbers(3 + idx));
            request.seed = Seed::new(idx as u64);
            request
        })
        .collect();
    let score = |groups: &[GroupRequest]| {
        let judge = Box::new(judge_of(noisy));
        let mut scorer = Scorer::with_judge(&RewardConfig::default(), Some(judge), false);
        let mut results = scorer.score_all(groups.to_vec(), &mut || {}).unwrap();
        assert!(results.iter().zip(groups).all(|(one, other)| one.group_id == other.group_id));
        results.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        results
    };
    let wanted = score(&groups);
    groups.rotate_left(2);
    groups.swap(0, 1);
    assert_eq!(score(&groups), wanted);
    // a group alone has a bias of its own
    assert_ne!(score(&groups[..1])[0].position_bias, wanted[0].position_bias);
}
