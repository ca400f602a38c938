//! `joust judge`: pairs of completions in, votes out; with known winners also the judge's accuracy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use joust_reward::judge::{Judge, JudgeError, ShownPair, VoteId, VoteReply, VoteRequest};
use joust_reward::{VoteTally, no_reply_text, prompt};
use joust_run::counted;
use joust_schema::ids::{GroupId, MatchId, Member};
use joust_schema::parquet;
use joust_schema::prompt::{Completion, Prompt, PromptUse};
use joust_schema::rows::{MESSAGES, Row, VERL_COLUMN};
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Verdict, Vote};
use serde::{Deserialize, Serialize};

use crate::commands::votes::{refuse_no_votes, vote_warnings};
use crate::commands::written::OutputFolder;
use crate::commands::{ConfigArgs, data_rows, open_scorer};
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust judge`.
#[derive(Args)]
pub(crate) struct JudgeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON Lines, a JSON array or Parquet with `prompt` or `messages`, `completion_a`,
    /// `completion_b`, and perhaps `winner` (`a` or `b`).
    #[arg(long)]
    input: PathBuf,
    /// Folder for verdicts.jsonl, matches.parquet and votes.parquet.
    #[arg(long)]
    output: PathBuf,
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

struct AnswerPair {
    prompt: Prompt,
    completion_a: Completion,
    completion_b: Completion,
    winner: Option<Side>,
    answer: Option<String>,
}

impl AnswerPair {
    const COLUMNS: [&str; 7] =
        ["prompt", MESSAGES, "completion_a", "completion_b", "winner", "answer", VERL_COLUMN];

    fn of(row: &Row, purpose: PromptUse) -> Result<Self, joust_schema::Error> {
        Ok(Self {
            prompt: data_rows::prompt(row, |prompt| purpose.problem(prompt))?,
            completion_a: row.required("completion_a")?,
            completion_b: row.required("completion_b")?,
            winner: row.optional("winner")?,
            answer: row.answer_for(purpose, "answer")?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    A,
    B,
}

#[derive(Serialize)]
struct PairVerdict {
    pair_idx: usize,
    votes_a: u32,
    votes_b: u32,
    votes_invalid: u32,
    winner: Option<Side>,
}

/// Summary of all votes. Accuracies are over votes whose pair has a known winner; an invalid vote
/// counts as wrong.
#[derive(Default, Serialize)]
struct JudgingSummary {
    pairs: usize,
    votes: usize,
    invalid_votes: usize,
    /// Votes without a reply of the judge; they are among the invalid ones.
    failed_votes: usize,
    /// Votes that the limit of tokens or the end of the context cut off.
    cut_off_votes: usize,
    /// Why the first vote without a reply has none.
    first_failure: Option<String>,
    /// Share of the valid votes for the answer shown first.
    first_share: Option<f64>,
    /// Share of votes for the known winner.
    accuracy: Option<f64>,
    /// Accuracy over votes that showed the known winner first.
    accuracy_better_first: Option<f64>,
    /// Accuracy over votes that showed the known winner second.
    accuracy_better_second: Option<f64>,
    /// Share of pairs with votes in both orders whose votes all agree on one winner.
    consistency: Option<f64>,
    seconds: f64,
    judge_tokens_per_second: f64,
}

pub(crate) fn run(args: JudgeArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let n_votes = args.votes.unwrap_or(config.reward.tournament.votes.max);
    if n_votes == 0 {
        return Err(UserError::new("--votes is 0, wanted at least 1").into());
    }
    let purpose = config.reward.prompt_use();
    let rows =
        data_rows::read_all(&args.input, &AnswerPair::COLUMNS, |row| AnswerPair::of(row, purpose))?;
    let output = OutputFolder { path: &args.output, files: &WRITTEN };
    let scorer = open_scorer(&config, &args.input, &output)?;
    let mut judge = scorer.into_judge().ok_or_else(|| {
        UserError::new("reward.kind is correct, which needs no judge; choose win_rate")
    })?;
    let began = std::time::Instant::now();
    let votes = judge_pairs(judge.as_mut(), &rows, n_votes, Seed::new(config.run.seed));
    let seconds = began.elapsed().as_secs_f64();

    let matches: Vec<Match> = (0..rows.len()).map(|pair_idx| match_row(pair_idx, &votes)).collect();
    let lines: Vec<PairVerdict> = matches.iter().enumerate().map(pair_verdict).collect();
    std::fs::create_dir_all(&args.output)
        .map_err(|source| joust_schema::Error::io(&args.output, source))?;
    parquet::write(&args.output.join("matches.parquet"), &matches)?;
    let vote_rows: Vec<Vote> = votes.into_values().collect();
    parquet::write(&args.output.join("votes.parquet"), &vote_rows)?;
    output::json_lines(Some(&args.output.join("verdicts.jsonl")), &lines)?;
    let tally = VoteTally::of(&vote_rows);
    let summary = summarise(&rows, &vote_rows, &tally, n_votes, seconds);
    if args.json {
        output::json(&summary)?;
    } else {
        print_summary(&summary, &tally);
        output::line(format!("Votes: {}", args.output.display()));
    }
    refuse_no_votes(&tally)
}

/// Position of a vote: its pair, and its number among the pair's votes.
type VotePosition = (usize, u32);

/// A vote that the judge works on.
struct SubmittedVote {
    position: VotePosition,
    a_shown_first: bool,
    seed: Seed,
}

/// Has all pairs judged; returns the votes by position.
fn judge_pairs(
    judge: &mut dyn Judge,
    rows: &[AnswerPair],
    n_votes: u32,
    seed: Seed,
) -> BTreeMap<VotePosition, Vote> {
    let submitted = submit_votes(judge, rows, n_votes, seed);
    let bar = output::progress_bar(submitted.len() as u64, "votes");
    let mut votes = BTreeMap::new();
    while votes.len() < submitted.len() {
        for (id, outcome) in judge.poll() {
            if let Some(vote) = submitted.get(&id) {
                votes.insert(vote.position, vote.row(judge.name(), outcome));
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    votes
}

fn submit_votes(
    judge: &mut dyn Judge,
    rows: &[AnswerPair],
    n_votes: u32,
    seed: Seed,
) -> BTreeMap<VoteId, SubmittedVote> {
    let mut submitted = BTreeMap::new();
    for (pair_idx, row) in rows.iter().enumerate() {
        let seed = seed.child("judge", pair_idx as u64);
        let starts_with_a = seed.child("order", 0).unit() < 0.5;
        for vote in 0..n_votes {
            let a_shown_first = starts_with_a == vote.is_multiple_of(2);
            let id = VoteId(submitted.len() as u64);
            let question = row.prompt.question();
            let answer = |text: &str| prompt::answer(&question, text).to_owned();
            let (a, b) = (answer(&row.completion_a.0), answer(&row.completion_b.0));
            let (answer_first, answer_second) = if a_shown_first { (a, b) } else { (b, a) };
            let seed = seed.child("vote", u64::from(vote));
            let position = (pair_idx, vote);
            submitted.insert(id, SubmittedVote { position, a_shown_first, seed });
            judge.submit(VoteRequest {
                id,
                match_id: match_id(pair_idx),
                pair: match a_shown_first {
                    true => ShownPair::new(&match_id(pair_idx).0, 0, 1),
                    false => ShownPair::new(&match_id(pair_idx).0, 1, 0),
                },
                vote,
                attempt: 0,
                question,
                answer_first,
                answer_second,
                reference: row.answer.clone(),
                seed,
            });
        }
    }
    submitted
}

impl SubmittedVote {
    /// The row of the vote, once it is finished.
    fn row(&self, judge: &str, outcome: Result<VoteReply, JudgeError>) -> Vote {
        let (pair_idx, vote) = self.position;
        let latency_ms = outcome.as_ref().ok().map(|reply| reply.latency_ms);
        let cut_off = outcome.as_ref().ok().map(|reply| reply.is_cut_off);
        let reply = outcome.unwrap_or_else(|error| {
            VoteReply::without_tokens(Verdict::Invalid, no_reply_text(&error))
        });
        Vote {
            match_id: match_id(pair_idx),
            vote: vote as i32,
            attempt: 0,
            a_shown_first: self.a_shown_first != reply.is_swapped,
            verdict: reply.verdict,
            text: reply.text,
            prompt_tokens: reply.prompt_tokens as i32,
            cached_prompt_tokens: reply.cached_prompt_tokens as i32,
            completion_tokens: reply.completion_tokens as i32,
            latency_ms,
            seed: self.seed.0 as i64,
            judge: judge.to_owned(),
            cut_off,
        }
    }
}

fn match_id(pair_idx: usize) -> MatchId {
    MatchId(format!("{pair_idx:06}"))
}

fn match_row(pair_idx: usize, votes: &BTreeMap<VotePosition, Vote>) -> Match {
    let of_pair = votes.range((pair_idx, 0)..=(pair_idx, u32::MAX)).map(|(_, vote)| vote);
    let for_a: Vec<Option<bool>> =
        of_pair.map(|vote| vote.verdict.for_a(vote.a_shown_first)).collect();
    let count = |wanted: Option<bool>| for_a.iter().filter(|vote| **vote == wanted).count() as i32;
    let (votes_a, votes_b) = (count(Some(true)), count(Some(false)));
    let a_first = votes.range((pair_idx, 0)..=(pair_idx, u32::MAX)).map(|(_, vote)| vote);
    let a_first: Vec<Option<bool>> =
        a_first.filter(|vote| vote.a_shown_first).map(|vote| vote.verdict.for_a(true)).collect();
    let count_first =
        |wanted: bool| a_first.iter().filter(|vote| **vote == Some(wanted)).count() as i32;
    Match {
        step: 0,
        group_id: GroupId(format!("{pair_idx:06}")),
        match_id: match_id(pair_idx),
        round: 1,
        member_a: Member(0),
        member_b: Member(1),
        votes_a,
        votes_b,
        votes_invalid: count(None),
        decided_early: false,
        winner: match votes_a.cmp(&votes_b) {
            std::cmp::Ordering::Greater => Some(Member(0)),
            std::cmp::Ordering::Less => Some(Member(1)),
            std::cmp::Ordering::Equal => None,
        },
        a_first_votes_a: Some(count_first(true)),
        a_first_votes_b: Some(count_first(false)),
        position_bias: None,
        position_bias_stderr: None,
        copies_a: Some(1),
        copies_b: Some(1),
    }
}

fn pair_verdict((pair_idx, row): (usize, &Match)) -> PairVerdict {
    PairVerdict {
        pair_idx,
        votes_a: row.votes_a as u32,
        votes_b: row.votes_b as u32,
        votes_invalid: row.votes_invalid as u32,
        winner: row.winner.map(|member| if member.0 == 0 { Side::A } else { Side::B }),
    }
}

fn summarise(
    rows: &[AnswerPair],
    votes: &[Vote],
    tally: &VoteTally,
    n_votes: u32,
    seconds: f64,
) -> JudgingSummary {
    let share = |n: usize, of: usize| (of > 0).then(|| n as f64 / of as f64);
    let n_invalid = tally.n_invalid;
    let n_first = votes.iter().filter(|vote| vote.verdict == Verdict::First).count();
    // per order, known winner shown second and first: votes, and votes for the known winner
    let mut by_order = [(0, 0); 2];
    for (idx, vote) in votes.iter().enumerate() {
        let Some(winner) = rows[idx / n_votes as usize].winner else {
            continue;
        };
        let better_first = vote.a_shown_first == (winner == Side::A);
        let wanted = if better_first { Verdict::First } else { Verdict::Second };
        let slot = &mut by_order[usize::from(better_first)];
        slot.0 += 1;
        slot.1 += usize::from(vote.verdict == wanted);
    }
    let [second, first] = by_order;
    let in_both: Vec<bool> = votes
        .chunks(n_votes as usize)
        .filter(|votes| votes.len() > 1)
        .map(|votes| {
            let wins: Vec<_> =
                votes.iter().map(|vote| vote.verdict.for_a(vote.a_shown_first)).collect();
            wins[0].is_some() && wins.iter().all(|win| *win == wins[0])
        })
        .collect();
    let tokens: f64 = votes.iter().map(|vote| f64::from(vote.completion_tokens)).sum();
    JudgingSummary {
        pairs: rows.len(),
        votes: votes.len(),
        invalid_votes: n_invalid,
        failed_votes: tally.n_failed,
        cut_off_votes: tally.n_cut_off,
        first_failure: tally.first_failure.clone(),
        first_share: share(n_first, votes.len() - n_invalid),
        accuracy: share(first.1 + second.1, first.0 + second.0),
        accuracy_better_first: share(first.1, first.0),
        accuracy_better_second: share(second.1, second.0),
        consistency: share(in_both.iter().filter(|same| **same).count(), in_both.len()),
        seconds,
        judge_tokens_per_second: tokens / seconds.max(1e-9),
    }
}

fn print_summary(summary: &JudgingSummary, tally: &VoteTally) {
    let percent = |share: Option<f64>| share.map(|share| format!("{:.1} %", share * 100.0));
    output::line(format!(
        "{}, {}, {} invalid, {:.0} s, {:.0} judge tokens/s",
        counted(summary.pairs as u64, "pair"),
        counted(summary.votes as u64, "vote"),
        summary.invalid_votes,
        summary.seconds,
        summary.judge_tokens_per_second
    ));
    for warning in vote_warnings(tally) {
        output::line(warning);
    }
    let rows = [
        ("votes for the answer shown first", summary.first_share),
        ("accuracy", summary.accuracy),
        ("  better answer shown first", summary.accuracy_better_first),
        ("  better answer shown second", summary.accuracy_better_second),
        ("pairs whose votes all agree", summary.consistency),
    ];
    for (name, share) in rows {
        if let Some(text) = percent(share) {
            output::line(format!("{name:<34} {text}"));
        }
    }
}
