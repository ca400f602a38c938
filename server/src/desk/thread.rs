//! The judge thread: takes groups in fair order, judges many at once, records and answers each.
//!
//! Knows nothing of HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use serde_json::value::RawValue;

use super::commands::{JudgeCommand, PendingChat, QueuedChat, ScoreRequest};
use super::fair_queue::FairQueue;
use super::ledger::Ledger;
use super::open_groups::{GroupLocation, OpenGroups};
use crate::client::Client;
use crate::dump::recorder::Recorder;
use crate::judged::{GroupKey, Judged};
use crate::metrics::ServerMetrics;
use crate::problem::Problem;
use joust_reward::Scorer;
use joust_reward::arena::{GroupHandle, GroupResult};
use joust_reward::judge::ChatId;

/// Interval at which an idle thread checks for sets that are old enough to be written.
const IDLE: Duration = Duration::from_millis(500);

/// An entry of the queue.
enum QueuedWork {
    Group(Box<ScoreRequest>),
    Chat(Box<QueuedChat>),
}

/// State of the judge thread.
pub(super) struct Worker {
    scorer: Scorer,
    commands: Receiver<JudgeCommand>,
    ledger: Arc<Ledger>,
    metrics: ServerMetrics,
    recorder: Option<Recorder>,
    queue: FairQueue<QueuedWork>,
    groups: OpenGroups,
    n_queued_chats: usize,
    /// Conversations that the judge's model answers.
    chats: BTreeMap<ChatId, PendingChat>,
}

