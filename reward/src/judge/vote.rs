//! Votes: a question to a judge, its reply, and why there may be none.
//!
//! Plain data. It does not know tournaments, nor how a judge works.

use joust_schema::ids::{GroupId, MatchId, Member};
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;

/// Identifies a vote among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteId(pub u64);

/// The members whose answers a vote shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownPair {
    /// Their group.
    pub group_id: GroupId,
    /// The member shown as Assistant 1.
    pub first: Member,
    /// The member shown as Assistant 2.
    pub second: Member,
}

impl ShownPair {
    /// Two members of a group, the one shown first first.
    pub fn new(group_id: &str, first: u32, second: u32) -> Self {
        Self { group_id: GroupId::from(group_id), first: Member(first), second: Member(second) }
    }
}

/// A question to the judge: which of two answers is better?
#[derive(Clone, Debug)]
pub struct VoteRequest {
    /// Names the outcome.
    pub id: VoteId,
    /// The match.
    pub match_id: MatchId,
    /// Who is shown; only a replay reads it.
    pub pair: ShownPair,
    /// Position of the vote in its match, counted from 0.
    pub vote: u32,
    /// Number of attempts before this one.
    pub attempt: u32,
    /// The prompt that both answers reply to.
    pub question: String,
    /// The answer shown as Assistant 1.
    pub answer_first: String,
    /// The answer shown as Assistant 2.
    pub answer_second: String,
    /// The known answer; only a rule reads it.
    pub reference: Option<String>,
    /// Seed of the judge's draws.
    pub seed: Seed,
}

/// A judge's reply to a [`VoteRequest`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct VoteReply {
    /// Which of the shown answers won.
    pub verdict: Verdict,
    /// Whether the judge was shown the two answers in the other order than requested, and speaks of
    /// that order. Only a replay does so: it repeats the order of the recorded vote.
    pub is_swapped: bool,
    /// The judge's whole output.
    pub text: String,
    /// Number of tokens of the judge's prompt.
    pub prompt_tokens: usize,
    /// Number of prompt tokens whose keys and values were reused, not computed.
    pub cached_prompt_tokens: usize,
    /// Number of tokens that the judge generated.
    pub completion_tokens: usize,
    /// Time from the first work on the vote to its end.
    pub latency_ms: f64,
    /// Whether the limit of tokens or the end of the context ended the output.
    pub is_cut_off: bool,
}

impl VoteReply {
    /// A reply that took no tokens and no time.
    pub fn without_tokens(verdict: Verdict, text: String) -> Self {
        Self {
            verdict,
            is_swapped: false,
            text,
            prompt_tokens: 0,
            cached_prompt_tokens: 0,
            completion_tokens: 0,
            latency_ms: 0.0,
            is_cut_off: false,
        }
    }
}

/// Why a judge gives no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgeError {
    /// The same request would fail again: a prompt too long, a missing answer, no recorded vote.
    #[error("{0}")]
    Refused(String),
    /// Something broke; a second attempt may succeed.
    #[error("{0}")]
    Failed(String),
}

/// A finished vote: the id of its request, and the reply or why there is none.
pub type VoteOutcome = (VoteId, Result<VoteReply, JudgeError>);
