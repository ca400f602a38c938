//! Commands to the judge thread.

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
    /// The group as JSON, for the journal.
    pub(crate) group_json: Box<RawValue>,
    /// Client, for fair shares.
    pub(crate) client: String,
    /// Set for a group of single completions.
    pub(crate) cohort: Option<CohortRecord>,
    /// Estimated judge tokens.
    pub(crate) tokens: u64,
}

/// A command.
pub(crate) enum Command {
    Judge(Box<ScoreRequest>),
    Cancel {
        key: GroupKey,
        client: String,
        /// Number of others that want the group, which is not cancelled then.
        answer: oneshot::Sender<Result<(), usize>>,
    },
    Delivered {
        key: GroupKey,
        member: usize,
    },
    /// Record a job, then report it.
    Accept {
        key: GroupKey,
        group: Box<GroupRequest>,
        client: String,
        kept: oneshot::Sender<()>,
    },
    Chat(Box<QueuedChat>),
}

/// A conversation for the judge's model.
pub(crate) struct QueuedChat {
    pub(crate) request: ChatRequest,
    pub(crate) pending: PendingChat,
}

/// The request that waits for the answer, with its admission.
pub(crate) struct PendingChat {
    pub(crate) reply: oneshot::Sender<Result<ChatReply, JudgeError>>,
    pub(crate) permit: AdmissionPermit,
}
