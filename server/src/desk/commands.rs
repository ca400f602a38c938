//! Commands to the judge thread.
//!
//! Plain data.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::admission::Workload;
use super::ledger::AdmissionPermit;
use crate::client::Client;
use crate::judged::{CohortRecord, GroupKey};
use joust_reward::arena::GroupRequest;
use joust_reward::judge::{ChatReply, ChatRequest, JudgeError};

/// A group to be judged.
#[derive(Clone, Debug)]
pub(crate) struct ScoreRequest {
    pub(crate) key: GroupKey,
    pub(crate) group: GroupRequest,
    /// The group as JSON, serialised once for key and journal.
    pub(crate) group_json: Arc<RawValue>,
    pub(crate) client: Client,
    /// Set for a group of single completions.
    pub(crate) cohort: Option<CohortRecord>,
    pub(crate) work: Workload,
}

/// A command to the judge thread.
pub(crate) enum JudgeCommand {
    Score(Box<ScoreRequest>),
    Chat(Box<QueuedChat>),
    /// Cancel a group, unless other requests or jobs want it; the answer is their number.
    Cancel {
        key: GroupKey,
        client: Client,
        answer: oneshot::Sender<Result<(), usize>>,
    },
    /// Write a job to the journal, then report it, or why it is not there; the job is taken back
    /// then if `is_new`: the client had no job of the group before. Nobody waits for the report of
    /// a job of an earlier start.
    RecordJob {
        key: GroupKey,
        group_json: Arc<RawValue>,
        client: Client,
        is_new: bool,
        recorded: Option<oneshot::Sender<Result<(), String>>>,
    },
    /// Write to the journal that a member of a group of single completions was answered.
    RecordDelivery {
        key: GroupKey,
        member: usize,
    },
}

/// A conversation for the judge's model.
pub(crate) struct QueuedChat {
    pub(crate) request: ChatRequest,
    pub(crate) pending: PendingChat,
}

/// A conversation's waiting request, with its admission.
pub(crate) struct PendingChat {
    pub(crate) reply: oneshot::Sender<Result<ChatReply, JudgeError>>,
    pub(crate) permit: AdmissionPermit,
}
