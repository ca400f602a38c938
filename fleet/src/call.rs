//! What a fleet calls for: the request of a call, its reply, and why there may be none.
//!
//! It does not know servers.

use std::time::Duration;

use joust_schema::seed::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request to whichever server is free, made anew for each attempt.
pub trait Call: Send {
    /// Body of a successful response.
    type Answer: DeserializeOwned + Send;
    /// What the caller gets.
    type Reply: Send;

    /// Number of slots that the call takes at a server: at least 1, at most the concurrency.
    fn n_slots(&self) -> usize;

    /// Makes the body of the request, once a server is found; `None` if the call is no longer
    /// wanted. May lower [`Call::n_slots`].
    fn body(&mut self) -> Option<impl Serialize>;

    /// Reads the answer, which took so long.
    ///
    /// # Errors
    /// What the answer lacks: the server's fault, so another attempt follows.
    fn read(&mut self, answer: Self::Answer, latency: Duration) -> Result<Self::Reply, String>;

    /// Seed of the random part of the pauses between attempts.
    fn seed(&self) -> Seed;
}

/// A call that was answered.
#[derive(Debug)]
pub struct Finished<R> {
    /// The reply.
    pub reply: R,
    /// Index of the server that gave it.
    pub server: usize,
    /// Number of attempts before the one that was answered.
    pub attempt: u32,
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// A server refuses the request as wrong: the same request would be refused again.
    #[error("{0}")]
    Refused(String),
    /// A server refuses for another reason, such as its path or its key, which no retry changes.
    #[error("{0}")]
    Rejected(String),
    /// Every attempt failed by a server's fault; the reason of the last one.
    #[error("no answer; last: {0}")]
    Exhausted(String),
    /// The call was no longer wanted when its turn came.
    #[error("the call is no longer wanted")]
    Unwanted,
}
