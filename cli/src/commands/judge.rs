//! `joust judge`: pairs of completions in, votes out; with known winners also the judge's accuracy.

mod pairs;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use joust_reward::judge::{Judge, KeptVotes};
use joust_reward::{RewardKind, Scorer};
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Vote};
use joust_schema::{jsonl, parquet};
use serde::Serialize;
use toml::Table;

use crate::commands::sets::{self, Labelled, SetArgs, SetJob, SetWork};
use crate::commands::votes::{refuse_lost_votes, refuse_no_votes};
use crate::commands::written::OutputFolder;
use crate::commands::{ConfigArgs, open_scorer};
use crate::failure::UserError;
use crate::output;
use crate::score_config::ScoreRun;
use pairs::{NumberedPair, PairMaker, Side, VotesWanted, judge_pairs, match_row};
use summary::{JudgingCounts, tell};

/// Arguments of `joust judge`.
#[derive(Args)]
pub(crate) struct JudgeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file, a folder or a pattern in quotes (`'data/*.parquet'`): JSON Lines, JSON arrays or
    /// Parquet with `prompt` or `messages`, `completion_a`, `completion_b`, and perhaps `winner`
    /// (`a` or `b`).
    #[arg(long)]
    input: PathBuf,
    /// Folder for verdicts.jsonl, matches.parquet and votes.parquet, or for sets of them.
    #[arg(long)]
    output: PathBuf,
    #[command(flatten)]
    sets: SetArgs,
    /// Number of votes per pair; `reward.tournament.votes` if left out. The order of presentation
    /// alternates: an even number shows both orders equally often.
    #[arg(long)]
    votes: Option<u32>,
    /// Prints the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The files of a folder with verdicts.
const WRITTEN: [&str; 3] = ["verdicts.jsonl", "matches.parquet", "votes.parquet"];

#[derive(Serialize)]
struct PairVerdict {
    pair_idx: usize,
    votes_a: u32,
    votes_b: u32,
    votes_invalid: u32,
    winner: Option<Side>,
}

impl PairVerdict {
    fn of(pair_idx: usize, row: &Match) -> Self {
        Self {
            pair_idx,
            votes_a: row.votes_a as u32,
            votes_b: row.votes_b as u32,
            votes_invalid: row.votes_invalid as u32,
            winner: row.winner.map(|member| if member.0 == 0 { Side::A } else { Side::B }),
        }
    }
}

pub(crate) fn run(args: JudgeArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let n_votes = args.votes.unwrap_or(config.reward.tournament.votes.max);
    if n_votes == 0 {
        return Err(UserError::new("--votes is 0, wanted at least 1").into());
    }
    let job = SetJob {
        command: "judge",
        config: &config,
        input: &args.input,
        output: &args.output,
        args: &args.sets,
        files: &WRITTEN,
        options: Table::from_iter([("--votes".to_owned(), i64::from(n_votes).into())]),
    };
    let mut rows = PairMaker { purpose: config.reward.prompt_use() };
    let votes_wanted = VotesWanted { per_pair: n_votes, seed: Seed::new(config.run.seed) };
    let mut work = JudgeWork { config: &config, votes_wanted, judge: None, kept: None };
    let counts = match sets::label(&job, &mut rows, &mut work)? {
        Labelled::Sets(counts) => counts,
        Labelled::Small(pairs) => {
            sets::refuse_sets(&args.output)?;
            let output = OutputFolder { path: &args.output, files: &WRITTEN };
            work.judge = Some(judge_of(open_scorer(&config, &args.input, &output)?)?);
            let bar = output::progress_bar(pairs.len() as u64 * u64::from(n_votes), "votes");
            let judged = work.judge_votes(pairs, &mut || bar.inc(1))?;
            bar.finish_and_clear();
            work.write(&args.output, &judged)?;
            work.summary(&judged)
        }
    };
    let summary = counts.summary();
    if args.json {
        output::json(&summary)?;
    } else {
        tell(&summary, &counts.tally);
        output::line(format!("Votes: {}", args.output.display()));
    }
    refuse_no_votes(&counts.tally)
}

