//! Types of the barrier and its state machine: settings, keys, names, events and answers.

use std::time::Duration;

use crate::problem::Problem;

/// How groups are collected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CohortConfig {
    /// Members of a group.
    pub group_size: usize,
    /// Longest time from the first member to the last.
    pub collect: Duration,
    /// How long a result is kept for those who ask again.
    pub keep: Duration,
    /// What becomes of a group whose time is over.
    pub incomplete: Incomplete,
    /// Most groups that are collected or judged at once.
    pub max_open: usize,
}

/// What becomes of a group that is not complete in time.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// Its members get an error, so that the client may try again.
    #[default]
    Fail,
    /// Those that are there are judged, if they are at least two.
    Partial,
    /// Its members get no reward and no error.
    Mask,
}

/// Which group a completion belongs to.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CohortKey {
    /// The client's own id of the group, with its attempt.
    Given {
        /// The id.
        group: String,
        /// Counts up where a client has a group judged anew.
        attempt: u64,
    },
    /// Made from the prompt: all who ask the same at one time are one group.
    Content(String),
}

/// Which member a completion is, where the client says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberName {
    /// Its place in the group.
    Place(u64),
    /// The client's own id of the request.
    Request(String),
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(super) u64);

/// A group that has been handed over for judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CohortId(pub(super) u64);

/// What one member gets; problems are `NoVotes`, `Invalid`, `GivenUp`, `Incomplete` or `Masked`.
pub(crate) type MemberAnswer<R> = Result<R, Problem>;

/// What is to be done. `R` is what a member's judging gives, `A` what is known of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CohortEvent<R, A = ()> {
    /// Judge these completions; then call [`super::machine::Cohorts::finished`].
    Judge {
        /// The group.
        cohort: CohortId,
        /// How it is known.
        key: CohortKey,
        /// What its first member brought along.
        about: A,
        /// What its members are called and say, in an order that is the same however they came.
        members: Vec<(Option<MemberName>, String)>,
    },
    /// Answer a request that waits.
    Answer(Ticket, MemberAnswer<R>),
}
