//! A judge behind one or more OpenAI-compatible servers (vLLM, SGLang, llama.cpp).
//!
//! Votes that ask the same at the same time may share a call. Calls go to the server with the fewest
//! votes under way, a bounded number at once and a minute; what fails by a server's fault is tried
//! again elsewhere, with growing pauses; a server that keeps failing is left alone for a while. What a
//! server refuses as wrong is not tried again. A vote that stays without an answer is a failed vote,
//! never a verdict. Conversations go the same way, each in a call of its own.

mod breaker;
mod calls;
mod pace;
mod servers;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::task::AbortHandle;

use super::chat::{ChatId, ChatModel, ChatOutcome, ChatRequest};
use super::interface::{Judge, JudgeServers};
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteRequest};
use crate::config::JudgeConfig;
use crate::error::Error;
use crate::prompt;
use calls::{Calls, Report, Wanted};

/// How long [`Judge::poll`] waits where nothing is there yet.
const POLL: Duration = Duration::from_millis(20);

/// See the module.
pub struct HttpJudge {
    name: String,
    capacity: usize,
    samples_per_call: usize,
    calls: Arc<Calls>,
    runtime: tokio::runtime::Runtime,
    /// Votes that were submitted since the last poll.
    collected: Vec<VoteRequest>,
    under_way: BTreeMap<VoteId, Call>,
    chats_under_way: BTreeMap<ChatId, AbortHandle>,
    /// Conversations that are finished.
    chats: Vec<ChatOutcome>,
    send: Sender<Report>,
    receive: Receiver<Report>,
}

/// The call that a vote is in.
#[derive(Clone)]
struct Call {
    wanted: Arc<Wanted>,
    task: AbortHandle,
}

impl HttpJudge {
    /// Gets ready to call the servers of `config`; none is called yet.
    ///
    /// # Errors
    /// [`Error::Config`] where no thread or client can be made, or the key's variable is not set.
    pub fn open(config: &JudgeConfig) -> Result<Self, Error> {
        let http = &config.http;
        let api_key = match &http.api_key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Error::Config(format!("judge.http.api_key_env: the variable {name} is not set"))
            })?),
            None => None,
        };
        let bad = |error: &dyn std::fmt::Display| Error::Config(format!("judge.http: {error}"));
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs_f64(http.timeout_s))
            .build()
            .map_err(|error| bad(&error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-judge")
            .enable_all()
            .build()
            .map_err(|error| bad(&error))?;
        let calls = {
            let _inside = runtime.enter();
            Calls::new(client, config, api_key)
        };
        let (send, receive) = unbounded();
        Ok(Self {
            name: format!("{} (http) prompt:{}", http.model, prompt::template_hash()),
            capacity: http.concurrency * http.urls.len(),
            samples_per_call: http.samples_per_call,
            calls: Arc::new(calls),
            runtime,
            collected: Vec::new(),
            under_way: BTreeMap::new(),
            chats_under_way: BTreeMap::new(),
            chats: Vec::new(),
            send,
            receive,
        })
    }

    /// Starts a call for votes that ask the same.
    fn start(&mut self, votes: Vec<VoteRequest>, n_tried: u32) {
        let ids: Vec<VoteId> = votes.iter().map(|vote| vote.id).collect();
        let wanted = Arc::new(Wanted::new(&votes));
        let (calls, send) = (Arc::clone(&self.calls), self.send.clone());
        let of_task = Arc::clone(&wanted);
        let task = self.runtime.spawn(async move {
            calls.serve(votes, n_tried, &of_task, &send).await;
        });
        let call = Call { wanted, task: task.abort_handle() };
        self.under_way.extend(ids.into_iter().map(|id| (id, call.clone())));
    }
}

impl Judge for HttpJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn submit(&mut self, request: VoteRequest) {
        self.collected.push(request);
    }

    fn cancel(&mut self, id: VoteId) {
        self.collected.retain(|vote| vote.id != id);
        if let Some(call) = self.under_way.remove(&id)
            && !call.wanted.cancel(id)
        {
            call.task.abort();
        }
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let collected = std::mem::take(&mut self.collected);
        for votes in together(collected, self.samples_per_call) {
            self.start(votes, 0);
        }
        if self.under_way.is_empty() && self.chats_under_way.is_empty() {
            return Vec::new();
        }
        let first = self.receive.recv_timeout(POLL).into_iter();
        let reports: Vec<Report> = first.chain(self.receive.try_iter()).collect();
        let mut outcomes = Vec::new();
        for report in reports {
            // one that was cancelled at the last moment is wanted no more
            match report {
                Report::Over((id, outcome)) if self.under_way.remove(&id).is_some() => {
                    outcomes.push((id, outcome));
                }
                Report::Again(vote, n_tried) if self.under_way.contains_key(&vote.id) => {
                    self.start(vec![vote], n_tried);
                }
                Report::Chat((id, outcome)) if self.chats_under_way.remove(&id).is_some() => {
                    self.chats.push((id, outcome));
                }
                Report::Over(_) | Report::Again(..) | Report::Chat(_) => {}
            }
        }
        outcomes
    }

    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        Some(self)
    }

    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        Some(Arc::clone(&self.calls) as Arc<dyn JudgeServers>)
    }
}

impl ChatModel for HttpJudge {
    fn submit_chat(&mut self, id: ChatId, request: ChatRequest) -> Result<(), JudgeError> {
        let (calls, send) = (Arc::clone(&self.calls), self.send.clone());
        let task = self.runtime.spawn(async move {
            let outcome = calls.converse(request).await;
            // where the judge is gone, nobody wants it
            let _ = send.send(Report::Chat((id, outcome)));
        });
        self.chats_under_way.insert(id, task.abort_handle());
        Ok(())
    }

    fn cancel_chat(&mut self, id: ChatId) {
        if let Some(chat) = self.chats_under_way.remove(&id) {
            chat.abort();
        }
    }

    fn take_finished_chats(&mut self) -> Vec<ChatOutcome> {
        std::mem::take(&mut self.chats)
    }
}

/// Puts votes with the same prompt together, at most so many; calls and votes in the order in which
/// they came.
fn together(votes: Vec<VoteRequest>, most: usize) -> Vec<Vec<VoteRequest>> {
    // by prompt: its call, and how many votes are in it
    let mut open: BTreeMap<[&str; 3], (usize, usize)> = BTreeMap::new();
    let mut n_calls = 0;
    let mut calls_of = Vec::with_capacity(votes.len());
    for vote in &votes {
        let texts = [&*vote.question, &*vote.answer_first, &*vote.answer_second];
        let (call, n_votes) = open.entry(texts).or_insert((0, most));
        if *n_votes == most {
            (*call, *n_votes) = (n_calls, 0);
            n_calls += 1;
        }
        *n_votes += 1;
        calls_of.push(*call);
    }
    let mut calls = vec![Vec::new(); n_calls];
    for (vote, call) in votes.into_iter().zip(calls_of) {
        calls[call].push(vote);
    }
    calls
}

#[cfg(test)]
mod tests;
