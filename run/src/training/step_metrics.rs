//! Metrics of a step that the trainer cannot know: answers, judge.

use joust_reward::rule::Correctness;
use joust_reward::{GroupResult, PartOutcome, VoteTally};
use joust_schema::tables::{Status, Verdict, Vote};
use joust_trainer::Metrics;
use joust_trainer::advantage::deviation;

use super::refill::has_spread;
use super::scored::{ScoredGroup, ScoredStep};

/// Metrics of answers and judge.
pub(super) fn scored_metrics(step: &ScoredStep) -> Metrics {
    let mut metrics = Metrics::from([("dropped_prompts".to_owned(), step.n_dropped as f64)]);
    metrics.extend(accuracy(step));
    let n_with_spread = step.results().filter(|result| has_spread(result)).count();
    metrics.insert("groups/scored".to_owned(), step.groups.len() as f64);
    metrics.insert("groups/with_spread".to_owned(), n_with_spread as f64);
    let rewards = || step.results().flat_map(|result| &result.rewards);
    let n_failed = rewards().filter(|row| row.status == Status::JudgeFailed).count();
    metrics.insert("reward/judge_failed_ratio".to_owned(), share(n_failed, rewards().count()));
    metrics.extend(part_metrics(&step.results().collect::<Vec<_>>()));
    let votes: Vec<&Vote> = step.results().flat_map(|result| &result.votes).collect();
    if !votes.is_empty() {
        metrics.extend(vote_metrics(&votes));
        metrics.extend(position_bias(step.results()));
        metrics.extend(match_metrics(&step.groups));
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

/// The judge's position bias and its error; all groups of a step are rated with the same.
fn position_bias<'a>(mut results: impl Iterator<Item = &'a GroupResult>) -> Metrics {
    let measured = results.find_map(|result| result.position_bias.zip(result.position_bias_stderr));
    let named = |(bias, stderr)| {
        [("judge/position_bias", bias), ("judge/position_bias_stderr", stderr)]
            .map(|(name, value): (&str, f64)| (name.to_owned(), value))
    };
    measured.map(named).into_iter().flatten().collect()
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
