//! Errors of several processes, named by what the caller can do about them. Knows no texts of c10d:
//! `fault` reads those.

use std::net::SocketAddr;
use std::time::Duration;

/// Errors of joining other processes and of collectives with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable of the launcher that is missing or makes no sense.
    #[error("environment variable {name} is {}, wanted {wanted}", seen(value))]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// Its value; none where it is not set.
        value: Option<String>,
        /// Possible values, and what else is possible.
        wanted: String,
    },
    /// Ranks that did not find each other within the time limit.
    #[error("no rendezvous at {address}: {reason}")]
    Rendezvous {
        /// Host and port of the rendezvous.
        address: String,
        /// The ranks that are missing, or what went wrong.
        reason: String,
    },
    /// A rank that is gone: its process ended, or its machine cannot be reached any more.
    #[error("{} is gone: {reason}", who(rank))]
    PeerLost {
        /// The rank, where it is known: the first one that any rank has seen go.
        rank: Option<usize>,
        /// Address of the connection that has ended, where c10d says it.
        peer: Option<SocketAddr>,
        /// c10d's words.
        reason: String,
    },
    /// Another rank that has failed by itself, and has said so in place of a collective: this one
    /// was not made. Further ones can be made by all ranks together.
    #[error("rank {rank} has failed: {reason}")]
    RankFailed {
        /// The rank; the first of several.
        rank: usize,
        /// What it says.
        reason: String,
    },
    /// A rank that did not take part within the time limit: it hangs, or does other things.
    #[error("a rank did not take part within {}: {reason}", duration(limit))]
    TimedOut {
        /// The time limit of a collective.
        limit: Duration,
        /// c10d's words.
        reason: String,
    },
    /// Ranks that make different collectives at the same time.
    #[error(
        "the ranks are out of step: rank {our_rank} makes {ours}, rank {their_rank} {theirs}; \
         all ranks have to make the same collectives in the same order"
    )]
    OutOfStep {
        /// This rank.
        our_rank: usize,
        /// The collective that this rank makes.
        ours: String,
        /// The first rank that makes another one.
        their_rank: usize,
        /// The collective that it makes.
        theirs: String,
    },
    /// A call with tensors or ranks that do not fit; nothing was sent.
    #[error("{call}: {what} is {seen}, wanted {wanted}")]
    Refused {
        /// Name of the collective.
        call: &'static str,
        /// The argument, or a property of it.
        what: &'static str,
        /// Its value.
        seen: String,
        /// The value wanted.
        wanted: String,
    },
    /// A GPU without NCCL: libtorch's CUDA library is not loaded, or of another version.
    #[error("no NCCL in libtorch: {reason}")]
    NoNccl {
        /// What is missing, or NCCL's own words.
        reason: String,
    },
    /// Any other failure of c10d or libtorch.
    #[error("c10d: {reason}")]
    Backend {
        /// c10d's words.
        reason: String,
    },
    /// A collective after another one has failed.
    #[error("no more collectives after a failure: {cause}")]
    Unusable {
        /// The first failure.
        cause: Box<Error>,
    },
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        Self::Backend { reason: error.to_string().lines().next().unwrap_or_default().to_owned() }
    }
}

fn seen(value: &Option<String>) -> String {
    value.as_ref().map_or("not set".to_owned(), |value| format!("`{value}`"))
}

fn who(rank: &Option<usize>) -> String {
    rank.map_or("another rank".to_owned(), |rank| format!("rank {rank}"))
}

/// A duration in seconds, in as many digits as needed.
pub(crate) fn duration(limit: &Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}
