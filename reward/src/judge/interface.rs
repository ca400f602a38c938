//! The interface of a judge.
//!
//! It does not know tournaments, nor any judge.

use std::sync::Arc;

use super::chat::ChatModel;
use super::vote::{VoteId, VoteOutcome, VoteRequest};

/// Gives verdicts on pairs of answers: takes vote requests and returns outcomes, in any order and
/// many at a time.
pub trait Judge: Send {
    /// Name of the judge in the dump: model and a hash of the prompt template.
    fn name(&self) -> &str;

    /// Number of votes that the judge works on at once; `usize::MAX` if there is no limit.
    fn capacity(&self) -> usize;

    /// Takes a request. A request that cannot be served comes back as an outcome with its error.
    fn submit(&mut self, request: VoteRequest);

    /// Drops a request whose vote is no longer needed; its outcome never comes, unless it was
    /// finished already.
    fn cancel(&mut self, id: VoteId);

    /// Works for a moment and returns the finished votes: none if no vote is in flight or the next
    /// one takes longer.
    fn poll(&mut self) -> Vec<VoteOutcome>;

    /// Whether a reply may depend on which other votes are asked for at the same time, and in which
    /// order: by the last bits of a batch's numbers, or by a cache. A training step asks such a
    /// judge for all its groups at once, so that a step repeats byte for byte.
    fn is_batch_dependent(&self) -> bool {
        false
    }

    /// Clears all caches of earlier prompts. Later results are then the same, to the last bit, as
    /// after a fresh start.
    fn clear_caches(&mut self) {}

    /// The judge as a model for conversations; `None` if it is not a model.
    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        None
    }

    /// The servers that the judge calls; `None` if it runs in this process.
    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        None
    }
}

/// State of the servers that a judge calls.
pub trait JudgeServers: Send + Sync {
    /// Number of servers.
    fn n_servers(&self) -> usize;

    /// Number of servers that get no calls now, after failures.
    fn n_resting(&self) -> usize;
}
