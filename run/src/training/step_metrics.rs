//! Metrics of what was sampled and scored in a step: rewards, completions, answers, judge.
//!
//! They are of all groups. Which of them are trained on, and what is learned, is not known here.

use joust_reward::rule::Correctness;
use joust_reward::{GroupResult, PartOutcome, VoteTally};
use joust_schema::tables::{FinishReason, Rollout, Status, Verdict, Vote};
use joust_trainer::Metrics;
use joust_trainer::advantage::{deviation, mean};

use super::refill::{has_spread, known_rewards};
use super::scored::{ScoredGroup, ScoredStep};

/// Metrics of all groups of a step.
pub(super) fn scored_metrics(step: &ScoredStep) -> Metrics {
    let mut metrics = Metrics::from([("dropped_prompts".to_owned(), step.n_dropped as f64)]);
    metrics.extend(reward_metrics(step));
    metrics.extend(completion_metrics(step));
    metrics.extend(accuracy(step));
    metrics.extend(part_metrics(&step.results().collect::<Vec<_>>()));
    let votes: Vec<&Vote> = step.results().flat_map(|result| &result.votes).collect();
    if !votes.is_empty() {
        metrics.extend(vote_metrics(&votes));
        metrics.extend(preferences(step));
        metrics.extend(match_metrics(&step.groups));
    }
    metrics
}

/// Rewards, those that are missing, and the groups without spread.
fn reward_metrics(step: &ScoredStep) -> Metrics {
    let rows = || step.results().flat_map(|result| &result.rewards);
    let n_completions = rows().count();
    let known: Vec<f64> = rows().filter_map(|row| row.reward).collect();
    let n_judge_failed = rows().filter(|row| row.status == Status::JudgeFailed).count();
    let n_groups = step.groups.len();
    let n_with_spread = step.results().filter(|result| has_spread(result)).count();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    put("groups/scored", n_groups as f64);
    put("groups/with_spread", n_with_spread as f64);
    put("frac_reward_zero_std", share(n_groups - n_with_spread, n_groups));
    put("frac_reward_missing", 1.0 - share(known.len(), n_completions));
    put("reward/judge_failed_ratio", share(n_judge_failed, n_completions));
    if !known.is_empty() {
        let deviations: Vec<f64> =
            step.results().map(|result| deviation(&known_rewards(result))).collect();
        put("reward", mean(&known));
        put("reward_std", mean(&deviations));
    }
    metrics
}

