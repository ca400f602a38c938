//! The parts of a round that the ranks have sampled and scored, put together: afterwards every rank
//! knows the whole round.
//!
//! Rank r of N has the prompts r, r + N, … of a round. It does not know how groups are made.

use joust_dist::Collectives;
use joust_reward::{GroupResult, PartScores};
use joust_rollout::{DroppedPrompt, PromptRow, RolloutBatch, RolloutGroup};
use joust_schema::tables::{Rollout, Verdict};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ranks::{collect, exchange};

/// The prompts that a rank samples from.
pub(super) fn own_prompts(ranks: &Collectives, prompts: &[PromptRow]) -> Vec<PromptRow> {
    let world = ranks.world();
    prompts.iter().skip(world.rank).step_by(world.size).cloned().collect()
}

/// What became of a prompt.
#[derive(Serialize, Deserialize)]
enum SampledPrompt {
    Group(Box<RolloutGroup>),
    Dropped(DroppedPrompt),
}

/// The result of a group with all that was found out about it.
#[derive(Serialize, Deserialize)]
struct WholeResult {
    result: GroupResult,
    parts: Vec<PartScores>,
}

/// Leaves out log-probabilities that are not known: JSON has no NaN.
fn leave_out_unknown(row: &mut Rollout) {
    if row.completion_logprobs.iter().all(|logprob| logprob.is_nan()) {
        row.completion_logprobs.clear();
    }
}

/// Puts in what [`leave_out_unknown`] has left out.
fn fill_in_unknown(row: &mut Rollout) {
    row.completion_logprobs.resize(row.completion_token_ids.len(), f32::NAN);
}

/// Takes one value of each rank in turn until all are used.
fn dealt_back<T>(parts: Vec<Vec<T>>) -> Vec<T> {
    let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let n_before = all.len();
        all.extend(parts.iter_mut().filter_map(Iterator::next));
        if all.len() == n_before {
            return all;
        }
    }
}

/// The groups of all ranks in the order of the prompts.
///
/// # Errors
/// [`Error::Ranks`]
pub(super) fn of_all_ranks(
    ranks: &Collectives,
    prompts: &[PromptRow],
    own: RolloutBatch,
) -> Result<RolloutBatch, Error> {
    if ranks.world().size == 1 {
        return Ok(own);
    }
    let RolloutBatch { mut groups, dropped, .. } = own;
    groups.iter_mut().flat_map(|group| &mut group.completions).for_each(leave_out_unknown);
    let (mut groups, mut dropped) = (groups.into_iter().peekable(), dropped.into_iter());
    let sampled = prompts.iter().filter_map(|prompt| {
        match groups.next_if(|group| group.prompt_id == prompt.prompt_id) {
            Some(group) => Some(SampledPrompt::Group(Box::new(group))),
            None => dropped.next().map(SampledPrompt::Dropped),
        }
    });
    let mut all = RolloutBatch::default();
    for sampled in dealt_back(exchange(ranks, sampled.collect::<Vec<_>>())?) {
        match sampled {
            SampledPrompt::Group(group) => all.groups.push(*group),
            SampledPrompt::Dropped(prompt) => all.dropped.push(prompt),
        }
    }
    all.groups.iter_mut().flat_map(|group| &mut group.completions).for_each(fill_in_unknown);
    all.n_tokens = all.completions().map(|row| row.completion_token_ids.len()).sum();
    Ok(all)
}

/// The results of all ranks in the order of `groups`, those of the whole round. The texts of votes
/// with a verdict, which are only written, come to the first rank alone; the others have none.
///
/// # Errors
/// [`Error::Ranks`]
pub(super) fn results_of_all_ranks(
    ranks: &Collectives,
    groups: &[RolloutGroup],
    mut own: Vec<GroupResult>,
) -> Result<Vec<GroupResult>, Error> {
    if ranks.world().size == 1 {
        return Ok(own);
    }
    let texts = collect(ranks, &take_texts(&mut own))?;
    let whole = |result: GroupResult| WholeResult { parts: result.parts.clone(), result };
    let all = exchange(ranks, own.into_iter().map(whole).collect::<Vec<_>>())?;
    let mut all: Vec<GroupResult> = all
        .into_iter()
        .flatten()
        .map(|WholeResult { result, parts }| GroupResult { parts, ..result })
        .collect();
    if let Some(texts) = texts {
        let written = all.iter_mut().flat_map(texts_of).zip(texts.into_iter().flatten());
        written.for_each(|(text, its)| *text = its);
    }
    let mut by_group: std::collections::BTreeMap<_, _> =
        all.into_iter().map(|result| (result.group_id.clone(), result)).collect();
    let in_order = groups.iter().map(|group| {
        let result = by_group.remove(&group.group_id);
        result.expect("every group has one result. This is a bug.")
    });
    Ok(in_order.collect())
}

/// The texts of a group's votes with a verdict. What the others say is looked at everywhere.
fn texts_of(result: &mut GroupResult) -> impl Iterator<Item = &mut String> {
    let with_verdict = result.votes.iter_mut().filter(|vote| vote.verdict != Verdict::Invalid);
    with_verdict.map(|vote| &mut vote.text)
}

fn take_texts(results: &mut [GroupResult]) -> Vec<String> {
    results.iter_mut().flat_map(texts_of).map(std::mem::take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dealt_out_values_come_back_in_their_order() {
        for (n, size) in [(0, 3), (1, 3), (7, 3), (8, 4), (9, 1)] {
            let dealt = |rank: usize| (rank..n).step_by(size).collect::<Vec<_>>();
            let parts = (0..size).map(dealt).collect();
            assert_eq!(dealt_back(parts), (0..n).collect::<Vec<_>>());
        }
    }
}
