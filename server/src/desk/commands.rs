//! What the judge's thread is told.

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
    /// Who asks, for fair shares.
    pub(crate) client: String,
    /// Where it was put together from single completions.
    pub(crate) cohort: Option<CohortRecord>,
    /// Its estimated size.
    pub(crate) tokens: u64,
}

/// What the thread is told.
pub(crate) enum Command {
    Judge(Box<ScoreRequest>),
    Cancel {
        key: GroupKey,
        client: String,
        /// How many others want it, where it is not cancelled for that.
        answer: oneshot::Sender<Result<(), usize>>,
    },
    Delivered {
        key: GroupKey,
        member: usize,
    },
    /// Keep a job in mind; then say so.
    Accept {
        key: GroupKey,
        group: Box<GroupRequest>,
        client: String,
        kept: oneshot::Sender<()>,
    },
    Chat(Box<QueuedChat>),
}

/// A conversation to be answered.
pub(crate) struct QueuedChat {
    pub(crate) request: ChatRequest,
    pub(crate) pending: PendingChat,
}

/// Who waits for a conversation's answer; takes up room until it goes.
pub(crate) struct PendingChat {
    pub(crate) reply: oneshot::Sender<Result<ChatReply, JudgeError>>,
    pub(crate) permit: AdmissionPermit,
}
