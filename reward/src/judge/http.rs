//! A judge behind one or more OpenAI-compatible servers (vLLM, SGLang, llama.cpp).
//!
//! Votes go to the server with the fewest under way, a bounded number at once; what fails by a server's
//! fault is tried again elsewhere, with growing pauses; a server that keeps failing is left alone for a
//! while. What a server refuses as wrong is not tried again. A vote that stays without an answer is a
//! failed vote, never a verdict.

mod breaker;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};
use joust_schema::seed::Seed;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Judge, JudgeError, VoteId, VoteOutcome, VoteRequest};
use crate::config::{HttpJudgeConfig, JudgeConfig};
use crate::error::Error;
use crate::judge::VoteReply;
use breaker::Breaker;
use wire::{Answer, Ask, messages};

/// How long [`Judge::poll`] waits where nothing is there yet.
const POLL: Duration = Duration::from_millis(20);

/// See the module.
pub struct HttpJudge {
    name: String,
    calls: Arc<Calls>,
    runtime: tokio::runtime::Runtime,
    under_way: BTreeMap<VoteId, AbortHandle>,
    send: Sender<VoteOutcome>,
    receive: Receiver<VoteOutcome>,
}

struct Calls {
    client: reqwest::Client,
    config: HttpJudgeConfig,
    temperature: f64,
    top_p: f64,
    max_tokens: usize,
    api_key: Option<String>,
    servers: Vec<Server>,
    slots: Semaphore,
    started: Instant,
}

struct Server {
    /// Where completions are asked for.
    url: String,
    state: Mutex<ServerState>,
}

#[derive(Default)]
struct ServerState {
    breaker: Breaker,
    n_under_way: usize,
}

/// Why one call gave no vote.
enum Problem {
    /// Another try, perhaps elsewhere, may do better; after this pause, where the server says.
    Retry(String, Option<Duration>),
    /// The same call would fail again.
    Refused(String),
}

impl HttpJudge {
    /// Gets ready to call the servers of `config`; none is called yet.
    ///
    /// # Errors
    /// [`Error::Config`] where no thread or client can be made, or the key's variable is not set.
    pub fn open(config: &JudgeConfig) -> Result<Self, Error> {
        let http = config.http.clone();
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
        let server = |url: &String| Server {
            url: format!("{}/chat/completions", url.trim_end_matches('/')),
            state: Mutex::default(),
        };
        let (send, receive) = unbounded();
        let calls = Calls {
            client,
            temperature: config.temperature,
            top_p: config.top_p,
            max_tokens: config.max_thinking_tokens,
            api_key,
            servers: http.urls.iter().map(server).collect(),
            slots: Semaphore::new(http.concurrency * http.urls.len()),
            started: {
                let _inside = runtime.enter();
                Instant::now()
            },
            config: http,
        };
        Ok(Self {
            name: format!("{} (http)", calls.config.model),
            calls: Arc::new(calls),
            runtime,
            under_way: BTreeMap::new(),
            send,
            receive,
        })
    }
}

impl Judge for HttpJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn submit(&mut self, request: VoteRequest) {
        let (calls, send, id) = (Arc::clone(&self.calls), self.send.clone(), request.id);
        let task = self.runtime.spawn(async move {
            let outcome = calls.vote(&request).await;
            // where the judge is gone, nobody wants it
            let _ = send.send((id, outcome));
        });
        self.under_way.insert(id, task.abort_handle());
    }

    fn cancel(&mut self, id: VoteId) {
        if let Some(task) = self.under_way.remove(&id) {
            task.abort();
        }
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        if self.under_way.is_empty() {
            return Vec::new();
        }
        let first = self.receive.recv_timeout(POLL).into_iter();
        let outcomes: Vec<VoteOutcome> = first.chain(self.receive.try_iter()).collect();
        // one that was cancelled at the last moment is wanted no more
        let is_wanted = |(id, _): &VoteOutcome| self.under_way.remove(id).is_some();
        outcomes.into_iter().filter(is_wanted).collect()
    }
}

