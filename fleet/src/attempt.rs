//! An attempt at a call that failed: what that says, and whether another one may succeed.
//!
//! It does not know what other calls saw, nor when the next attempt is due.

use std::time::Duration;

use super::call::{BadAnswer, CallError};
use super::server::RequestError;

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// Another attempt, at this or another server, may succeed. The pause is the server's
    /// `Retry-After`, if any.
    Retry(String, Option<Duration>),
    /// This server asks for slower calls, and perhaps for a pause.
    Busy(usize, String, Option<Duration>),
    /// This server rejects the call for a reason of its own, such as its path or its key.
    Rejected(usize, String),
    /// Nobody is at a server, or all servers rest during an outage; the pause is the server's
    /// `Retry-After`, or the time until a rest ends, if any.
    Gone(GoneAt, String, Option<Duration>),
    /// Another attempt would fail like this one.
    Final(CallError),
}

/// Where a call found nobody.
#[derive(Clone, Copy)]
pub(super) enum GoneAt {
    /// At this server.
    Server(usize),
    /// At this server, which answered other calls in the meantime.
    AnsweringServer(usize),
    /// All servers rest.
    All,
}

impl GoneAt {
    /// The server, unless all rest.
    pub(super) fn server(self) -> Option<usize> {
        match self {
            Self::Server(idx) | Self::AnsweringServer(idx) => Some(idx),
            Self::All => None,
        }
    }
}

/// The failure of an attempt whose request has no answer.
pub(super) fn of_request(server: usize, error: RequestError) -> AttemptError {
    match error {
        RequestError::Gone(reason, pause) => {
            AttemptError::Gone(GoneAt::Server(server), reason, pause)
        }
        RequestError::Busy(reason, pause) => AttemptError::Busy(server, reason, pause),
        RequestError::Failed(reason, pause) => AttemptError::Retry(reason, pause),
        RequestError::Refused(reason) => AttemptError::Final(CallError::Refused(reason)),
        RequestError::Rejected(reason)
        | RequestError::Moved { reason, .. }
        | RequestError::NotFound(reason)
        | RequestError::NoRoute(reason) => AttemptError::Rejected(server, reason),
    }
}

/// The failure of an attempt whose answer is none.
pub(super) fn of_answer(url: &str, bad: BadAnswer) -> AttemptError {
    match bad {
        BadAnswer::Defect(reason) => AttemptError::Retry(format!("{url}: {reason}"), None),
        BadAnswer::Refused(reason) => {
            AttemptError::Final(CallError::Refused(format!("{url}: {reason}")))
        }
    }
}
