//! A call: its request, its reply, and the reasons for which it may have no reply.
//!
//! It knows nothing of servers.

use std::time::Duration;

use joust_schema::seed::Seed;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request to any server of the fleet, made anew for each attempt.
pub trait Call: Send {
    /// Body of a successful response.
    type Answer: DeserializeOwned + Send;
    /// Reply that the caller gets.
    type Reply: Send;

    /// Number of slots that the call takes at a server: at least 1, at most the concurrency.
    fn n_slots(&self) -> usize;

    /// Makes the body of the request after a server was found; `None` if the call is no longer
    /// wanted.
    /// May lower [`Call::n_slots`].
    fn body(&mut self) -> Option<impl Serialize>;

    /// Reads the answer, which took `latency`.
    ///
    /// # Errors
    /// The defect of the answer. It is the server's fault, so that another attempt follows.
    fn read(&mut self, answer: Self::Answer, latency: Duration) -> Result<Self::Reply, String>;

    /// Seed of the random part of the pauses between attempts.
    fn seed(&self) -> Seed;
}

/// A call that was answered.
#[derive(Debug)]
pub struct Finished<R> {
    /// The reply.
    pub reply: R,
    /// Index of the server that answered.
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
    /// Every attempt failed by a server's fault; the reason of the last attempt.
    #[error("no answer; last: {0}")]
    Exhausted(String),
    /// The call was no longer wanted when its turn came.
    #[error("the call is no longer wanted")]
    Unwanted,
}
