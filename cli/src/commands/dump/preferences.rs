//! `joust dump pairs` and `joust dump best`: preference data out of dumps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use joust_schema::ids::{GroupId, Member};
use joust_schema::tables::Completion;
use serde::Serialize;

use crate::commands::written;
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust dump pairs`.
#[derive(Args)]
pub(crate) struct PairsArgs {
    /// Folder of a run, or a file with completions.
    path: PathBuf,
    /// Minimum difference of the two rewards.
    #[arg(long, default_value_t = 0.0)]
    min_margin: f64,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Arguments of `joust dump best`.
#[derive(Args)]
pub(crate) struct BestArgs {
    /// Folder of a run, or a file with completions.
    path: PathBuf,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct PreferencePair {
    prompt: String,
    chosen: String,
    rejected: String,
    chosen_reward: f64,
    rejected_reward: f64,
    group_id: GroupId,
}

#[derive(Serialize)]
struct BestCompletion {
    prompt: String,
    completion: String,
    reward: f64,
    group_id: GroupId,
}

/// The scored completions of a group, best first.
type RankedGroup = Vec<(f64, Completion)>;

/// The scored completions of each group, best first, by the names of the groups. Trainers number
/// their groups anew in each step, so a name is that of one group only within a file, a step and a
/// prompt, and each member of a group comes once.
fn ranked(path: &std::path::Path) -> anyhow::Result<Vec<(GroupId, RankedGroup)>> {
    let mut groups: BTreeMap<(GroupId, usize, i64, String, usize), RankedGroup> = BTreeMap::new();
    for (file, rows) in super::files::read_completions(path)?.into_iter().enumerate() {
        let mut n_seen: BTreeMap<(GroupId, i64, String, Member), usize> = BTreeMap::new();
        for row in rows {
            let (id, prompt) = (row.group_id.clone(), row.prompt.clone());
            let seen = n_seen.entry((id.clone(), row.step, prompt.clone(), row.member));
            let seen = seen.and_modify(|n| *n += 1).or_insert(0);
            let key = (id, file, row.step, prompt, *seen);
            if let Some(reward) = row.reward {
                groups.entry(key).or_default().push((reward, row));
            }
        }
    }
    let sorted = groups.into_iter().map(|((id, ..), mut rows)| {
        rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.member.cmp(&b.1.member)));
        (id, rows)
    });
    Ok(sorted.collect())
}

/// Refuses to write over the dump.
fn check_output(path: &std::path::Path, output: Option<&std::path::Path>) -> anyhow::Result<()> {
    if let Some(output) = output.filter(|output| output.extension().is_some_and(|e| e == "parquet"))
    {
        let reason = format!("--output {}: the output is JSON Lines", output.display());
        return Err(UserError::new(reason).into());
    }
    written::check_other_file(path, output)
}

pub(crate) fn write_pairs(args: PairsArgs) -> anyhow::Result<()> {
    check_output(&args.path, args.output.as_deref())?;
    let mut pairs = Vec::new();
    for (group_id, rows) in ranked(&args.path)? {
        let (Some((best, chosen)), Some((worst, rejected))) = (rows.first(), rows.last()) else {
            continue;
        };
        // equal rewards give no preference
        if best > worst && best - worst >= args.min_margin {
            pairs.push(PreferencePair {
                prompt: chosen.prompt.clone(),
                chosen: chosen.completion.clone(),
                rejected: rejected.completion.clone(),
                chosen_reward: *best,
                rejected_reward: *worst,
                group_id,
            });
        }
    }
    output::json_lines(args.output.as_deref(), &pairs)
}

pub(crate) fn write_best(args: BestArgs) -> anyhow::Result<()> {
    check_output(&args.path, args.output.as_deref())?;
    let best = ranked(&args.path)?.into_iter().filter_map(|(group_id, rows)| {
        let (reward, row) = rows.into_iter().next()?;
        Some(BestCompletion { prompt: row.prompt, completion: row.completion, reward, group_id })
    });
    output::json_lines(args.output.as_deref(), &best.collect::<Vec<_>>())
}
