//! `joust bench judge`: plays tournaments of given groups, and counts the tokens that the judge
//! computed.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use joust_reward::JudgeKind;
use joust_reward::arena::Arena;
use joust_reward::judge::{EngineJudge, RecordingJudge};
use joust_schema::seed::Seed;
use serde::Serialize;

use crate::commands::ConfigArgs;
use crate::commands::score::read_groups;
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust bench judge`.
#[derive(Args)]
pub(crate) struct JudgeBenchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// File of groups, as `joust score` reads it.
    #[arg(long)]
    input: PathBuf,
}

#[derive(Serialize)]
struct JudgeBench {
    bench: &'static str,
    judge: String,
    groups: usize,
    matches: usize,
    seconds: f64,
    matches_per_s: f64,
    /// Number of prompts, one per vote.
    prompts: usize,
    /// Number of tokens of all prompts.
    prompt_tokens: usize,
    /// Number of tokens if each shared prefix counts once: the smallest number to compute.
    trie_tokens: usize,
    /// Number of prompt tokens that were computed.
    computed_prompt_tokens: u64,
    /// Share of prompt tokens that were not computed.
    cached_share: f64,
    /// Number of tokens that the judge generated.
    completion_tokens: i64,
    /// Number of votes, retries not counted.
    votes_asked: usize,
    /// Number of votes that the stop rule saved.
    votes_saved: usize,
    preemptions: u64,
}

pub(crate) fn run(args: JudgeBenchArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let JudgeKind::Engine(model) = &config.reward.judge.kind else {
        let text = "wanted reward.judge.kind = \"engine\": other judges compute no prompts here";
        return Err(UserError::new(text.to_owned()).into());
    };
    let groups = read_groups(&args.input, Seed::new(config.run.seed), config.reward.prompt_use())?;
    let n_groups = groups.len();
    let mut judge = RecordingJudge::new(EngineJudge::open(model, &config.reward.judge)?);
    let mut arena = Arena::new(&config.reward, false);
    for group in groups {
        arena.add(group)?;
    }
    let bar = output::progress_bar(n_groups as u64, "groups");
    let start = Instant::now();
    let mut results = Vec::new();
    while arena.n_open() > 0 {
        let finished = arena.pump(&mut judge);
        bar.inc(finished.len() as u64);
        results.extend(finished.into_iter().map(|(_, result)| result));
    }
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let stats = judge.inner().stats();
    let votes = results.iter().flat_map(|result| &result.votes);
    let n_matches: usize = results.iter().map(|result| result.matches.len()).sum();
    let n_asked = votes.clone().filter(|vote| vote.attempt == 0).count();
    let prompt_tokens = judge.prompt_tokens();
    output::json_lines(
        None,
        &[JudgeBench {
            bench: "judge",
            judge: joust_reward::judge::Judge::name(&judge).to_owned(),
            groups: n_groups,
            matches: n_matches,
            seconds,
            matches_per_s: n_matches as f64 / seconds,
            prompts: judge.n_prompts(),
            prompt_tokens,
            trie_tokens: judge.trie_tokens(),
            computed_prompt_tokens: stats.computed_prompt_tokens,
            cached_share: 1.0 - stats.computed_prompt_tokens as f64 / prompt_tokens.max(1) as f64,
            completion_tokens: votes.map(|vote| i64::from(vote.completion_tokens)).sum(),
            votes_asked: n_asked,
            votes_saved: (n_matches * config.reward.tournament.votes.max as usize)
                .saturating_sub(n_asked),
            preemptions: stats.preemptions,
        }],
    )
}
