//! Who compares two completions: the seam between tournaments and whatever gives verdicts.
//!
//! A judge takes vote requests and gives outcomes, in any order, many at a time. It does not know
//! tournaments.

mod cached;
mod engine;
mod http;
mod recording;
mod replay;
mod rule;

use std::sync::Arc;

use joust_schema::ids::MatchId;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;

pub use cached::{CacheStats, CachedJudge};
pub use engine::EngineJudge;
pub use http::HttpJudge;
pub use recording::RecordingJudge;
pub use replay::ReplayJudge;
pub use rule::RuleJudge;

/// Identifies a vote among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteId(pub u64);

/// A question to the judge: which of two answers is better?
#[derive(Clone, Debug)]
pub struct VoteRequest {
    /// Names the outcome.
    pub id: VoteId,
    /// The match.
    pub match_id: MatchId,
    /// The vote's place in the match.
    pub vote: u32,
    /// Tries before this one.
    pub attempt: u32,
    /// What was asked.
    pub question: String,
    /// The answer shown as Assistant 1.
    pub answer_first: String,
    /// The answer shown as Assistant 2.
    pub answer_second: String,
    /// The known answer; only a rule looks at it.
    pub reference: Option<String>,
    /// Key of the judge's draws.
    pub seed: Seed,
}

/// What the judge said.
#[derive(Clone, Debug, PartialEq)]
pub struct VoteReply {
    /// Which of the shown answers won.
    pub verdict: Verdict,
    /// The judge's whole output.
    pub text: String,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation was shared.
    pub cached_prompt_tokens: usize,
    /// Tokens that it wrote.
    pub completion_tokens: usize,
    /// Time from first work to end.
    pub latency_ms: f64,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgeError {
    /// The same request would fail again: a prompt too long, a missing answer, no recorded vote.
    #[error("{0}")]
    Refused(String),
    /// Something broke; a second try may do better.
    #[error("{0}")]
    Failed(String),
}

/// A finished vote: its request's id, and the reply or why there is none.
pub type VoteOutcome = (VoteId, Result<VoteReply, JudgeError>);

/// A conversation for the judge's model itself, outside of any match.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// What was said so far.
    pub messages: Vec<Message>,
    /// Most tokens of the answer; the judge's own bound where none is given.
    pub max_tokens: Option<usize>,
    /// Temperature, instead of the judge's.
    pub temperature: Option<f64>,
    /// Probability mass that is drawn from, instead of the judge's.
    pub top_p: Option<f64>,
    /// Texts that end the answer and are no part of it.
    pub stop: Vec<String>,
    /// Key of its draws.
    pub seed: Seed,
}

/// What the judge's model answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatReply {
    /// Its answer, a thought included.
    pub text: String,
    /// Tokens of the conversation.
    pub prompt_tokens: usize,
    /// Tokens that it wrote.
    pub completion_tokens: usize,
    /// Whether it ended by itself, not at the limit of tokens.
    pub is_whole: bool,
}

/// A finished conversation: its request's id, and the reply or why there is none.
pub type ChatOutcome = (VoteId, Result<ChatReply, JudgeError>);

/// The servers that a judge asks, as others look at them.
pub trait JudgeServers: Send + Sync {
    /// How many there are.
    fn n(&self) -> usize;

    /// How many are left alone now, after failures.
    fn n_resting(&self) -> usize;
}

/// Gives verdicts on pairs of answers.
pub trait Judge: Send {
    /// Who judges, for the dump: model and a hash of the prompt template.
    fn name(&self) -> &str;

    /// Takes a request. A request that cannot be served comes back as an outcome with its error.
    fn submit(&mut self, request: VoteRequest);

    /// Drops a request whose vote is no longer needed; its outcome never comes, unless it was there
    /// already.
    fn cancel(&mut self, id: VoteId);

    /// Forgets what it keeps of earlier prompts, where it keeps anything: what follows is the same
    /// then, to the last bit, as after a fresh start.
    fn forget(&mut self) {}

    /// Works for a moment and gives the votes that are finished: perhaps none, where none is in flight or
    /// the next one takes its time.
    fn poll(&mut self) -> Vec<VoteOutcome>;

    /// Takes a conversation, under an id that no vote has; [`Judge::poll`] works on it, [`Judge::chats`]
    /// gives its answer.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] where the judge is no model.
    fn chat(&mut self, id: VoteId, request: ChatRequest) -> Result<(), JudgeError> {
        let _ = (id, request);
        Err(JudgeError::Refused(format!("the judge ({}) is no model to talk to", self.name())))
    }

    /// Conversations that were finished since the last call.
    fn chats(&mut self) -> Vec<ChatOutcome> {
        Vec::new()
    }

    /// The servers that it asks; none where it is in this process.
    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        None
    }
}
