//! `joust score`: groups of completions in, rewards with their evidence out.

mod groups;
mod summary;

use std::path::{Path, PathBuf};

use clap::Args;
use joust_reward::judge::KeptVotes;
use joust_reward::{GroupRequest, GroupResult, RewardKind, Scorer, dump};
use joust_schema::ids::GroupId;
use joust_schema::jsonl;
use joust_schema::seed::Seed;
use serde::Serialize;
use toml::Table;

use crate::commands::sets::{self, Labelled, SetArgs, SetJob, SetWork};
use crate::commands::votes::{refuse_lost_votes, refuse_no_votes};
use crate::commands::written::OutputFolder;
use crate::commands::{ConfigArgs, open_scorer};
use crate::failure::UserError;
use crate::output;
use crate::score_config::ScoreRun;
use groups::GroupMaker;
use summary::ScoreSummary;

pub(crate) use groups::read_groups;

/// Arguments of `joust score`.
#[derive(Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file, a folder or a pattern in quotes (`'data/*.parquet'`): JSON Lines, JSON arrays or
    /// Parquet with `prompt` or `messages`, `completions`, and perhaps `answer` and `group_id`.
    #[arg(long)]
    input: PathBuf,
    /// Folder for rewards.jsonl and the Parquet tables, or for sets of them.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    sets: SetArgs,
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

impl GroupRewards {
    fn of(result: &GroupResult) -> Self {
        Self {
            group_id: result.group_id.clone(),
            rewards: result.rewards.iter().map(|row| row.reward).collect(),
            statuses: result.rewards.iter().map(|row| row.status.as_str()).collect(),
            ranks: result.rewards.iter().map(|row| row.rank).collect(),
        }
    }
}

pub(crate) fn run(args: ScoreArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let job = SetJob {
        command: "score",
        config: &config,
        input: &args.input,
        output: &args.output,
        args: &args.sets,
        files: &WRITTEN,
        options: Table::new(),
    };
    let mut rows = GroupMaker::new(Seed::new(config.run.seed), config.reward.prompt_use());
    let mut work = ScoreWork { config: &config, input: &args.input, scorer: None, kept: None };
    let summary = match sets::label(&job, &mut rows, &mut work)? {
        Labelled::Sets(summary) => summary,
        Labelled::Small(groups) => {
            sets::refuse_sets(&args.output)?;
            let output = OutputFolder { path: &args.output, files: &WRITTEN };
            work.scorer = Some(open_scorer(&config, &args.input, &output)?);
            let bar = output::progress_bar(groups.len() as u64, "groups");
            let judged = work.judge(groups, &mut || bar.inc(1))?;
            bar.finish_and_clear();
            work.write(&args.output, &judged)?;
            work.summary(&judged)
        }
    };
    summary.tell(&args.output, config.reward.rating.length_control);
    work.check(&summary)
}

/// The scorer of sets of groups; it is opened for the first one.
struct ScoreWork<'a> {
    config: &'a ScoreRun,
    input: &'a Path,
    scorer: Option<Scorer>,
    kept: Option<KeptVotes>,
}

/// Groups that were scored together.
struct ScoredGroups {
    groups: Vec<GroupRequest>,
    results: Vec<GroupResult>,
}

impl SetWork for ScoreWork<'_> {
    type Item = GroupRequest;
    type Judged = ScoredGroups;
    type Summary = ScoreSummary;

    const UNIT: &'static str = "groups";

    fn content(group: &GroupRequest) -> String {
        serde_json::to_string(group).expect("A group is plain data. This is a bug.")
    }

    fn check_first(&self, groups: &[GroupRequest], is_all: bool) -> anyhow::Result<()> {
        let is_correct = self.config.reward.kind == RewardKind::Correct;
        if !is_correct || groups.iter().any(|group| group.reference.is_some()) {
            return Ok(());
        }
        let which = if is_all { "no row has" } else { "no row of the first set has" };
        let text = format!(
            "{}: {which} a known answer (column `answer`); reward.kind = \"correct\" needs them",
            self.input.display()
        );
        Err(UserError::new(text).into())
    }

    fn keep_votes(&mut self, kept: KeptVotes) {
        self.kept = Some(kept);
    }

    fn judge(
        &mut self,
        groups: Vec<GroupRequest>,
        progress: &mut dyn FnMut(),
    ) -> anyhow::Result<ScoredGroups> {
        let scorer = match &mut self.scorer {
            Some(scorer) => scorer,
            none => {
                let scorer = none.insert(Scorer::open(&self.config.reward, true)?);
                self.kept.iter().for_each(|kept| scorer.keep_votes(kept.clone()));
                scorer
            }
        };
        let results = scorer.score_all(groups.clone(), progress)?;
        Ok(ScoredGroups { groups, results })
    }

    fn write(&self, dir: &Path, scored: &ScoredGroups) -> anyhow::Result<()> {
        dump::write(dir, &scored.groups, &scored.results)?;
        let lines: Vec<GroupRewards> = scored.results.iter().map(GroupRewards::of).collect();
        Ok(jsonl::write(&dir.join("rewards.jsonl"), &lines)?)
    }

    fn summary(&self, scored: &ScoredGroups) -> ScoreSummary {
        ScoreSummary::of(&scored.results)
    }

    fn check(&self, summary: &ScoreSummary) -> anyhow::Result<()> {
        refuse_no_votes(&summary.tally)?;
        refuse_lost_votes(&summary.tally, self.config.reward.max_failed)
    }

    fn add(total: &mut ScoreSummary, later: ScoreSummary) {
        total.add(later);
    }
}