impl Calls {
    async fn vote(&self, request: &VoteRequest) -> Result<VoteReply, JudgeError> {
        let tries = self.config.tries;
        let mut last = String::new();
        for attempt in 0..tries {
            let slot = self.slots.acquire().await;
            let _slot = slot.map_err(|error| JudgeError::Failed(error.to_string()))?;
            let called = self.call(request).await;
            drop(_slot);
            let pause = match called {
                Ok(reply) => return Ok(reply),
                Err(Problem::Refused(reason)) => return Err(JudgeError::Refused(reason)),
                Err(Problem::Retry(reason, pause)) => {
                    last = reason;
                    pause
                }
            };
            if attempt + 1 < tries {
                let jitter = request.seed.child("http", u64::from(attempt));
                tokio::time::sleep(pause.unwrap_or(backoff(attempt, jitter))).await;
            }
        }
        Err(JudgeError::Failed(format!("no vote after {tries} tries; last: {last}")))
    }

    /// One call to the server that has the fewest under way.
    async fn call(&self, request: &VoteRequest) -> Result<VoteReply, Problem> {
        let Some(server) = self.choose() else {
            let now = self.started.elapsed();
            let rests = self.servers.iter().map(|server| server.lock().breaker.rests_until());
            let pause = rests.min().map(|until| until.saturating_sub(now));
            return Err(Problem::Retry("all servers rest after failures".to_owned(), pause));
        };
        let under_way = UnderWay { server, is_over: false };
        let started = Instant::now();
        let called = self.ask(server, request).await;
        let called = called.and_then(|answer| {
            let reply = answer.into_reply(started.elapsed().as_secs_f64() * 1e3);
            reply.ok_or_else(|| Problem::Retry(format!("{}: no choices", server.url), None))
        });
        under_way.over(self.started.elapsed(), !matches!(called, Err(Problem::Retry(..))));
        called
    }

    fn choose(&self) -> Option<&Server> {
        let now = self.started.elapsed();
        let free = self.servers.iter().filter(|server| server.lock().breaker.allows(now));
        let server = free.min_by_key(|server| server.lock().n_under_way)?;
        let mut state = server.lock();
        state.n_under_way += 1;
        state.breaker.sent();
        drop(state);
        Some(server)
    }

    async fn ask(&self, server: &Server, request: &VoteRequest) -> Result<Answer, Problem> {
        let body = Ask {
            model: &self.config.model,
            messages: messages(request),
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            // servers want a number that is not negative
            seed: (request.seed.0 >> 1) as i64,
        };
        let mut call = self.client.post(&server.url).json(&body);
        if let Some(key) = &self.api_key {
            call = call.bearer_auth(key);
        }
        let retry =
            |error: reqwest::Error| Problem::Retry(format!("{}: {error}", server.url), None);
        let response = call.send().await.map_err(retry)?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(retry);
        }
        let after = response.headers().get("retry-after");
        let after = after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let told: String = response.text().await.unwrap_or_default().chars().take(200).collect();
        let reason = format!("{}: {status} {told}", server.url);
        // too many, too slow, or its own fault; all else is ours
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                Err(Problem::Retry(reason, after.map(|s| Duration::from_secs(s.min(60)))))
            }
            _ => Err(Problem::Refused(reason)),
        }
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().expect("nobody panics with a server's state in hand. This is a bug.")
    }
}

/// A call that is under way; dropped before its end, it teaches nothing.
struct UnderWay<'a> {
    server: &'a Server,
    is_over: bool,
}

impl UnderWay<'_> {
    fn over(mut self, now: Duration, is_well: bool) {
        let mut state = self.server.lock();
        match is_well {
            true => state.breaker.answered(),
            false => state.breaker.failed(now),
        }
        drop(state);
        self.is_over = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.server.lock();
        state.n_under_way -= 1;
        if !self.is_over {
            state.breaker.given_up();
        }
    }
}

/// A pause of 0.1 s, doubled with each try up to half a minute, times a keyed factor in [0.5, 1).
fn backoff(attempt: u32, jitter: Seed) -> Duration {
    let whole = Duration::from_millis(100 << attempt.min(10)).min(Duration::from_secs(30));
    whole.mul_f64(0.5 + jitter.unit() / 2.0)
}

#[cfg(test)]
mod tests;
