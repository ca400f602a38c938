//! The judge thread: takes groups in fair order, plays them together, records and answers each.
//!
//! Knows nothing of HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::commands::{Command, PendingChat, QueuedChat, ScoreRequest};
use super::fair_queue::{FairQueue, Place};
use super::ledger::Ledger;
use crate::dump::journal::Entry;
use crate::dump::recorder::Recorder;
use crate::figures::Figures;
use crate::judged::{GroupKey, Judged};
use crate::problem::Problem;
use joust_reward::Scorer;
use joust_reward::arena::{GroupHandle, GroupResult};
use joust_reward::judge::ChatId;

/// Interval at which an idle thread checks for sets that are old enough to be written.
const IDLE: Duration = Duration::from_millis(500);

/// An entry of the queue.
pub(crate) enum Work {
    Group(Box<ScoreRequest>),
    Chat(Box<QueuedChat>),
}

/// State of the judge thread.
pub(crate) struct Worker {
    pub(crate) scorer: Scorer,
    pub(crate) commands: Receiver<Command>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) figures: Figures,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) queue: FairQueue<Work>,
    /// Position of each queued group.
    pub(crate) places: BTreeMap<GroupKey, Place>,
    /// Groups that are being judged, and the handle of each key.
    pub(crate) playing: BTreeMap<GroupHandle, ScoreRequest>,
    pub(crate) handles: BTreeMap<GroupKey, GroupHandle>,
    /// Conversations that wait, and those that are being answered.
    pub(crate) n_waiting_chats: usize,
    pub(crate) chats: BTreeMap<ChatId, PendingChat>,
}

/// Reports the end of the thread, also after a panic.
struct Running(Arc<Ledger>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Worker {
    /// Runs until every handle is dropped and all groups are judged.
    pub(crate) fn run(mut self) {
        let _running = Running(Arc::clone(&self.ledger));
        loop {
            let is_open = self.take_commands();
            self.forget_chats();
            self.begin_work();
            if self.is_busy() {
                for (handle, result) in self.scorer.pump() {
                    self.finish(handle, result);
                }
                self.answer_chats();
                self.ledger.advance(self.scorer.progress().filter_map(|(handle, progress)| {
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

    /// Takes what has come; waits only while there is nothing to do. False once nothing can come
    /// any more.
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
            Command::Judge(request) => {
                let (key, client) = (request.key, request.client.clone());
                let place = self.queue.push(&client, request.tokens, Work::Group(request));
                self.places.insert(key, place);
            }
            Command::Cancel { key, client, answer } => {
                // the client may have gone
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
                let client = chat.pending.permit.client.clone();
                self.n_waiting_chats += 1;
                self.queue.push(&client, chat.pending.permit.tokens, Work::Chat(chat));
            }
        }
    }

    fn note(&mut self, entry: Entry) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(entry);
        }
    }

    /// Starts queued work while the judge has capacity.
    fn begin_work(&mut self) {
        while self.scorer.wants_more() {
            match self.queue.pop() {
                Some(Work::Group(request)) => self.begin_group(*request),
                Some(Work::Chat(chat)) => self.begin_chat(*chat),
                None => return,
            }
        }
    }

    fn begin_group(&mut self, request: ScoreRequest) {
        self.places.remove(&request.key);
        match self.scorer.add(request.group.clone()) {
            Ok(handle) => {
                self.handles.insert(request.key, handle);
                self.playing.insert(handle, request);
                self.scorer.request_votes();
            }
            Err(error) => {
                let why = Problem::Invalid(error.to_string());
                self.ledger.fail(request.key, &request.client, request.tokens, why);
            }
        }
    }

    fn begin_chat(&mut self, QueuedChat { request, pending }: QueuedChat) {
        self.n_waiting_chats -= 1;
        match self.scorer.add_chat(request) {
            Ok(id) => drop(self.chats.insert(id, pending)),
            // the client may have gone
            Err(error) => drop(pending.reply.send(Err(error))),
        }
    }

    /// Drops conversations whose clients have gone.
    fn forget_chats(&mut self) {
        if self.n_waiting_chats > 0 {
            let n_waiting = &mut self.n_waiting_chats;
            self.queue.retain(|work| {
                let is_gone = matches!(work, Work::Chat(chat) if chat.pending.reply.is_closed());
                *n_waiting -= usize::from(is_gone);
                !is_gone
            });
        }
        let scorer = &mut self.scorer;
        self.chats.retain(|&id, pending| {
            if pending.reply.is_closed() {
                scorer.cancel_chat(id);
            }
            !pending.reply.is_closed()
        });
    }

    fn cancel(&mut self, key: GroupKey, client: &str) -> Result<(), usize> {
        if !self.ledger.cancel_group(key, client)? {
            return Ok(());
        }
        let waiting = self.places.remove(&key).and_then(|place| self.queue.remove(place));
        let request = match waiting {
            Some(Work::Group(request)) => Some(*request),
            Some(Work::Chat(_)) => unreachable!("places are those of groups. This is a bug."),
            None => self.handles.remove(&key).and_then(|handle| {
                self.scorer.cancel(handle);
                self.playing.remove(&handle)
            }),
        };
        self.note(Entry::Cancelled { key });
        if let Some(request) = request {
            self.ledger.release(&request.client, request.tokens);
        }
        Ok(())
    }

    fn finish(&mut self, handle: GroupHandle, result: GroupResult) {
        let Some(request) = self.playing.remove(&handle) else { return };
        self.handles.remove(&request.key);
        self.figures.judged(&result);
        let ScoreRequest { key, group, group_json, client, cohort, tokens } = request;
        let judged = Arc::new(Judged { key, group, result, cohort });
        if let Some(recorder) = &mut self.recorder {
            recorder.judged(&judged, &group_json);
        }
        self.ledger.finish(judged, &client, tokens);
    }

    fn answer_chats(&mut self) {
        for (id, outcome) in self.scorer.take_finished_chats() {
            if let Some(pending) = self.chats.remove(&id) {
                // the client may have gone
                let _ = pending.reply.send(outcome);
            }
        }
    }
}