/// The judge of sets of pairs; it is opened for the first one.
struct JudgeWork<'a> {
    config: &'a ScoreRun,
    votes_wanted: VotesWanted,
    judge: Option<Box<dyn Judge>>,
    kept: Option<KeptVotes>,
}

/// Pairs that were judged.
struct JudgedPairs {
    pairs: Vec<NumberedPair>,
    matches: Vec<Match>,
    votes: Vec<Vote>,
    seconds: f64,
}

fn judge_of(scorer: Scorer) -> anyhow::Result<Box<dyn Judge>> {
    scorer.into_judge().ok_or_else(no_judge)
}

fn no_judge() -> anyhow::Error {
    UserError::new("reward.kind is correct, which needs no judge; choose win_rate").into()
}

impl JudgeWork<'_> {
    /// Judges pairs; `progress` is called with each vote.
    fn judge_votes(
        &mut self,
        pairs: Vec<NumberedPair>,
        progress: &mut dyn FnMut(),
    ) -> anyhow::Result<JudgedPairs> {
        let judge = match &mut self.judge {
            Some(judge) => judge,
            none => {
                let mut scorer = Scorer::open(&self.config.reward, true)?;
                self.kept.iter().for_each(|kept| scorer.keep_votes(kept.clone()));
                none.insert(judge_of(scorer)?)
            }
        };
        let began = Instant::now();
        // a set's votes do not depend on the sets before it
        judge.clear_caches();
        let votes = judge_pairs(judge.as_mut(), &pairs, self.votes_wanted, progress);
        Ok(JudgedPairs {
            seconds: began.elapsed().as_secs_f64(),
            matches: pairs.iter().map(|pair| match_row(pair.idx, &votes)).collect(),
            votes: votes.into_values().collect(),
            pairs,
        })
    }
}

impl SetWork for JudgeWork<'_> {
    type Item = NumberedPair;
    type Judged = JudgedPairs;
    type Summary = JudgingCounts;

    const UNIT: &'static str = "pairs";

    fn content(item: &NumberedPair) -> String {
        item.pair.content()
    }

    fn check_first(&self, _: &[NumberedPair], _: bool) -> anyhow::Result<()> {
        match self.config.reward.kind {
            RewardKind::Correct => Err(no_judge()),
            _ => Ok(()),
        }
    }

    fn keep_votes(&mut self, kept: KeptVotes) {
        self.kept = Some(kept);
    }

    fn judge(
        &mut self,
        pairs: Vec<NumberedPair>,
        progress: &mut dyn FnMut(),
    ) -> anyhow::Result<JudgedPairs> {
        let (n_votes, mut n_done) = (self.votes_wanted.per_pair, 0);
        self.judge_votes(pairs, &mut || {
            n_done += 1;
            if n_done % n_votes == 0 {
                progress();
            }
        })
    }

    fn write(&self, dir: &Path, judged: &JudgedPairs) -> anyhow::Result<()> {
        parquet::write(&dir.join("matches.parquet"), &judged.matches)?;
        parquet::write(&dir.join("votes.parquet"), &judged.votes)?;
        let verdict = |(pair, row): (&NumberedPair, &Match)| PairVerdict::of(pair.idx, row);
        let lines: Vec<PairVerdict> =
            judged.pairs.iter().zip(&judged.matches).map(verdict).collect();
        Ok(jsonl::write(&dir.join("verdicts.jsonl"), &lines)?)
    }

    fn summary(&self, judged: &JudgedPairs) -> JudgingCounts {
        let JudgedPairs { pairs, votes, seconds, .. } = judged;
        JudgingCounts::of(pairs, votes, self.votes_wanted.per_pair, *seconds)
    }

    fn check(&self, counts: &JudgingCounts) -> anyhow::Result<()> {
        refuse_no_votes(&counts.tally)?;
        refuse_lost_votes(&counts.tally, self.config.reward.max_failed)
    }

    fn add(total: &mut JudgingCounts, later: JudgingCounts) {
        total.add(later);
    }
}
