//! `joust score`: groups of completions in, rewards with their evidence out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use joust_reward::rule::Correctness;
use joust_reward::{GroupRequest, GroupResult, RewardKind, VoteTally, dump};
use joust_run::counted;
use joust_schema::ids::GroupId;
use joust_schema::prompt::{Completion, PromptUse};
use joust_schema::rows::{MESSAGES, Row, VERL_COLUMN};
use joust_schema::seed::Seed;
use serde::Serialize;

use crate::commands::votes::{refuse_lost_votes, refuse_no_votes, vote_warnings};
use crate::commands::written::OutputFolder;
use crate::commands::{ConfigArgs, data_rows, open_scorer};
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust score`.
#[derive(Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON Lines, a JSON array or Parquet with `prompt` or `messages`, `completions`, and perhaps
    /// `answer` and `group_id`.
    #[arg(long)]
    input: PathBuf,
    /// Folder for rewards.jsonl and the Parquet tables.
    #[arg(long)]
    output: PathBuf,
}

/// The files of a folder with scores.
const WRITTEN: [&str; 5] =
    ["rewards.jsonl", "matches.parquet", "votes.parquet", "rewards.parquet", "completions.parquet"];

#[derive(Serialize)]
struct GroupRewards {
    group_id: GroupId,
    rewards: Vec<Option<f64>>,
    statuses: Vec<&'static str>,
    ranks: Vec<Option<i32>>,
}

pub(crate) fn run(args: ScoreArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let purpose = config.reward.prompt_use();
    let groups = read_groups(&args.input, Seed::new(config.run.seed), purpose)?;
    let is_correct = config.reward.kind == RewardKind::Correct;
    if is_correct && groups.iter().all(|group| group.reference.is_none()) {
        let text = format!(
            "{}: no row has a known answer (column `answer`); reward.kind = \"correct\" needs them",
            args.input.display()
        );
        return Err(UserError::new(text).into());
    }
    let output = OutputFolder { path: &args.output, files: &WRITTEN };
    let mut scorer = open_scorer(&config, &args.input, &output)?;
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
    // of those that the rule scored
    let compared = results.iter().flat_map(|result| &result.correctness);
    let n_unread = compared.filter(|found| **found == Correctness::NotUnderstood).count();
    if n_unread > 0 {
        output::note(format!(
            "{n_unread} completions count as wrong because their answer, or the known one, was not \
             understood"
        ));
    }
    output::line(format!(
        "{}, {}, {} without a reward: {}",
        counted(lines.len() as u64, "group"),
        counted(n_votes as u64, "vote"),
        counted(n_missing as u64, "completion"),
        args.output.display()
    ));
    print_preferences(&results, config.reward.rating.length_control);
    let tally = VoteTally::of(results.iter().flat_map(|result| &result.votes));
    for warning in vote_warnings(&tally) {
        output::line(warning);
    }
    refuse_no_votes(&tally)?;
    refuse_lost_votes(&tally, config.reward.max_failed)
}

/// Says what the judge prefers beside the better answer; all groups are rated with the same.
fn print_preferences(results: &[GroupResult], length_control: bool) {
    let bias = |result: &GroupResult| result.position_bias.zip(result.position_bias_stderr);
    if let Some((bias, stderr)) = results.iter().find_map(bias) {
        output::line(format!(
            "position bias of the judge: {bias:+.3} ± {stderr:.3} log-odds for the answer shown \
             first, removed from the ratings"
        ));
    }
    let slope = |result: &GroupResult| result.length_slope.zip(result.length_slope_stderr);
    if let Some((slope, stderr)) = results.iter().find_map(slope) {
        let what_became = match length_control {
            true => "removed from the ratings",
            false => "in the ratings (reward.rating.length_control removes it)",
        };
        output::line(format!(
            "length slope of the judge: {slope:+.3} ± {stderr:.3} log-odds for longer answers, \
             {what_became}"
        ));
    }
}

/// Reads groups to be scored.
///
/// The draws of a group depend on its prompt and its completions, not on its line or on the other
/// lines. Groups of equal content are numbered, so that each has draws of its own.
///
/// # Errors
/// The problem of the first row that is not a group, with its place.
pub(crate) fn read_groups(
    input: &Path,
    seed: Seed,
    purpose: PromptUse,
) -> anyhow::Result<Vec<GroupRequest>> {
    const COLUMNS: [&str; 6] =
        ["prompt", MESSAGES, "completions", "answer", VERL_COLUMN, "group_id"];
    let mut place_of_id = BTreeMap::new();
    let mut n_copies: BTreeMap<u64, u64> = BTreeMap::new();
    let groups = data_rows::read_all(input, &COLUMNS, |row| {
        let mut group = group_request(row, purpose)?;
        let content = content_seed(seed, &group);
        let copy = n_copies.entry(content.0).or_default();
        group.seed = content.child("copy", *copy);
        *copy += 1;
        match place_of_id.insert(group.group_id.clone(), row.place()) {
            None => Ok(group),
            Some(first) => Err(row.error(format!(
                "group_id `{}` is on {first} already; ids are unique",
                group.group_id
            ))),
        }
    })?;
    Ok(groups)
}

/// The seed of a group's content, in which the order of the members does not count.
fn content_seed(seed: Seed, group: &GroupRequest) -> Seed {
    let mut completions: Vec<&String> = group.completions.iter().collect();
    completions.sort();
    let seed = seed.child_str("score", &group.question);
    completions.into_iter().fold(seed, |seed, text| seed.child_str("completion", text))
}

fn group_request(row: &Row, purpose: PromptUse) -> Result<GroupRequest, joust_schema::Error> {
    let prompt = data_rows::prompt(row, |prompt| purpose.problem(prompt))?;
    let question = prompt.question();
    let completions: Vec<Completion> = row.required("completions")?;
    if completions.is_empty() {
        return Err(row.error("completions is empty, wanted at least one"));
    }
    let number = row.place().number();
    let group_id = row.id("group_id")?.unwrap_or_else(|| format!("{number:06}"));
    Ok(GroupRequest {
        step: 0,
        group_id: GroupId(group_id),
        // known once all groups before it are
        seed: Seed::new(0),
        completions: completions.into_iter().map(|text| text.0).collect(),
        question,
        reference: row.answer_for(purpose, "answer")?,
        tournament: None,
    })
}
