//! The thread that owns the judge: takes groups in their fair order, plays them together, keeps and answers
//! each. It knows nothing of HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::commands::{Asker, Chat, Command, Order};
use super::desk::Desk;
use super::figures::Figures;
use super::journal::Entry;
use super::queue::{FairQueue, Place};
use super::recorder::Recorder;
use super::results::{GroupKey, Judged, Unjudged};
use joust_reward::Scorer;
use joust_reward::arena::{GroupHandle, GroupResult};
use joust_reward::judge::ChatId;

/// An idle thread looks up this often: for sets that are old enough to be written.
const IDLE: Duration = Duration::from_millis(500);

/// What the judge is to do.
pub(crate) enum Work {
    Group(Box<Order>),
    Chat(Box<Chat>),
}

/// The thread's own.
pub(crate) struct Worker {
    pub(crate) scorer: Scorer,
    pub(crate) commands: Receiver<Command>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) figures: Figures,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) queue: FairQueue<Work>,
    /// Where groups wait in the queue.
    pub(crate) places: BTreeMap<GroupKey, Place>,
    /// Groups that are being judged, and the handle of each key.
    pub(crate) playing: BTreeMap<GroupHandle, Order>,
    pub(crate) handles: BTreeMap<GroupKey, GroupHandle>,
    /// Conversations that wait, and those that are being answered.
    pub(crate) n_waiting_chats: usize,
    pub(crate) chats: BTreeMap<ChatId, Asker>,
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
    pub(crate) fn run(mut self) {
        let _running = Running(Arc::clone(&self.desk));
        loop {
            let is_open = self.take_commands();
            self.forget_chats();
            self.begin_work();
            if self.is_busy() {
                for (handle, result) in self.scorer.pump() {
                    self.finish(handle, result);
                }
                self.answer_chats();
                self.desk.advance(self.scorer.progress().filter_map(|(handle, progress)| {
                    Some((self.playing.get(&handle)?.key, progress))
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
            Command::Cancel { key, client, answer } => {
                // a client that has gone away needs no answer
                let _ = answer.send(self.cancel(key, &client));
            }
            Command::Accept { key, group, client, kept } => {
                // what is over by now needs no keeping
                if self.places.contains_key(&key) || self.handles.contains_key(&key) {
                    self.note(Entry::Accepted { key, group, client });
                }
                let _ = kept.send(());
            }
            Command::Delivered { key, member } => self.note(Entry::Delivered { key, member }),
            Command::Chat(chat) => {
                let client = chat.asker.room.client.clone();
                self.n_waiting_chats += 1;
                self.queue.push(&client, chat.asker.room.tokens, Work::Chat(chat));
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
        while self.scorer.wants_more() {
            match self.queue.pop() {
                Some(Work::Group(order)) => self.begin_group(*order),
                Some(Work::Chat(chat)) => self.begin_chat(*chat),
                None => return,
            }
        }
    }

    fn begin_group(&mut self, order: Order) {
        self.places.remove(&order.key);
        match self.scorer.add(order.group.clone()) {
            Ok(handle) => {
                self.handles.insert(order.key, handle);
                self.playing.insert(handle, order);
                self.scorer.request_votes();
            }
            Err(error) => self.desk.gone(&order, Unjudged::Bad(error.to_string())),
        }
    }

    fn begin_chat(&mut self, Chat { request, asker }: Chat) {
        self.n_waiting_chats -= 1;
        match self.scorer.add_chat(request) {
            Ok(id) => drop(self.chats.insert(id, asker)),
            // a client that has gone away needs no answer
            Err(error) => drop(asker.reply.send(Err(error))),
        }
    }

    /// Lets go of conversations whose clients have gone.
    fn forget_chats(&mut self) {
        if self.n_waiting_chats > 0 {
            let n_waiting = &mut self.n_waiting_chats;
            self.queue.retain(|work| {
                let is_gone = matches!(work, Work::Chat(chat) if chat.asker.reply.is_closed());
                *n_waiting -= usize::from(is_gone);
                !is_gone
            });
        }
        let scorer = &mut self.scorer;
        self.chats.retain(|&id, asker| {
            if asker.reply.is_closed() {
                scorer.cancel_chat(id);
            }
            !asker.reply.is_closed()
        });
    }

    fn cancel(&mut self, key: GroupKey, client: &str) -> Result<(), usize> {
        if !self.desk.cancel(key, client)? {
            return Ok(());
        }
        let waiting = self.places.remove(&key).and_then(|place| self.queue.remove(place));
        let order = match waiting {
            Some(Work::Group(order)) => Some(*order),
            Some(Work::Chat(_)) => unreachable!("places are those of groups. This is a bug."),
            None => self.handles.remove(&key).and_then(|handle| {
                self.scorer.cancel(handle);
                self.playing.remove(&handle)
            }),
        };
        self.note(Entry::Cancelled { key });
        if let Some(order) = order {
            self.desk.leave(&order.client, order.tokens);
        }
        Ok(())
    }

    fn finish(&mut self, handle: GroupHandle, result: GroupResult) {
        let Some(order) = self.playing.remove(&handle) else { return };
        self.handles.remove(&order.key);
        self.figures.judged(&result);
        let Order { key, group, client, cohort, tokens } = order;
        let judged = Arc::new(Judged { key, group, result, cohort });
        if let Some(recorder) = &mut self.recorder {
            recorder.judged(&judged);
        }
        self.desk.finish(judged, &client, tokens);
    }

    fn answer_chats(&mut self) {
        for (id, outcome) in self.scorer.take_finished_chats() {
            if let Some(asker) = self.chats.remove(&id) {
                // a client that has gone away needs no answer
                let _ = asker.reply.send(outcome);
            }
        }
    }
}
