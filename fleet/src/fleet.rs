//! The call loop: waits for a server, sends, retries.
//!
//! It does not know what a call asks, only whether the call is still wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use joust_schema::seed::Seed;
use serde::Serialize;
use tokio::time::Instant;

use super::attempt::{AttemptError, GoneAt, of_answer, of_request};
use super::call::{Call, CallError, Exhausted, Finished};
use super::config::FleetConfig;
use super::inspection::{Inspected, InspectionError, Inspections, Inspector};
use super::outage::{Outage, Waiting};
use super::pool::{CallEnd, ServerPool};
use super::server::{Error, RequestError, ServerClient, client};
use super::slots::Slots;

/// Pause before the second attempt, before the random factor; it doubles with each further attempt.
const FIRST_PAUSE_MS: u64 = 100;

/// Maximum pause between two attempts, before the random factor.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Maximum pause between two attempts during an outage, so that its end is noticed soon.
const MAX_OUTAGE_PAUSE: Duration = Duration::from_secs(2);

/// A set of servers that give the same answers.
pub struct Fleet {
    config: FleetConfig,
    servers: Vec<ServerClient>,
    slots: Slots,
    inspections: Inspections,
    health: Mutex<FleetHealth>,
    started: Instant,
}

/// What the calls found out about all servers together.
#[derive(Default)]
struct FleetHealth {
    outage: Outage,
    /// The time in which all servers ask for slower calls, which is like an outage.
    busy: Outage,
    /// Reason of the last failure, for calls that find all servers at rest.
    last_failure: String,
    /// Per server: when it last answered a call.
    answered_at: BTreeMap<usize, Duration>,
    /// Servers that answered since they last rejected a call.
    answering: BTreeSet<usize>,
    /// Servers of which it was logged that they reject calls while others answer.
    rejecting: BTreeSet<usize>,
    /// Servers of which it was logged that they ask for slower calls.
    throttling: BTreeSet<usize>,
}

