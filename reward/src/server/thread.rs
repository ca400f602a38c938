//! The thread that owns the judge: takes groups in their fair order, plays them together, keeps and answers
//! each. It knows nothing of HTTP.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use joust_schema::ids::GroupId;
use tokio::sync::oneshot;

use super::desk::{Chat, Command, Desk, Order};
use super::figures::Figures;
use super::journal::Entry;
use super::queue::{FairQueue, Place};
use super::recorder::Recorder;
use super::rename;
use super::results::{GroupKey, Judged, Unjudged};
use crate::arena::GroupResult;
use crate::judge::{ChatReply, JudgeError};
use crate::scorer::Scorer;

/// An idle thread looks up this often: for sets that are old enough to be written.
const IDLE: Duration = Duration::from_millis(500);

/// What the judge is to do.
pub(super) enum Work {
    Group(Box<Order>),
    Chat(Box<Chat>),
}

type ChatSender = oneshot::Sender<Result<ChatReply, JudgeError>>;

/// The thread's own.
pub(super) struct Worker {
    pub(super) scorer: Scorer,
    pub(super) commands: Receiver<Command>,
    pub(super) desk: Arc<Desk>,
    pub(super) figures: Figures,
    pub(super) recorder: Option<Recorder>,
    pub(super) queue: FairQueue<Work>,
    /// Where groups wait in the queue.
    pub(super) places: BTreeMap<GroupKey, Place>,
    /// Groups that are being judged.
    pub(super) playing: BTreeMap<GroupKey, Order>,
    pub(super) chats: BTreeMap<u64, ChatSender>,
    pub(super) n_chats: u64,
}

/// Tells everybody that the thread has ended, also where it panicked.
struct Running(Arc<Desk>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Worker {
    /// Runs until every way to the thread is gone and all is judged.
    pub(super) fn run(mut self) {
        let _running = Running(Arc::clone(&self.desk));
        loop {
            let is_open = self.take_commands();
            self.begin_work();
            if self.is_busy() {
                for result in self.scorer.pump() {
                    self.finish(result);
                }
                self.answer_chats();
                self.desk.advance(self.scorer.progress().filter_map(|(group_id, progress)| {
                    Some((GroupKey::from_str(&group_id.0).ok()?, progress))
                }));
            } else if !is_open {
                break;
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.tick();
            }
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.close();
        }
    }

    fn is_busy(&self) -> bool {
        self.scorer.n_open() > 0 || !self.chats.is_empty()
    }

    /// Takes what has come; waits only while there is nothing to do. False once nothing can come any more.
    fn take_commands(&mut self) -> bool {
        if !self.is_busy() && self.queue.is_empty() {
            match self.commands.recv_timeout(IDLE) {
                Ok(command) => self.take(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(error) => return error == TryRecvError::Empty,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Judge(order) => {
                let (key, client) = (order.key, order.client.clone());
                let place = self.queue.push(&client, order.tokens, Work::Group(order));
                self.places.insert(key, place);
            }
            Command::Cancel(key) => self.cancel(key),
            Command::Accept { key, group, client, kept } => {
                // what is over by now needs no keeping
                if self.places.contains_key(&key) || self.playing.contains_key(&key) {
                    self.note(Entry::Accepted { key, group, client });
                }
                let _ = kept.send(());
            }
            Command::Delivered { key, member } => self.note(Entry::Delivered { key, member }),
            Command::Chat(chat) => {
                let client = chat.client.clone();
                self.queue.push(&client, chat.tokens, Work::Chat(chat));
            }
        }
    }

    fn note(&mut self, entry: Entry) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(entry);
        }
    }

    /// Begins what waits while the judge could do more.
    fn begin_work(&mut self) {
        while self.scorer.wants_more_beside(self.chats.len()) {
            match self.queue.pop() {
                Some(Work::Group(order)) => self.begin_group(*order),
                Some(Work::Chat(chat)) => self.begin_chat(*chat),
                None => return,
            }
        }
    }

    fn begin_group(&mut self, order: Order) {
        self.places.remove(&order.key);
        let mut group = order.group.clone();
        // two clients may use one group id at once; inside, ids are unique
        group.group_id = GroupId(order.key.to_string());
        match self.scorer.add(group) {
            Ok(()) => {
                self.playing.insert(order.key, order);
                self.scorer.ask();
            }
            Err(error) => self.desk.gone(&order, Unjudged::Bad(error.to_string())),
        }
    }

    fn begin_chat(&mut self, Chat { request, reply, .. }: Chat) {
        if reply.is_closed() {
            return;
        }
        self.n_chats += 1;
        match self.scorer.chat(self.n_chats, request) {
            Ok(()) => drop(self.chats.insert(self.n_chats, reply)),
            // a client that has gone away needs no answer
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn cancel(&mut self, key: GroupKey) {
        let waiting = self.places.remove(&key).and_then(|place| self.queue.remove(place));
        let order = match waiting {
            Some(Work::Group(order)) => *order,
            _ => {
                let Some(order) = self.playing.remove(&key) else { return };
                self.scorer.cancel(&GroupId(key.to_string()));
                order
            }
        };
        self.note(Entry::Cancelled { key });
        self.desk.gone(&order, Unjudged::Cancelled);
    }

    fn finish(&mut self, mut result: GroupResult) {
        let key = GroupKey::from_str(&result.group_id.0).ok();
        let Some(order) = key.and_then(|key| self.playing.remove(&key)) else { return };
        rename(&mut result, order.group.group_id.clone());
        self.figures.judged(&result);
        let Order { key, group, client, cohort, tokens } = order;
        let judged = Arc::new(Judged { key, group, result, cohort });
        if let Some(recorder) = &mut self.recorder {
            recorder.judged(&judged);
        }
        self.desk.finish(judged, &client, tokens);
    }

    fn answer_chats(&mut self) {
        for (number, outcome) in self.scorer.chats() {
            if let Some(reply) = self.chats.remove(&number) {
                // a client that has gone away needs no answer
                let _ = reply.send(outcome);
            }
        }
        let scorer = &mut self.scorer;
        self.chats.retain(|&number, reply| {
            if reply.is_closed() {
                scorer.cancel_chat(number);
            }
            !reply.is_closed()
        });
    }
}
