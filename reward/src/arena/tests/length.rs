//! What a judge's preference for longer answers leaves in the rewards, with and without control.

use super::*;
use crate::config::judge::JudgeKind;
use crate::scorer::Scorer;

const N: usize = 8;
const N_STEPS: u64 = 25;

/// The strength of an answer, which does not depend on its length: standard deviation 1.5.
fn quality(question: &str, answer: &str) -> f64 {
    let draw = Seed::new(9).child_str(question, answer).unit();
    1.5 * 12_f64.sqrt() * (draw - 0.5)
}

fn length(answer: &str) -> f64 {
    answer.chars().count() as f64
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Answers of 100 to 400 characters.
fn group_of_step(step: u64, idx: u64) -> GroupRequest {
    let seed = Seed::new(step).child("group", idx);
    let answer = |member: usize| {
        let n_more = (300.0 * seed.child("length", member as u64).unit()) as usize;
        format!("{member}{}", "ä".repeat(99 + n_more))
    };
    let completions: Vec<String> = (0..N).map(answer).collect();
    let mut request = group(&idx.to_string(), &completions);
    request.question = format!("{step}/{idx}");
    request.seed = seed;
    request
}

/// A judge that adds `preference` logits for the longer answer.
fn judge_of_lengths(preference: f64) -> ScriptedJudge<'static> {
    ScriptedJudge::of_verdicts(move |request: &VoteRequest| {
        let [first, second] = [&request.answer_first, &request.answer_second];
        let longer = (length(first) - length(second)).partial_cmp(&0.0).unwrap() as i8;
        let logit = quality(&request.question, first) - quality(&request.question, second)
            + preference * f64::from(longer);
        let for_first = request.seed.child("coin", 0).unit() < sigmoid(logit);
        Ok(if for_first { Verdict::First } else { Verdict::Second })
    })
}

/// Means over groups and steps.
#[derive(Debug)]
struct Seen {
    /// Correlation of rewards and lengths.
    with_length: f64,
    /// Correlation of rewards and win rates by quality.
    with_truth: f64,
    slope: f64,
}

fn play_steps(preference: f64, length_control: bool) -> Seen {
    let mut config = RewardConfig::default();
    config.rating.length_control = length_control;
    let mut seen = Seen { with_length: 0.0, with_truth: 0.0, slope: 0.0 };
    for step in 0..N_STEPS {
        let groups: Vec<GroupRequest> = (0..16).map(|idx| group_of_step(step, idx)).collect();
        let judge = Box::new(judge_of_lengths(preference));
        let mut scorer = Scorer::with_judge(&config, Some(judge), false);
        let results = scorer.score_all(groups.clone(), &mut || {}).unwrap();
        for (group, result) in groups.iter().zip(&results) {
            let lengths: Vec<f64> = group.completions.iter().map(|text| length(text)).collect();
            let of_text = |text: &String| quality(&group.question, text);
            let qualities: Vec<f64> = group.completions.iter().map(of_text).collect();
            let true_rate = |own: &f64| qualities.iter().map(|other| sigmoid(own - other)).sum();
            let truth: Vec<f64> = qualities.iter().map(true_rate).collect();
            seen.with_length += correlation(&rewards(result), &lengths);
            seen.with_truth += correlation(&rewards(result), &truth);
            // one slope for the whole step
            assert_eq!(result.length_slope, results[0].length_slope);
            assert!((0.1..0.5).contains(&result.length_slope_stderr.unwrap()));
        }
        seen.slope += results[0].length_slope.unwrap();
    }
    let n_groups = (N_STEPS * 16) as f64;
    Seen {
        with_length: seen.with_length / n_groups,
        with_truth: seen.with_truth / n_groups,
        slope: seen.slope / N_STEPS as f64,
    }
}

#[test]
fn rewards_of_a_step_do_not_follow_the_length_where_it_is_controlled() {
    let (plain, controlled) = (play_steps(0.8, false), play_steps(0.8, true));
    assert!(plain.with_length > 0.15, "{plain:?}");
    assert!(controlled.with_length.abs() < 0.07, "{controlled:?}");
    assert!(controlled.with_truth > plain.with_truth + 0.01, "{plain:?} {controlled:?}");
    // seen without control as well
    assert!(plain.slope > 0.35 && plain.slope == controlled.slope, "{plain:?}");
}

#[test]
fn rewards_of_a_step_lose_little_where_a_judge_without_preference_is_controlled() {
    let (plain, controlled) = (play_steps(0.0, false), play_steps(0.0, true));
    assert!(plain.slope.abs() < 0.15, "{plain:?}");
    assert!(controlled.with_length.abs() < 0.07, "{controlled:?}");
    assert!(controlled.with_truth > plain.with_truth - 0.015, "{plain:?} {controlled:?}");
}

#[test]
fn length_control_of_equal_lengths_changes_nothing() {
    let completions: Vec<String> = (10..18).map(|value| value.to_string()).collect();
    for kind in KINDS {
        let mut config = config(kind, 1);
        let plain = play(&config, &mut judge(noisy), &completions);
        config.rating.length_control = true;
        assert_eq!(play(&config, &mut judge(noisy), &completions), plain);
        assert_eq!((plain.length_slope, plain.length_slope_stderr), (None, None));
    }
}

#[test]
fn length_control_is_of_what_the_judge_reads_and_of_nothing_else_in_a_result() {
    let mut config = config(TournamentKind::RoundRobin, 1);
    config.rating.length_control = true;
    let short: Vec<String> = ["7", "9", "00001", "3"].map(str::to_owned).to_vec();
    let mut thought = short.clone();
    thought[0] = format!("<think>{}</think>7", "hm ".repeat(500));
    let seen = play(&config, &mut judge(larger), &short);
    assert_eq!(play(&config, &mut judge(larger), &thought).rewards, seen.rewards);
    config.rating.length_control = false;
    let plain = play(&config, &mut judge(larger), &short);
    assert_ne!(seen.rewards, plain.rewards);
    assert_eq!(GroupResult { rewards: plain.rewards.clone(), ..seen }, plain);
    // the short ones won: the judge prefers them, and the long one is not as bad as it seems
    assert!(plain.length_slope.unwrap() < 0.0);
}

#[test]
fn length_slope_is_missing_where_no_rating_measures_it() {
    let texts: Vec<String> = ["7", "12345", "123"].map(str::to_owned).to_vec();
    for method in METHODS {
        let mut config = config(TournamentKind::RoundRobin, 1);
        config.rating.method = method;
        let result = play(&config, &mut judge(larger), &texts);
        assert_eq!(result.length_slope.is_some(), method == RatingMethod::BradleyTerry);
        config.rating.length_control = true;
        config.judge.kind = JudgeKind::Rule;
        let text = match method {
            RatingMethod::BradleyTerry => Vec::new(),
            _ => vec![format!(
                "rating.length_control is true, but rating.method {} has no length term, wanted \
                 bradley_terry",
                if method == RatingMethod::Elo { "elo" } else { "win_rate" }
            )],
        };
        assert_eq!(config.validate(), text);
    }
    let alone = play(&config(TournamentKind::Swiss, 1), &mut judge(larger), &texts[..1]);
    assert_eq!((alone.length_slope, alone.rewards[0].reward), (None, None));
}
