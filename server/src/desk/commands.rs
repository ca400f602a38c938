//! Commands to the judge thread.
//!
//! Plain data.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::ledger::AdmissionPermit;
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
    /// Name of the client, for fair shares.
    pub(crate) client: String,
    /// Set for a group of single completions.
    pub(crate) cohort: Option<CohortRecord>,
    /// Estimated judge tokens.
    pub(crate) tokens: u64,
}

/// A command to the judge thread.
pub(crate) enum JudgeCommand {
    Score(Box<ScoreRequest>),
    Chat(Box<QueuedChat>),
    /// Cancel a group, unless other requests or jobs want it; the answer is their number.
    Cancel {
        key: GroupKey,
        client: String,
        answer: oneshot::Sender<Result<(), usize>>,
    },
    /// Write a job to the journal, then report it.
    RecordJob {
        key: GroupKey,
        group_json: Arc<RawValue>,
        client: String,
        recorded: oneshot::Sender<()>,
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
