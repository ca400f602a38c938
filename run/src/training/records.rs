//! What a step leaves behind: tables in its folder, figures in the log, a line on the terminal.

use std::collections::BTreeMap;

use joust_reward::{GroupResult, dump, rule};
use joust_rollout::RolloutBatch;
use joust_schema::ids::Member;
use joust_schema::manifest::{self, ManifestEntry};
use joust_schema::parquet;
use joust_schema::table::Table as _;
use joust_schema::tables::{Completion, Reward, Rollout, Status, Verdict};
use joust_trainer::Metrics;

use crate::error::Error;
use crate::run_folder::RunFolder;

/// Writes the step's tables and lists them in the manifest.
pub(crate) fn write(
    run: &RunFolder,
    step: u64,
    batch: &RolloutBatch,
    rewards: &[Reward],
    results: &[GroupResult],
) -> Result<(), Error> {
    let folder = format!("step_{step:05}");
    let dir = run.dir().join(&folder);
    let rollouts: Vec<Rollout> =
        batch.groups.iter().flat_map(|group| group.completions.iter().cloned()).collect();
    parquet::write(&dir.join("rollouts.parquet"), &rollouts)?;
    parquet::write(&dir.join("rewards.parquet"), rewards)?;
    let mut written = dump::write_evidence(&dir, results.iter())?;
    written.push(("rollouts.parquet".to_owned(), Rollout::NAME, rollouts.len()));
    written.push(("rewards.parquet".to_owned(), Reward::NAME, rewards.len()));
    let completions = completions(step, batch, rewards);
    let file = format!("completions/completions_{step:05}.parquet");
    parquet::write(&run.dir().join(&file), &completions)?;
    let mut entries = Vec::new();
    for (name, table, rows) in written {
        entries.push(ManifestEntry::of(
            run.dir(),
            &format!("{folder}/{name}"),
            table,
            step as i64,
            rows,
        )?);
    }
    entries.push(ManifestEntry::of(
        run.dir(),
        &file,
        Completion::NAME,
        step as i64,
        completions.len(),
    )?);
    manifest::append(run.dir(), &entries)?;
    Ok(())
}

fn completions(step: u64, batch: &RolloutBatch, rewards: &[Reward]) -> Vec<Completion> {
    let of_member: BTreeMap<_, &Reward> =
        rewards.iter().map(|row| ((&row.group_id, row.member), row)).collect();
    let mut rows = Vec::with_capacity(rewards.len());
    for group in &batch.groups {
        for rollout in &group.completions {
            let Some(reward) = of_member.get(&(&rollout.group_id, rollout.member)) else {
                continue;
            };
            let correct =
                group.answer.as_ref().map(|answer| rule::is_correct(&rollout.completion, answer));
            rows.push(Completion {
                step: step as i64,
                prompt: rollout.prompt.clone(),
                completion: rollout.completion.clone(),
                reward: reward.reward,
                advantage: reward.advantage,
                group_id: rollout.group_id.clone(),
                member: rollout.member,
                prompt_id: rollout.prompt_id.clone(),
                policy_version: Some(rollout.policy_version),
                status: reward.status,
                win_rate: reward.win_rate,
                rating: reward.rating,
                rating_stderr: reward.rating_stderr,
                wins: reward.wins,
                losses: reward.losses,
                rank: reward.rank,
                finish_reason: Some(rollout.finish_reason),
                completion_tokens: Some(rollout.completion_token_ids.len() as i32),
                answer: group.answer.clone(),
                correct,
            });
        }
    }
    rows
}

/// Figures about answers and judge that the trainer cannot know.
pub(crate) fn metrics(batch: &RolloutBatch, results: &[GroupResult]) -> Metrics {
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    put("dropped_prompts", batch.dropped.len() as f64);
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    let mut right: BTreeMap<(&str, Member), bool> = BTreeMap::new();
    for group in &batch.groups {
        let Some(answer) = &group.answer else {
            continue;
        };
        for row in &group.completions {
            right
                .insert((&group.group_id.0, row.member), rule::is_correct(&row.completion, answer));
        }
    }
    if !right.is_empty() {
        put("accuracy", share(right.values().filter(|right| **right).count(), right.len()));
    }
    let votes: Vec<_> = results.iter().flat_map(|result| &result.votes).collect();
    let rewards: Vec<_> = results.iter().flat_map(|result| &result.rewards).collect();
    let failed = rewards.iter().filter(|row| row.status == Status::JudgeFailed).count();
    put("reward/judge_failed_ratio", share(failed, rewards.len()));
    if votes.is_empty() {
        return metrics;
    }
    let n_valid = votes.iter().filter(|vote| vote.verdict != Verdict::Invalid).count();
    let n_first = votes.iter().filter(|vote| vote.verdict == Verdict::First).count();
    let tokens: f64 = votes.iter().map(|vote| f64::from(vote.completion_tokens)).sum();
    put("judge/votes", votes.len() as f64);
    put("judge/invalid_ratio", 1.0 - share(n_valid, votes.len()));
    put("judge/first_ratio", share(n_first, n_valid));
    put("judge/tokens", tokens);
    put("judge/tokens_per_vote", tokens / votes.len() as f64);
    let biases: Vec<f64> = results.iter().filter_map(|result| result.position_bias).collect();
    if !biases.is_empty() {
        put("judge/position_bias", biases.iter().sum::<f64>() / biases.len() as f64);
    }
    let matches: Vec<_> = results.iter().flat_map(|result| &result.matches).collect();
    put("reward/matches", matches.len() as f64);
    // matches between a right and a wrong completion show how good the judge is
    let (mut n_known, mut n_agree) = (0, 0);
    for row in matches {
        let is_right = |member: Member| right.get(&(row.group_id.0.as_str(), member));
        let (Some(a), Some(b), Some(winner)) =
            (is_right(row.member_a), is_right(row.member_b), row.winner)
        else {
            continue;
        };
        if a != b {
            n_known += 1;
            n_agree += usize::from(is_right(winner) == Some(&true));
        }
    }
    if n_known > 0 {
        put("judge/accuracy", share(n_agree, n_known));
    }
    metrics
}
