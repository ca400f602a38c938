//! A judge behind one or more OpenAI-compatible servers (vLLM, SGLang, llama.cpp).
//!
//! Votes with the same prompt that are submitted at the same time may share a call. A fleet makes
//! the calls: it chooses the server, bounds the load and retries faults. A vote without an answer
//! is a failed vote, never a verdict. A conversation is a call of its own. The judge does not know
//! how a server is chosen.

mod calls;
mod shared;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use joust_fleet::{Fleet, FleetConfig};
use tokio::task::AbortHandle;

use super::chat::{ChatId, ChatModel, ChatOutcome, ChatRequest};
use super::interface::{Judge, JudgeServers};
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteRequest};
use crate::config::judge::{HttpJudgeConfig, JudgeConfig};
use crate::error::Error;
use crate::prompt;
use calls::{CallReport, JudgeCalls};
use shared::{WantedVotes, group_by_prompt};

/// Maximum time that [`Judge::poll`] waits for the first report.
const MAX_POLL: Duration = Duration::from_millis(20);

/// A judge behind servers.
pub struct HttpJudge {
    name: String,
    capacity: usize,
    samples_per_call: usize,
    calls: Arc<JudgeCalls>,
    runtime: tokio::runtime::Runtime,
    /// Votes that were submitted since the last poll.
    collected: Vec<VoteRequest>,
    in_flight: BTreeMap<VoteId, SharedCall>,
    chats_in_flight: BTreeMap<ChatId, AbortHandle>,
    /// Conversations that finished since they were last taken.
    finished_chats: Vec<ChatOutcome>,
    send: Sender<CallReport>,
    receive: Receiver<CallReport>,
}

/// The call that a vote is in.
#[derive(Clone)]
struct SharedCall {
    wanted: Arc<WantedVotes>,
    task: AbortHandle,
}

impl HttpJudge {
    /// Prepares calls to the servers of `http`; none is called yet.
    ///
    /// # Errors
    /// [`Error::Config`] if no thread or client can be made, or the key's variable is not set.
    pub fn open(http: &HttpJudgeConfig, config: &JudgeConfig) -> Result<Self, Error> {
        let api_key = match &http.api_key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Error::Config(format!("judge.api_key_env: the variable {name} is not set"))
            })?),
            None => None,
        };
        let bad = |error: &dyn std::fmt::Display| Error::Config(format!("judge.urls: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-judge")
            .enable_all()
            .build()
            .map_err(|error| bad(&error))?;
        let endpoint = |url: &String| format!("{}/chat/completions", url.trim_end_matches('/'));
        let fleet = {
            let _inside = runtime.enter();
            Fleet::new(FleetConfig {
                urls: http.urls.iter().map(endpoint).collect(),
                api_key,
                concurrency: http.concurrency,
                requests_per_minute: http.requests_per_minute,
                timeout: Duration::from_secs_f64(http.timeout_s),
                tries: http.tries,
            })
            .map_err(|error| bad(&error))?
        };
        let (send, receive) = unbounded();
        Ok(Self {
            name: format!("{} (http) prompt:{}", http.model, prompt::template_hash()),
            capacity: http.concurrency * http.urls.len(),
            samples_per_call: http.samples_per_call,
            calls: Arc::new(JudgeCalls::new(fleet, &http.model, config)),
            runtime,
            collected: Vec::new(),
            in_flight: BTreeMap::new(),
            chats_in_flight: BTreeMap::new(),
            finished_chats: Vec::new(),
            send,
            receive,
        })
    }

    /// Starts one call for votes with the same prompt, after `n_tried` attempts.
    fn start_call(&mut self, votes: Vec<VoteRequest>, n_tried: u32) {
        let ids: Vec<VoteId> = votes.iter().map(|vote| vote.id).collect();
        let wanted = Arc::new(WantedVotes::new(&votes));
        let (calls, send) = (Arc::clone(&self.calls), self.send.clone());
        let of_task = Arc::clone(&wanted);
        let task = self.runtime.spawn(async move {
            calls.ask_votes(votes, n_tried, &of_task, &send).await;
        });
        let call = SharedCall { wanted, task: task.abort_handle() };
        self.in_flight.extend(ids.into_iter().map(|id| (id, call.clone())));
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
        if let Some(call) = self.in_flight.remove(&id)
            && !call.wanted.cancel(id)
        {
            call.task.abort();
        }
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let collected = std::mem::take(&mut self.collected);
        for votes in group_by_prompt(collected, self.samples_per_call) {
            self.start_call(votes, 0);
        }
        if self.in_flight.is_empty() && self.chats_in_flight.is_empty() {
            return Vec::new();
        }
        let first = self.receive.recv_timeout(MAX_POLL).into_iter();
        let reports: Vec<CallReport> = first.chain(self.receive.try_iter()).collect();
        let mut outcomes = Vec::new();
        for report in reports {
            // a vote may have been cancelled in the meantime
            match report {
                CallReport::VoteOver((id, outcome)) if self.in_flight.remove(&id).is_some() => {
                    outcomes.push((id, outcome));
                }
                CallReport::AskAlone(vote, n_tried) if self.in_flight.contains_key(&vote.id) => {
                    self.start_call(vec![vote], n_tried);
                }
                CallReport::ChatOver((id, outcome))
                    if self.chats_in_flight.remove(&id).is_some() =>
                {
                    self.finished_chats.push((id, outcome));
                }
                CallReport::VoteOver(_) | CallReport::AskAlone(..) | CallReport::ChatOver(_) => {}
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
            let outcome = calls.ask_chat(request).await;
            // if the judge is gone, its reports are not needed
            let _ = send.send(CallReport::ChatOver((id, outcome)));
        });
        self.chats_in_flight.insert(id, task.abort_handle());
        Ok(())
    }

    fn cancel_chat(&mut self, id: ChatId) {
        if let Some(chat) = self.chats_in_flight.remove(&id) {
            chat.abort();
        }
    }

    fn take_finished_chats(&mut self) -> Vec<ChatOutcome> {
        std::mem::take(&mut self.finished_chats)
    }
}

#[cfg(test)]
mod tests;
