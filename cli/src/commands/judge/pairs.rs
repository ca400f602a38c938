//! Pairs of completions, out of rows, and the votes on them.
//!
//! It does not know what is told of the votes.

use std::collections::BTreeMap;

use joust_reward::judge::{Judge, JudgeError, ShownPair, VoteId, VoteReply, VoteRequest};
use joust_reward::{no_reply_text, prompt};
use joust_schema::Error;
use joust_schema::ids::{GroupId, MatchId, Member};
use joust_schema::prompt::{Completion, Prompt, PromptUse};
use joust_schema::rows::{MESSAGES, Row, VERL_COLUMN};
use joust_schema::seed::Seed;
use joust_schema::tables::{Match, Verdict, Vote};
use serde::{Deserialize, Serialize};

use crate::commands::data_rows;
use crate::commands::sets::{RowAt, SetRows};

/// Makes pairs of rows.
pub(super) struct PairMaker {
    pub(super) purpose: PromptUse,
}

/// A pair, and its index over all files.
pub(super) struct NumberedPair {
    pub(super) idx: usize,
    pub(super) pair: AnswerPair,
}

impl SetRows for PairMaker {
    type Item = NumberedPair;

    const COLUMNS: &'static [&'static str] =
        &["prompt", MESSAGES, "completion_a", "completion_b", "winner", "answer", VERL_COLUMN];

    fn begin_set(&mut self) {}

    fn note(&mut self, _: &Row, _: &RowAt<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn item(&mut self, row: &Row, at: &RowAt<'_>) -> Result<NumberedPair, Error> {
        let pair = AnswerPair::of(row, self.purpose)?;
        Ok(NumberedPair { idx: at.row_idx as usize, pair })
    }
}

/// Two completions of a prompt.
pub(super) struct AnswerPair {
    prompt: Prompt,
    completion_a: Completion,
    completion_b: Completion,
    pub(super) winner: Option<Side>,
    answer: Option<String>,
}

impl AnswerPair {
    fn of(row: &Row, purpose: PromptUse) -> Result<Self, Error> {
        Ok(Self {
            prompt: data_rows::prompt(row, |prompt| purpose.problem(prompt))?,
            completion_a: row.required("completion_a")?,
            completion_b: row.required("completion_b")?,
            winner: row.optional("winner")?,
            answer: row.answer_for(purpose, "answer")?,
        })
    }
    /// All that is read of it, as text.
    pub(super) fn content(&self) -> String {
        let texts = (&self.completion_a.0, &self.completion_b.0, self.winner, &self.answer);
        serde_json::to_string(&(&self.prompt, texts)).expect("A pair is plain data. This is a bug.")
    }
}

/// One of the two completions.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    A,
    B,
}

/// The votes that are asked for.
#[derive(Clone, Copy)]
pub(super) struct VotesWanted {
    pub(super) per_pair: u32,
    /// Seed of all draws.
    pub(super) seed: Seed,
}

/// Position of a vote: its pair, and its number among the pair's votes.
pub(super) type VotePosition = (usize, u32);

/// A vote that the judge works on.
struct SubmittedVote {
    position: VotePosition,
    a_shown_first: bool,
    seed: Seed,
}

/// Has all pairs judged; returns the votes by position.
pub(super) fn judge_pairs(
    judge: &mut dyn Judge,
    pairs: &[NumberedPair],
    votes_wanted: VotesWanted,
    progress: &mut dyn FnMut(),
) -> BTreeMap<VotePosition, Vote> {
    let submitted = submit_votes(judge, pairs, votes_wanted);
    let mut votes = BTreeMap::new();
    while votes.len() < submitted.len() {
        for (id, outcome) in judge.poll() {
            if let Some(vote) = submitted.get(&id) {
                votes.insert(vote.position, vote.row(judge.name(), outcome));
                progress();
            }
        }
    }
    votes
}

fn submit_votes(
    judge: &mut dyn Judge,
    pairs: &[NumberedPair],
    votes_wanted: VotesWanted,
) -> BTreeMap<VoteId, SubmittedVote> {
    let mut submitted = BTreeMap::new();
    for &NumberedPair { idx: pair_idx, pair: ref row } in pairs {
        let seed = votes_wanted.seed.child("judge", pair_idx as u64);
        let starts_with_a = seed.child("order", 0).unit() < 0.5;
        for vote in 0..votes_wanted.per_pair {
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

/// The row of a pair in the table of matches.
pub(super) fn match_row(pair_idx: usize, votes: &BTreeMap<VotePosition, Vote>) -> Match {
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
