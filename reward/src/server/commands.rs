//! What the judge's thread is told.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::desk::Desk;
use super::results::{CohortRecord, GroupKey};
use crate::arena::GroupRequest;
use crate::judge::{ChatReply, ChatRequest, JudgeError};

/// A group to be judged.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) key: GroupKey,
    pub(super) group: GroupRequest,
    /// Who asks, for fair shares.
    pub(super) client: String,
    /// Where it was put together from single completions.
    pub(super) cohort: Option<CohortRecord>,
    /// Its estimated size.
    pub(super) tokens: u64,
}

/// What the thread is told.
pub(super) enum Command {
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
pub(super) struct Chat {
    pub(super) request: ChatRequest,
    pub(super) asker: Asker,
}

/// Who waits for a conversation's answer; takes up room until it goes.
pub(super) struct Asker {
    pub(super) reply: oneshot::Sender<Result<ChatReply, JudgeError>>,
    pub(super) room: Room,
}

/// Room before the judge, given back when it goes.
pub(super) struct Room {
    pub(super) desk: Arc<Desk>,
    pub(super) client: String,
    pub(super) tokens: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.desk.leave(&self.client, self.tokens);
    }
}
