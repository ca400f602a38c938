//! `joust score`: groups of completions in, rewards with their evidence out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use joust_reward::{GroupRequest, VoteTally, dump};
use joust_schema::ids::GroupId;
use joust_schema::prompt::{Completion, Prompt};
use joust_schema::seed::Seed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::votes::{refuse_no_votes, vote_warnings};
use crate::commands::{ConfigArgs, open_scorer};
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust score`.
#[derive(Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON Lines or Parquet with `prompt` or `messages`, `completions`, and perhaps `answer` and
    /// `group_id`.
    #[arg(long)]
    input: PathBuf,
    /// Folder for rewards.jsonl and the Parquet tables.
    #[arg(long)]
    output: PathBuf,
}

#[derive(Deserialize)]
struct GroupRow {
    #[serde(alias = "messages")]
    prompt: Prompt,
    completions: Vec<Completion>,
    answer: Option<Value>,
    group_id: Option<String>,
}

#[derive(Serialize)]
struct GroupRewards {
    group_id: GroupId,
    rewards: Vec<Option<f64>>,
    statuses: Vec<&'static str>,
    ranks: Vec<Option<i32>>,
}

pub(crate) fn run(args: ScoreArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let groups = read_groups(&args.input, Seed::new(config.run.seed))?;
    let mut scorer = open_scorer(&config, &args.output)?;
    let bar = output::progress_bar(groups.len() as u64, "groups");
    let results = scorer.score_all(groups.clone(), &mut || bar.inc(1))?;
    bar.finish_and_clear();
    dump::write(&args.output, &groups, &results)?;
    let lines: Vec<GroupRewards> = results
        .iter()
        .map(|result| GroupRewards {
            group_id: result.group_id.clone(),
            rewards: result.rewards.iter().map(|row| row.reward).collect(),
            statuses: result.rewards.iter().map(|row| row.status.as_str()).collect(),
            ranks: result.rewards.iter().map(|row| row.rank).collect(),
        })
        .collect();
    let path = args.output.join("rewards.jsonl");
    output::json_lines(Some(&path), &lines)?;
    let n_votes: usize = results.iter().map(|result| result.votes.len()).sum();
    let n_missing = lines.iter().flat_map(|line| &line.rewards).filter(|r| r.is_none()).count();
    output::line(format!(
        "{} groups, {n_votes} votes, {n_missing} completions without a reward: {}",
        lines.len(),
        args.output.display()
    ));
    let mut measured = results.iter();
    let measured =
        measured.find_map(|result| result.position_bias.zip(result.position_bias_stderr));
    if let Some((bias, stderr)) = measured {
        output::line(format!(
            "position bias of the judge: {bias:+.3} ± {stderr:.3} log-odds for the answer shown \
             first, removed from the ratings"
        ));
    }
    let tally = VoteTally::of(results.iter().flat_map(|result| &result.votes));
    for warning in vote_warnings(&tally) {
        output::line(warning);
    }
    refuse_no_votes(&tally)
}

/// Reads groups to be scored.
///
/// The draws of a group depend on its prompt and its completions, not on its line or on the other
/// lines. Groups of equal content are numbered, so that each has draws of its own.
///
/// # Errors
/// The problem of the first row that is not a group, with its line.
pub(crate) fn read_groups(input: &Path, seed: Seed) -> anyhow::Result<Vec<GroupRequest>> {
    let rows = read_rows(input)?;
    let mut groups = Vec::with_capacity(rows.len());
    let mut line_of_id = BTreeMap::new();
    let mut n_copies: BTreeMap<u64, u64> = BTreeMap::new();
    for (line, row) in rows {
        let mut group = group_request(input, line, row)?;
        let content = content_seed(seed, &group);
        let copy = n_copies.entry(content.0).or_default();
        group.seed = content.child("copy", *copy);
        *copy += 1;
        if let Some(first) = line_of_id.insert(group.group_id.clone(), line) {
            let text = format!(
                "{}:{line}: group_id `{}` is on line {first} already; ids are unique",
                input.display(),
                group.group_id
            );
            return Err(UserError::new(text).into());
        }
        groups.push(group);
    }
    Ok(groups)
}

/// The seed of a group's content, in which the order of the members does not count.
fn content_seed(seed: Seed, group: &GroupRequest) -> Seed {
    let mut completions: Vec<&String> = group.completions.iter().collect();
    completions.sort();
    let seed = seed.child_str("score", &group.question);
    completions.into_iter().fold(seed, |seed, text| seed.child_str("completion", text))
}

fn group_request(input: &Path, line: usize, row: GroupRow) -> anyhow::Result<GroupRequest> {
    let bad = |reason: &str| UserError::new(format!("{}:{line}: {reason}", input.display()));
    if row.completions.is_empty() {
        return Err(bad("completions is empty, wanted at least one").into());
    }
    if let Some(problem) = row.prompt.problem() {
        return Err(bad(&format!("prompt {problem}")).into());
    }
    let question = row.prompt.question();
    let answer = row.answer.and_then(|answer| match answer {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    Ok(GroupRequest {
        step: 0,
        group_id: GroupId(row.group_id.unwrap_or_else(|| format!("{line:06}"))),
        // known once all groups before it are
        seed: Seed::new(0),
        question,
        completions: row.completions.into_iter().map(|completion| completion.0).collect(),
        reference: answer,
        tournament: None,
    })
}

fn read_rows(path: &Path) -> anyhow::Result<Vec<(usize, GroupRow)>> {
    if path.extension().is_none_or(|ending| ending != "parquet") {
        return Ok(joust_schema::jsonl::read_numbered(path)?);
    }
    let rows = joust_schema::parquet::read_json(path)?;
    let parse = |(idx, row): (usize, Value)| {
        let row = serde_json::from_value(row).map_err(|error| {
            UserError::new(format!("{}: row {}: {error}", path.display(), idx + 1))
        })?;
        Ok((idx + 1, row))
    };
    rows.into_iter().enumerate().map(parse).collect()
}