/// Lengths of the completions, and how they ended.
fn completion_metrics(step: &ScoredStep) -> Metrics {
    let rows = || step.groups.iter().flat_map(|group| &group.rollout.completions);
    let n_tokens = |row: &Rollout| row.completion_token_ids.len() as f64;
    let lengths: Vec<f64> = rows().map(n_tokens).collect();
    let ended = rows().filter(|row| row.finish_reason == FinishReason::Stop);
    let ended: Vec<f64> = ended.map(n_tokens).collect();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| {
        metrics.insert(format!("completions/{name}"), value);
    };
    if !lengths.is_empty() {
        put("mean_length", mean(&lengths));
        put("min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min));
        put("max_length", lengths.iter().copied().fold(0.0, f64::max));
        put("clipped_ratio", 1.0 - share(ended.len(), lengths.len()));
    }
    if !ended.is_empty() {
        put("mean_terminated_length", mean(&ended));
    }
    metrics
}

/// Metrics of each part of the reward, under TRL's names for reward functions.
fn part_metrics(results: &[&GroupResult]) -> Metrics {
    let Some(first) = results.first() else { return Metrics::new() };
    let mut metrics = Metrics::new();
    for (idx, part) in first.parts.iter().enumerate() {
        let asked =
            results.iter().filter(|result| result.parts[idx].outcome != PartOutcome::NotAsked);
        let values: Vec<Option<f64>> = asked
            .flat_map(|result| {
                let outcome = &result.parts[idx].outcome;
                (0..result.rewards.len()).map(|member| outcome.value(member))
            })
            .collect();
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let mut put = |name: &str, value: f64| {
            metrics.insert(format!("rewards/{}/{name}", part.name), value);
        };
        put("missing", (values.len() - known.len()) as f64);
        if !known.is_empty() {
            put("mean", known.iter().sum::<f64>() / known.len() as f64);
            put("std", deviation(&known));
        }
    }
    metrics
}

fn share(n: usize, of: usize) -> f64 {
    n as f64 / of.max(1) as f64
}

/// Shares of the completions with a known answer.
fn accuracy(step: &ScoredStep) -> Metrics {
    let known = || step.groups.iter().flat_map(ScoredGroup::known_correctness);
    let n_known = known().count();
    if n_known == 0 {
        return Metrics::new();
    }
    let share_of =
        |wanted: Correctness| share(known().filter(|found| **found == wanted).count(), n_known);
    Metrics::from([
        ("accuracy".to_owned(), share_of(Correctness::Correct)),
        ("answers/missing_ratio".to_owned(), share_of(Correctness::NoAnswer)),
        ("answers/not_understood_ratio".to_owned(), share_of(Correctness::NotUnderstood)),
    ])
}

fn vote_metrics(votes: &[&Vote]) -> Metrics {
    let n_valid = votes.iter().filter(|vote| vote.verdict != Verdict::Invalid).count();
    let n_first = votes.iter().filter(|vote| vote.verdict == Verdict::First).count();
    let tally = VoteTally::of(votes.iter().copied());
    let n_tokens: f64 = votes.iter().map(|vote| f64::from(vote.completion_tokens)).sum();
    Metrics::from([
        ("judge/votes".to_owned(), votes.len() as f64),
        ("judge/invalid_ratio".to_owned(), 1.0 - share(n_valid, votes.len())),
        ("judge/no_reply_ratio".to_owned(), share(tally.n_failed, votes.len())),
        ("judge/cut_off_ratio".to_owned(), share(tally.n_cut_off, votes.len())),
        ("judge/first_ratio".to_owned(), share(n_first, n_valid)),
        ("judge/tokens".to_owned(), n_tokens),
        ("judge/tokens_per_vote".to_owned(), n_tokens / votes.len() as f64),
    ])
}

/// The judge's position bias and its preference for longer answers, with their errors; all groups
/// of a step are rated with the same.
fn preferences(step: &ScoredStep) -> Metrics {
    let bias = |result: &GroupResult| result.position_bias.zip(result.position_bias_stderr);
    let slope = |result: &GroupResult| result.length_slope.zip(result.length_slope_stderr);
    let measured = [
        ("judge/position_bias", step.results().find_map(bias)),
        ("judge/length_slope", step.results().find_map(slope)),
    ];
    let mut metrics = Metrics::new();
    for (name, measured) in measured {
        let Some((logits, stderr)) = measured else { continue };
        metrics.insert(name.to_owned(), logits);
        metrics.insert(format!("{name}_stderr"), stderr);
    }
    metrics
}

/// The number of matches, and the judge's accuracy in those of a right and a wrong completion.
fn match_metrics(groups: &[ScoredGroup]) -> Metrics {
    let (mut n_matches, mut n_decided, mut n_right) = (0, 0, 0);
    for group in groups {
        for row in &group.result.matches {
            n_matches += 1;
            let (Some(a), Some(b), Some(winner)) =
                (group.is_correct(row.member_a), group.is_correct(row.member_b), row.winner)
            else {
                continue;
            };
            if a != b {
                n_decided += 1;
                n_right += usize::from(group.is_correct(winner) == Some(true));
            }
        }
    }
    let mut metrics = Metrics::from([("reward/matches".to_owned(), f64::from(n_matches))]);
    if n_decided > 0 {
        metrics.insert("judge/accuracy".to_owned(), share(n_right, n_decided));
    }
    metrics
}

#[cfg(test)]
mod tests;
