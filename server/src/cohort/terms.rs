//! Types of the barrier and its state machine: settings, keys, names, events and answers.
//!
//! Plain data.

use std::time::Duration;

use crate::problem::Problem;

/// Settings of collecting groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CohortConfig {
    /// Number of members of a group.
    pub group_size: usize,
    /// Maximum time from the first member to the last.
    pub collect: Duration,
    /// Time that a group waits before it is judged if it is complete only because of equal
    /// completions without an index: some of them may be retries of clients that have gone.
    pub settle: Duration,
    /// Maximum time from a client's end to its next try. After it, a group in which no request
    /// waits is forgotten, and members of judged groups are no longer found by their texts.
    pub retry: Duration,
    /// Time for which answers are kept for retries.
    pub keep: Duration,
    /// Policy for a group that is not complete after `collect`.
    pub incomplete: Incomplete,
    /// Maximum number of groups that are collected or judged at once; a share with few of them may
    /// exceed it by a quarter.
    pub max_open: usize,
    /// Maximum size of the completions that wait for their groups, in bytes.
    pub max_bytes: usize,
}

/// Policy for a group that is not complete in time.
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
    /// Answers the members with an error; the client may try again.
    #[default]
    Fail,
    /// Judges the members that came, if they are at least two.
    Partial,
    /// Answers the members without a reward and without an error.
    Mask,
}

/// The group that a completion belongs to.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CohortKey {
    /// The client's own id of the group.
    Given {
        /// The tenant whose group it is.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        tenant: String,
        /// The id.
        group: String,
        /// Number of the attempt; a client that has the same group judged again counts it up.
        attempt: u64,
    },
    /// Hash of tenant, prompt and known answer: requests with the same hash form a group.
    Content(String),
}

/// Name of a member, if the client gives it one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberName {
    /// Its index in the group; the journal calls it `place`.
    #[serde(rename = "place")]
    Index(u64),
    /// The client's own id of the request.
    Request(String),
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(super) u64);

/// Identifies a group among the cohorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CohortId(pub(super) u64);

/// Answer of one member; problems are `NoVotes`, `Invalid`, `Incomplete` or `Masked`, or that for
/// which the group was given up.
pub(crate) type MemberAnswer<R> = Result<R, Problem>;

/// An action that the caller of the state machine must take. `R` is the result of a member, `Q` the
/// question of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CohortEvent<R, Q = ()> {
    /// Judge these completions; then call [`super::machine::Cohorts::finish`].
    Judge {
        /// The group.
        cohort: CohortId,
        /// Its key.
        key: CohortKey,
        /// The question of its first member.
        question: Q,
        /// Names and completions of the members, sorted: the order in which the requests arrived
        /// does not matter.
        members: Vec<(Option<MemberName>, String)>,
    },
    /// Answer the request that waits under the ticket.
    Answer(Ticket, MemberAnswer<R>),
    /// Nothing is to be done: a group of so many members was forgotten, because no request has
    /// waited for it for [`CohortConfig::retry`].
    Forgotten {
        /// Number of members.
        n_members: usize,
    },
}
