//! Dumps: matches, votes and rewards as Parquet files.
//!
//! It does not know how groups are scored.

use std::path::{Path, PathBuf};

use joust_schema::ids::{Member, PromptId};
use joust_schema::parquet;
use joust_schema::table::Table;
use joust_schema::tables::{Completion, Match, Reward, Vote};

use crate::arena::{GroupRequest, GroupResult};
use crate::error::Error;
use crate::{prompt, rule};

/// A written file: its name, its table and its number of rows.
pub type WrittenFile = (String, &'static str, usize);

/// The folder of a set of scored groups in a dump that is written set by set.
pub fn set_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("set_{number:05}"))
}

/// Writes scored groups into `dir`: `matches.parquet`, `votes.parquet`, `rewards.parquet`, and
/// `completions.parquet` with prompts and completions. `results` has one entry per group,
/// in the same order.
///
/// # Errors
/// [`Error::Schema`]; no file is left half-written.
pub fn write(
    dir: &Path,
    groups: &[GroupRequest],
    results: &[GroupResult],
) -> Result<Vec<WrittenFile>, Error> {
    let mut written = write_evidence(dir, results.iter())?;
    let rewards = results.iter().flat_map(|result| &result.rewards);
    written.push(write_table::<Reward>(dir, rewards)?);
    let completions: Vec<Completion> = groups
        .iter()
        .zip(results)
        .flat_map(|(group, result)| completion_rows(group, result))
        .collect();
    written.push(write_table::<Completion>(dir, &completions)?);
    Ok(written)
}

/// Rows of the `completions` table, for completions that this program did not sample.
fn completion_rows(group: &GroupRequest, result: &GroupResult) -> impl Iterator<Item = Completion> {
    group.completions.iter().zip(&result.rewards).map(|(completion, row)| Completion {
        step: group.step,
        prompt: group.question.clone(),
        completion: completion.clone(),
        reward: row.reward,
        advantage: row.advantage,
        group_id: row.group_id.clone(),
        member: row.member,
        prompt_id: PromptId(group.group_id.0.clone()),
        policy_version: None,
        status: row.status,
        win_rate: row.win_rate,
        rating: row.rating,
        rating_stderr: row.rating_stderr,
        wins: row.wins,
        losses: row.losses,
        rank: row.rank,
        finish_reason: None,
        completion_tokens: None,
        answer: group.reference.clone(),
        correct: is_correct(group, result, row.member, completion),
    })
}

/// Whether a completion has the known answer, if there is one: as the rule found that scored it, or
/// compared now.
fn is_correct(
    group: &GroupRequest,
    result: &GroupResult,
    member: Member,
    completion: &str,
) -> Option<bool> {
    match result.correctness.get(member.idx()) {
        Some(found) => Some(found.is_correct()),
        None => {
            let answer = || prompt::answer(&group.question, completion);
            group.reference.as_ref().map(|known| rule::is_correct(answer(), known))
        }
    }
}

/// Writes `matches.parquet` and `votes.parquet` into `dir`.
///
/// # Errors
/// [`Error::Schema`]; no file is left half-written.
pub fn write_evidence<'a>(
    dir: &Path,
    results: impl Iterator<Item = &'a GroupResult> + Clone,
) -> Result<Vec<WrittenFile>, Error> {
    let matches = results.clone().flat_map(|result| &result.matches);
    let votes = results.flat_map(|result| &result.votes);
    Ok(vec![write_table::<Match>(dir, matches)?, write_table::<Vote>(dir, votes)?])
}

fn write_table<'a, T: Table + 'a>(
    dir: &Path,
    rows: impl IntoIterator<Item = &'a T>,
) -> Result<WrittenFile, Error> {
    let file = format!("{}.parquet", T::NAME);
    let n_rows = parquet::write(&dir.join(&file), rows)?;
    Ok((file, T::NAME, n_rows))
}

#[cfg(test)]
mod tests;
