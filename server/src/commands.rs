//! What the judge's thread is told.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::desk::Desk;
use super::results::{CohortRecord, GroupKey};
use joust_reward::arena::GroupRequest;
use joust_reward::judge::{ChatReply, ChatRequest, JudgeError};

/// A group to be judged.
#[derive(Clone, Debug)]
pub(crate) struct Order {
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
    Judge(Box<Order>),
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
    Chat(Box<Chat>),
}

/// A conversation to be answered.
pub(crate) struct Chat {
    pub(crate) request: ChatRequest,
    pub(crate) asker: Asker,
}

/// Who waits for a conversation's answer; takes up room until it goes.
pub(crate) struct Asker {
    pub(crate) reply: oneshot::Sender<Result<ChatReply, JudgeError>>,
    pub(crate) room: Room,
}

/// Room before the judge, given back when it goes.
pub(crate) struct Room {
    pub(crate) desk: Arc<Desk>,
    pub(crate) client: String,
    pub(crate) tokens: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.desk.leave(&self.client, self.tokens);
    }
}
