//! A judge behind one or more OpenAI-compatible servers (vLLM, SGLang, llama.cpp).
//!
//! Votes with the same prompt that are submitted at the same time may share a call. A fleet makes
//! the calls: it chooses the server, bounds the load and retries faults. Each server is looked at
//! before its first call. A vote without an answer is a failed vote, never a verdict. A
//! conversation is a call of its own. The judge does not know how a server is chosen.

mod answer;
mod calls;
mod look;
mod shared;
mod thoughts;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use futures_util::future::join_all;
use joust_fleet::{Fleet, FleetConfig, InspectionError, Inspector, MAX_TEXT_BYTES, OddNumbers};
use tokio::task::AbortHandle;

use super::chat::{ChatId, ChatModel, ChatOutcome, ChatRequest};
use super::interface::{Judge, JudgeServers};
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteRequest};
use crate::config::judge::{HttpJudgeConfig, JudgeConfig};
use crate::error::Error;
use crate::prompt;
use calls::{CallReport, JudgeCalls};
use look::ServerLook;
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
    /// Prepares calls to the servers of `http`, and looks at those that are up.
    ///
    /// # Errors
    /// [`Error::Config`] if no thread or client can be made, the variable of a key is not set, or
    /// a server is the wrong one; [`Error::Model`] for a tokenizer that cannot be read.
    pub fn open(http: &HttpJudgeConfig, config: &JudgeConfig) -> Result<Self, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Config(format!("judge.urls: {error}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-judge")
            .enable_all()
            .build()
            .map_err(|error| bad(&error))?;
        let look = Arc::new(ServerLook::new(http, config)?);
        let inspector: Inspector = Arc::new(move |server| {
            let look = Arc::clone(&look);
            Box::pin(async move { look.look(&server).await })
        });
        let fleet = {
            let _inside = runtime.enter();
            Fleet::new(fleet_config(http)?, Some(inspector)).map_err(|error| bad(&error))?
        };
        runtime.block_on(look_at_all(&fleet))?;
        let (send, receive) = unbounded();
        Ok(Self {
            name: format!("{} (http) prompt:{}", http.model, prompt::template_hash()),
            capacity: http.concurrency * http.urls.len(),
            samples_per_call: http.samples_per_call,
            calls: Arc::new(JudgeCalls::new(fleet, http, config)),
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

/// Settings of the fleet, with the values of the environment's variables.
fn fleet_config(http: &HttpJudgeConfig) -> Result<FleetConfig, Error> {
    let variable = |key: &str, name: &String| {
        let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        // files with keys often end in a line feed
        let value = value.map(|value| value.trim().to_owned());
        value.ok_or_else(|| Error::Config(format!("judge.{key}: the variable {name} is not set")))
    };
    let mut headers: Vec<(String, String)> =
        http.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, variable_name) in &http.headers_env {
        headers.push((name.clone(), variable(&format!("headers_env.{name}"), variable_name)?));
    }
    if let Some(name) = &http.api_key_env {
        let key = variable("api_key_env", name)?;
        headers.push(("authorization".to_owned(), format!("Bearer {key}")));
    }
    Ok(FleetConfig {
        urls: http.urls.clone(),
        path: "chat/completions".to_owned(),
        headers,
        concurrency: http.concurrency,
        requests_per_minute: http.requests_per_minute,
        timeout: Duration::from_secs_f64(http.timeout_s),
        max_answer_bytes: MAX_TEXT_BYTES,
        tries: http.tries,
        outage: Duration::from_secs_f64(http.outage_s),
        busy: Duration::from_secs_f64(http.busy_s),
        odd_numbers: OddNumbers::Null,
    })
}

/// Looks at all servers at once. Those that are not up are looked at when they are.
async fn look_at_all(fleet: &Fleet) -> Result<(), Error> {
    let looks = (0..fleet.n_servers()).map(|server| fleet.inspect(server));
    for inspected in join_all(looks).await {
        match inspected {
            Ok(()) => {}
            Err(InspectionError::Unseen(reason)) => {
                tracing::info!(%reason, "A server is not checked yet, but before its first call.");
            }
            Err(InspectionError::Unusable(reason)) => return Err(Error::Config(reason)),
        }
    }
    Ok(())
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