impl Fleet {
    /// Prepares calls to the servers without calling any. Must run inside a tokio runtime.
    /// `inspector` looks at each server before its first call.
    ///
    /// # Errors
    /// [`Error`] if no HTTP client can be made.
    pub fn new(config: FleetConfig, inspector: Option<Inspector>) -> Result<Self, Error> {
        let client = client(&config)?;
        let n_servers = config.urls.len();
        let pool = ServerPool::new(n_servers, config.concurrency, config.requests_per_minute);
        let server = |url: &String| ServerClient::new(client.clone(), url, &config);
        Ok(Self {
            servers: config.urls.iter().map(server).collect(),
            slots: Slots::new(pool),
            inspections: Inspections::new(inspector, n_servers, config.tries),
            config,
            health: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// Number of servers.
    pub fn n_servers(&self) -> usize {
        self.servers.len()
    }

    /// Number of servers that currently get no calls because of failures.
    pub fn n_resting(&self) -> usize {
        self.slots.n_resting()
    }

    /// Whether every server was found gone since its last answer: calls wait for one to come back.
    pub fn are_all_gone(&self) -> bool {
        self.lock().outage.is_everywhere(self.servers.len())
    }

    /// A server, for requests that are no calls.
    pub fn server(&self, server: usize) -> &ServerClient {
        &self.servers[server]
    }

    /// Has a server inspected again before its next call.
    pub async fn forget_inspection(&self, server: usize) {
        self.inspections.forget(server).await;
    }

    /// Looks at a server now, if it was not inspected since it was last gone.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn inspect(&self, server: usize) -> Inspected {
        self.inspections.pass(server, &self.servers[server]).await
    }

    /// Sends a call, with retries. `n_tried` attempts were made before.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<C: Call>(
        &self,
        call: &mut C,
        n_tried: u32,
    ) -> Result<Finished<C::Reply>, CallError> {
        let mut failed = Exhausted::default();
        let mut rejected_by = BTreeSet::new();
        let (mut busy_since, mut gone_since) = (None, None);
        let mut attempt = n_tried;
        while attempt < self.config.tries {
            let pause = match self.attempt(call, &rejected_by).await {
                Ok((reply, server)) => return Ok(Finished { reply, server, attempt }),
                Err(AttemptError::Final(error)) => return Err(error),
                // no try: another server may be the right one
                Err(AttemptError::Rejected(server, reason)) => {
                    rejected_by.insert(server);
                    if rejected_by.len() == self.servers.len() {
                        return Err(CallError::Rejected(reason));
                    }
                    failed.add(reason);
                    continue;
                }
                Err(AttemptError::Retry(reason, pause)) => {
                    gone_since = None;
                    failed.add(reason);
                    attempt += 1;
                    (pause, MAX_PAUSE)
                }
                Err(AttemptError::Busy(server, reason, pause)) => {
                    gone_since = None;
                    failed.add(reason);
                    let since = *busy_since.get_or_insert_with(|| self.started.elapsed());
                    match self.busy_since(server, since) {
                        Waiting::Counts => {
                            attempt += 1;
                            (pause, MAX_PAUSE)
                        }
                        // the wait for a slot is also one for the end of the server's pause
                        Waiting::Waits => continue,
                        Waiting::Over => break,
                    }
                }
                Err(AttemptError::Gone(at, reason, pause)) => {
                    failed.add(reason);
                    let since = *gone_since.get_or_insert_with(|| self.started.elapsed());
                    match self.gone_since(at, since) {
                        Waiting::Counts => {
                            attempt += 1;
                            (pause, MAX_PAUSE)
                        }
                        Waiting::Waits => (pause, MAX_OUTAGE_PAUSE),
                        Waiting::Over => break,
                    }
                }
            };
            if attempt < self.config.tries {
                let (asked, max) = pause;
                // a server may ask for a longer pause, but for no shorter one
                let own = self.backoff(call, failed.n_attempts).min(max);
                tokio::time::sleep(own.max(asked.unwrap_or_default())).await;
            }
        }
        Err(CallError::Exhausted(failed))
    }

    /// Pause after a number of failed attempts, times a random factor in [0.5, 1).
    fn backoff<C: Call>(&self, call: &C, n_failed: u32) -> Duration {
        let jitter = call.seed().child("http", u64::from(n_failed.saturating_sub(1)));
        backoff(n_failed.saturating_sub(1), jitter)
    }

    /// Sends a call once, to the least loaded server that it was not rejected by.
    async fn attempt<C: Call>(
        &self,
        call: &mut C,
        rejected_by: &BTreeSet<usize>,
    ) -> Result<(C::Reply, usize), AttemptError> {
        let mut permit = match self.slots.acquire(call.n_slots(), rejected_by).await {
            Ok(permit) => permit,
            Err(pause) => return Err(self.all_rest(pause)),
        };
        let idx = permit.server();
        let sent = self.started.elapsed();
        self.record_sent(idx);
        let inspected = self.inspect(idx).await.map_err(|error| match error {
            InspectionError::Unseen(error) => self.of_request(idx, error),
            InspectionError::Unusable(reason) => AttemptError::Rejected(idx, reason),
        });
        let replied = match inspected {
            Ok(()) => {
                // serialised here, because the call is asked again about its slots
                let Some(body) = call.body().map(|body| json_bytes(&body)) else {
                    return Err(AttemptError::Final(CallError::Unwanted));
                };
                permit.shrink_to(call.n_slots());
                self.send(call, idx, body).await
            }
            Err(error) => Err(error),
        };
        let replied = replied.map_err(|error| self.seen_beside_others(error, sent));
        self.record(idx, sent, replied.as_ref().err());
        permit.end(match &replied {
            // calls that wait behind this one fail soon, too
            Err(AttemptError::Busy(..)) if self.are_busy_for_too_long(idx) => CallEnd::GivenUp,
            Err(AttemptError::Busy(_, _, pause)) => CallEnd::Busy(*pause),
            Err(AttemptError::Retry(..) | AttemptError::Gone(..)) => CallEnd::Failed,
            Err(AttemptError::Rejected(_, reason)) => self.end_of_rejected(idx, reason),
            Ok(_) | Err(AttemptError::Final(_)) => CallEnd::Answered,
        });
        if let Err(AttemptError::Gone(GoneAt::Server(_), ..)) = &replied {
            self.inspections.forget(idx).await;
        }
        Ok((replied?, idx))
    }

    async fn send<C: Call>(
        &self,
        call: &mut C,
        server: usize,
        body: Vec<u8>,
    ) -> Result<C::Reply, AttemptError> {
        let url = format!("{}/{}", self.servers[server].base(), self.config.path);
        let started = Instant::now();
        let answer = self.servers[server].post(&url, body, self.config.timeout).await;
        let answer = answer.map_err(|error| self.of_request(server, error))?;
        call.read(answer, started.elapsed()).map_err(|bad| of_answer(&url, bad))
    }

    /// The failure of a request. A path that a server had before is missing while a proxy waits for
    /// the server's next start.
    fn of_request(&self, server: usize, error: RequestError) -> AttemptError {
        match error {
            RequestError::NotFound(reason) if self.lock().answering.contains(&server) => {
                AttemptError::Gone(GoneAt::Server(server), reason, None)
            }
            error => of_request(server, error),
        }
    }

    /// A failed attempt, which was `sent` at that time, beside what other calls saw: a server that
    /// answered one in the meantime is up, whatever this call found.
    fn seen_beside_others(&self, error: AttemptError, sent: Duration) -> AttemptError {
        match error {
            AttemptError::Gone(GoneAt::Server(idx), reason, pause)
                if self.lock().answered_at.get(&idx).is_some_and(|at| *at >= sent) =>
            {
                AttemptError::Gone(GoneAt::AnsweringServer(idx), reason, pause)
            }
            error => error,
        }
    }

    /// The failure of a call that finds all servers at rest after failures.
    fn all_rest(&self, pause: Duration) -> AttemptError {
        let health = self.lock();
        let reason = format!("all servers rest after failures, the last: {}", health.last_failure);
        match health.outage.is_on() {
            true => AttemptError::Gone(GoneAt::All, reason, Some(pause)),
            false => AttemptError::Retry(reason, Some(pause)),
        }
    }

    /// The end of a call that a server rejected: the server's fault where another one answers.
    /// Where none does, the settings are wrong, which rest would hide.
    fn end_of_rejected(&self, server: usize, reason: &str) -> CallEnd {
        let mut health = self.lock();
        health.answering.remove(&server);
        if health.answering.is_empty() {
            return CallEnd::Answered;
        }
        if health.rejecting.insert(server) {
            tracing::warn!(reason, "A server rejects calls while another one answers.");
        }
        CallEnd::Failed
    }

    fn record_sent(&self, server: usize) {
        let mut health = self.lock();
        health.outage.record_sent(server);
        health.busy.record_sent(server);
    }

    /// Records what an attempt, which was `sent` at that time, says about the servers.
    fn record(&self, server: usize, sent: Duration, error: Option<&AttemptError>) {
        let now = self.started.elapsed();
        let mut health = self.lock();
        match error {
            Some(AttemptError::Gone(_, reason, _)) => {
                health.last_failure.clone_from(reason);
                health.busy.record_rejection(server);
                let outage_s = self.config.outage.as_secs_f64();
                match health.outage.record_gone(server, sent, now) {
                    true if outage_s > 0.0 => {
                        tracing::warn!(reason, outage_s, "A server is not up; calls wait for one.");
                    }
                    true => tracing::warn!(reason, "A server is not up."),
                    false => {}
                }
            }
            Some(AttemptError::Busy(_, reason, _)) => {
                health.outage.record_answer();
                health.busy.record_gone(server, sent, now);
                if health.throttling.insert(server) {
                    tracing::warn!(
                        reason,
                        "A server asks for slower calls; it gets fewer at once, after a pause. \
                         requests_per_minute or a lower concurrency would avoid such refusals."
                    );
                }
            }
            Some(AttemptError::Retry(reason, _)) => {
                health.last_failure.clone_from(reason);
                health.outage.record_answer();
            }
            // another server may be right, and gone
            Some(AttemptError::Rejected(_, reason)) if self.servers.len() > 1 => {
                health.last_failure.clone_from(reason);
                health.outage.record_rejection(server);
            }
            None => {
                health.answered_at.insert(server, now);
                health.answering.insert(server);
                health.outage.record_answer();
                health.busy.record_answer();
            }
            Some(AttemptError::Final(_)) => {
                health.answered_at.insert(server, now);
                health.outage.record_answer();
            }
            Some(AttemptError::Rejected(..)) => {
                health.outage.record_answer();
            }
        }
    }

    /// What an attempt is that found nobody, in a call whose attempts have found nobody since the
    /// time `since`. Other calls, which servers answer, make the wait no longer.
    fn gone_since(&self, at: GoneAt, since: Duration) -> Waiting {
        let (max, now) = (self.config.outage, self.started.elapsed());
        let waiting = self.lock().outage.waiting(at.server(), self.servers.len(), max, now);
        match (waiting, at) {
            (Waiting::Waits, GoneAt::AnsweringServer(_)) => Waiting::Counts,
            (Waiting::Waits, _) if now.saturating_sub(since) >= max => Waiting::Counts,
            (waiting, _) => waiting,
        }
    }

    /// What an attempt is that the server `at` found one too many, in a call that was told so first
    /// at the time `since`.
    fn busy_since(&self, at: usize, since: Duration) -> Waiting {
        match self.config.busy {
            Duration::ZERO => Waiting::Counts,
            _ if self.are_busy_for_too_long(at) => Waiting::Over,
            max if self.started.elapsed().saturating_sub(since) >= max => Waiting::Over,
            _ => Waiting::Waits,
        }
    }

    /// Whether all servers, `at` among them, have answered nothing else for longer than calls wait.
    fn are_busy_for_too_long(&self, at: usize) -> bool {
        let (max, now) = (self.config.busy, self.started.elapsed());
        let waiting = self.lock().busy.waiting(Some(at), self.servers.len(), max, now);
        waiting == Waiting::Over
    }

    fn lock(&self) -> MutexGuard<'_, FleetHealth> {
        self.health.lock().expect("no thread panics while it holds the health. This is a bug.")
    }
}

fn json_bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a body has text keys only, so that it is JSON. This is a bug.")
}

/// Pause after an attempt, times a random factor in [0.5, 1) from the seed.
fn backoff(attempt: u32, jitter: Seed) -> Duration {
    let whole = Duration::from_millis(FIRST_PAUSE_MS << attempt.min(10)).min(MAX_PAUSE);
    whole.mul_f64(0.5 + jitter.unit() / 2.0)
}

#[cfg(test)]
mod tests;
