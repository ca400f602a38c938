//! A call: its request, its reply, and the reasons for which it may have no reply.
//!
//! It knows nothing of servers.

use std::time::Duration;

use joust_schema::seed::Seed;
use serde::Serialize;
use serde_json::Value;

/// A request to any server of the fleet, made anew for each attempt.
pub trait Call: Send {
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
    /// Why it is no answer.
    fn read(&mut self, answer: Value, latency: Duration) -> Result<Self::Reply, BadAnswer>;

    /// Seed of the random part of the pauses between attempts.
    fn seed(&self) -> Seed;
}

/// Why the body of a successful response is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum BadAnswer {
    /// A defect. It is the server's fault, so that another attempt follows.
    Defect(String),
    /// The body refuses the request as wrong: the same request would be refused again.
    Refused(String),
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
    /// Every server refuses for another reason, such as its path or its key, which no retry
    /// changes.
    #[error("{0}")]
    Rejected(String),
    /// Every attempt failed by a server's fault.
    #[error("{0}")]
    Exhausted(Exhausted),
    /// The call was no longer wanted when its turn came.
    #[error("the call is no longer wanted")]
    Unwanted,
}

/// Why a call was given up: the reasons of its first and its last attempt, which differ where a
/// failure has a consequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exhausted {
    /// Number of attempts, those during an outage included.
    pub n_attempts: u32,
    /// Reason of the first attempt.
    pub first: String,
    /// Reason of the last attempt.
    pub last: String,
}

impl Exhausted {
    /// Adds a failed attempt.
    pub(crate) fn add(&mut self, reason: String) {
        if self.n_attempts == 0 {
            self.first.clone_from(&reason);
        }
        self.n_attempts += 1;
        self.last = reason;
    }
}

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // those count that are no `tries` of a config, during an outage
        match self.n_attempts {
            1 => write!(f, "1 call; ")?,
            n => write!(f, "{n} calls; ")?,
        }
        // a last reason that all servers rest names the failure before it
        match self.last.contains(&self.first) {
            true => write!(f, "{}", self.last),
            false => write!(f, "first: {}; last: {}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_call_tells_its_first_and_its_last_reason() {
        let mut exhausted = Exhausted::default();
        exhausted.add("connection refused".to_owned());
        assert_eq!(exhausted.to_string(), "1 call; connection refused");
        exhausted.add("connection refused".to_owned());
        assert_eq!(exhausted.to_string(), "2 calls; connection refused");
        exhausted.add("all rest".to_owned());
        assert_eq!(exhausted.to_string(), "3 calls; first: connection refused; last: all rest");
        exhausted.add("all rest, the last: connection refused".to_owned());
        assert_eq!(exhausted.to_string(), "4 calls; all rest, the last: connection refused");
    }
}