/// Reports the end of the thread when it is dropped, also after a panic.
struct StopOnDrop(Arc<Ledger>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Worker {
    /// Without any work. Without a recorder, results are kept in memory only.
    pub(super) fn new(
        scorer: Scorer,
        commands: Receiver<JudgeCommand>,
        ledger: Arc<Ledger>,
        metrics: ServerMetrics,
        recorder: Option<Recorder>,
    ) -> Self {
        Self {
            scorer,
            commands,
            ledger,
            metrics,
            recorder,
            queue: FairQueue::new(),
            groups: OpenGroups::default(),
            n_queued_chats: 0,
            chats: BTreeMap::new(),
        }
    }

    /// Runs until every handle is dropped and all groups are judged.
    pub(super) fn run(mut self) {
        let _stop = StopOnDrop(Arc::clone(&self.ledger));
        loop {
            let is_open = self.take_commands();
            self.drop_abandoned_chats();
            self.begin_work();
            if self.is_busy() {
                self.work();
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

    /// Lets the judge work for a moment, and answers what it finished.
    fn work(&mut self) {
        for (handle, result) in self.scorer.pump() {
            self.finish_group(handle, result);
        }
        self.answer_chats();
        let progress = self.scorer.progress();
        let by_key =
            progress.filter_map(|(handle, progress)| Some((self.groups.key_of(handle)?, progress)));
        self.ledger.record_progress(by_key);
    }

    /// Takes the commands that have arrived; waits for one only if the thread has no work. False
    /// once every handle is dropped.
    fn take_commands(&mut self) -> bool {
        if !self.is_busy() && self.queue.is_empty() {
            match self.commands.recv_timeout(IDLE) {
                Ok(command) => self.take_command(command),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take_command(command),
                Err(error) => return error == TryRecvError::Empty,
            }
        }
    }

    fn take_command(&mut self, command: JudgeCommand) {
        match command {
            JudgeCommand::Score(request) => {
                let (key, tokens) = (request.key, request.work.tokens);
                let client = request.client.clone();
                let position = self.queue.push(&client, tokens, QueuedWork::Group(request));
                self.groups.add_queued(key, position);
            }
            JudgeCommand::Chat(chat) => {
                let permit = &chat.pending.permit;
                let (client, tokens) = (permit.client.clone(), permit.work.tokens);
                self.n_queued_chats += 1;
                self.queue.push(&client, tokens, QueuedWork::Chat(chat));
            }
            JudgeCommand::Cancel { key, client, answer } => {
                // the client may have disconnected
                let _ = answer.send(self.cancel_group(key, &client));
            }
            JudgeCommand::RecordJob { key, group_json, client, is_new, recorded } => {
                let is_asked = recorded.is_some();
                let result = self.record_job(key, (&group_json, &client), is_asked);
                // before any other request finds the group: it is accepted by nobody
                if is_new && result.is_err() {
                    let _ = self.cancel_group(key, &client);
                }
                // the client may have disconnected
                let _ = recorded.map(|recorded| recorded.send(result));
            }
            JudgeCommand::RecordDelivery { key, member } => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.record_delivery(key, member);
                }
            }
        }
    }

    /// Records a job; one whose group is over needs no record but that of its result. `is_asked`
    /// is false for a job of an earlier start, which is in its journal.
    fn record_job(
        &mut self,
        key: GroupKey,
        (group_json, client): (&Arc<RawValue>, &Client),
        is_asked: bool,
    ) -> Result<(), String> {
        let is_open = self.groups.contains(key);
        if is_asked && !is_open && !self.ledger.is_over(key, client) {
            return Err("the same job was taken back at the same time".to_owned());
        }
        match &mut self.recorder {
            Some(recorder) if is_open && is_asked => {
                recorder.record_job(key, group_json, client)?;
            }
            Some(recorder) if is_open => recorder.resume_job(key, group_json, client),
            Some(recorder) if is_asked && recorder.is_waiting(key) => {
                return Err("its result waits for the disk".to_owned());
            }
            _ => {}
        }
        // another request of the client may have taken its job back meanwhile
        self.ledger.keep_job(key, client);
        Ok(())
    }

    /// Starts queued work while the judge has capacity.
    fn begin_work(&mut self) {
        while self.scorer.wants_more() {
            match self.queue.pop() {
                Some(QueuedWork::Group(request)) => self.begin_group(*request),
                Some(QueuedWork::Chat(chat)) => self.begin_chat(*chat),
                None => return,
            }
        }
    }

    fn begin_group(&mut self, request: ScoreRequest) {
        match self.scorer.add(request.group.clone()) {
            Ok(handle) => {
                self.groups.begin_judging(handle, request);
                self.scorer.request_votes();
            }
            Err(error) => {
                self.groups.remove(request.key);
                // a job of an earlier start would be taken up again for ever
                if let Some(recorder) = &mut self.recorder {
                    recorder.record_refusal(request.key);
                }
                let problem = Problem::Invalid(error.to_string());
                self.ledger.fail(request.key, &request.client, request.work, problem);
            }
        }
    }

    fn begin_chat(&mut self, QueuedChat { request, pending }: QueuedChat) {
        self.n_queued_chats -= 1;
        match self.scorer.add_chat(request) {
            Ok(id) => drop(self.chats.insert(id, pending)),
            // the client may have disconnected
            Err(error) => drop(pending.reply.send(Err(error))),
        }
    }

    /// Drops conversations whose clients have disconnected.
    fn drop_abandoned_chats(&mut self) {
        if self.n_queued_chats > 0 {
            let n_queued = &mut self.n_queued_chats;
            self.queue.retain(|work| {
                let is_abandoned =
                    matches!(work, QueuedWork::Chat(chat) if chat.pending.reply.is_closed());
                *n_queued -= usize::from(is_abandoned);
                !is_abandoned
            });
        }
        let scorer = &mut self.scorer;
        self.chats.retain(|&id, pending| {
            let is_abandoned = pending.reply.is_closed();
            if is_abandoned {
                scorer.cancel_chat(id);
            }
            !is_abandoned
        });
    }

    fn cancel_group(&mut self, key: GroupKey, client: &Client) -> Result<(), usize> {
        if !self.ledger.cancel_group(key, client)? {
            return Ok(());
        }
        let request = match self.groups.remove(key) {
            Some(GroupLocation::Queued(position)) => match self.queue.remove(&position) {
                Some(QueuedWork::Group(request)) => Some(*request),
                _ => unreachable!("a queued group has an entry in the queue. This is a bug."),
            },
            Some(GroupLocation::Judging(handle)) => {
                self.scorer.cancel(handle);
                self.groups.remove_judging(handle)
            }
            None => None,
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.record_cancel(key);
        }
        if let Some(request) = request {
            self.ledger.release(&request.client, request.work);
        }
        Ok(())
    }

    fn finish_group(&mut self, handle: GroupHandle, result: GroupResult) {
        let Some(request) = self.groups.remove_judging(handle) else { return };
        self.metrics.count_group(&result);
        let ScoreRequest { key, group, group_json, client, cohort, work } = request;
        let tenant = client.tenant().to_owned();
        let judged = Arc::new(Judged { key, tenant, group, result, cohort });
        if let Some(recorder) = &mut self.recorder {
            recorder.record_result(&judged, &group_json);
        }
        self.ledger.finish(judged, &client, work);
    }

    fn answer_chats(&mut self) {
        for (id, outcome) in self.scorer.take_finished_chats() {
            if let Some(pending) = self.chats.remove(&id) {
                // the client may have disconnected
                let _ = pending.reply.send(outcome);
            }
        }
    }
}
