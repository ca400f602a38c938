//! The call loop: waits for a server, sends, retries.
//!
//! It does not know what a call asks, only whether the call is still wanted.

use std::time::Duration;

use joust_schema::seed::Seed;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::call::{Call, CallError, Finished};
use super::config::FleetConfig;
use super::pool::{CallEnd, ServerPool};
use super::slots::Slots;

/// Pause before the second attempt, before the random factor; it doubles with each further attempt.
const FIRST_PAUSE_MS: u64 = 100;

/// Maximum pause between two attempts, before the random factor.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Maximum pause that a server's `Retry-After` may set, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;

/// Maximum number of characters of a server's message in an error.
const MAX_ERROR_CHARS: usize = 200;

/// Errors of making a fleet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// A set of servers that give the same answers.
pub struct Fleet {
    client: reqwest::Client,
    config: FleetConfig,
    slots: Slots,
}

/// Why an attempt failed.
enum AttemptError {
    /// Another attempt, at this or another server, may succeed. The pause is the server's
    /// `Retry-After`, if any.
    Retry(String, Option<Duration>),
    /// Another attempt would fail like this one.
    Final(CallError),
}

impl Fleet {
    /// Prepares calls to the servers without calling any. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Client`] if no HTTP client can be made.
    pub fn new(config: FleetConfig) -> Result<Self, Error> {
        let client = reqwest::Client::builder().timeout(config.timeout).build()?;
        let pool =
            ServerPool::new(config.urls.len(), config.concurrency, config.requests_per_minute);
        Ok(Self { client, config, slots: Slots::new(pool) })
    }

    /// The settings.
    pub fn config(&self) -> &FleetConfig {
        &self.config
    }

    /// Number of servers.
    pub fn n_servers(&self) -> usize {
        self.config.urls.len()
    }

    /// Number of servers that currently get no calls because of failures.
    pub fn n_resting(&self) -> usize {
        self.slots.n_resting()
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
        let mut last = String::new();
        for attempt in n_tried..self.config.tries {
            let pause = match self.attempt(call).await {
                Ok((reply, server)) => return Ok(Finished { reply, server, attempt }),
                Err(AttemptError::Final(error)) => return Err(error),
                Err(AttemptError::Retry(reason, pause)) => {
                    last = reason;
                    pause
                }
            };
            if attempt + 1 < self.config.tries {
                let jitter = call.seed().child("http", u64::from(attempt));
                tokio::time::sleep(pause.unwrap_or(backoff(attempt, jitter))).await;
            }
        }
        Err(CallError::Exhausted(last))
    }

    /// Sends a call once, to the least loaded server.
    async fn attempt<C: Call>(&self, call: &mut C) -> Result<(C::Reply, usize), AttemptError> {
        let mut permit = self.slots.acquire(call.n_slots()).await.map_err(|pause| {
            AttemptError::Retry("all servers rest after failures".to_owned(), Some(pause))
        })?;
        let server = permit.server();
        let url = &self.config.urls[server];
        let request = match call.body() {
            Some(body) => self.client.post(url).json(&body),
            None => return Err(AttemptError::Final(CallError::Unwanted)),
        };
        permit.shrink_to(call.n_slots());
        let started = Instant::now();
        let read = |answer| {
            let reply = call.read(answer, started.elapsed());
            reply.map_err(|reason| AttemptError::Retry(format!("{url}: {reason}"), None))
        };
        let replied = self.send(url, request).await.and_then(read);
        permit.end(match &replied {
            Err(AttemptError::Retry(..)) => CallEnd::Failed,
            Ok(_) | Err(AttemptError::Final(_)) => CallEnd::Answered,
        });
        Ok((replied?, server))
    }

    async fn send<A: DeserializeOwned>(
        &self,
        url: &str,
        mut request: reqwest::RequestBuilder,
    ) -> Result<A, AttemptError> {
        if let Some(key) = &self.config.api_key {
            request = request.bearer_auth(key);
        }
        let retry = |error: reqwest::Error| AttemptError::Retry(format!("{url}: {error}"), None);
        let response = request.send().await.map_err(retry)?;
        match response.status().is_success() {
            true => response.json().await.map_err(retry),
            false => Err(refusal(url, response).await),
        }
    }
}

/// Classifies an unsuccessful response.
async fn refusal(url: &str, response: reqwest::Response) -> AttemptError {
    let status = response.status();
    let after = response.headers().get("retry-after");
    let after = after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let message = match status {
        // a server that refuses a key may repeat the key in its message, which clients read
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => String::new(),
        _ => response.text().await.unwrap_or_default(),
    };
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
    let reason = format!("{url}: {status} {message}");
    match status.as_u16() {
        // too many requests, too slow, or the server's own fault
        408 | 425 | 429 | 500..=599 => {
            let pause = after.map(|s| Duration::from_secs(s.min(MAX_RETRY_AFTER_S)));
            AttemptError::Retry(reason, pause)
        }
        // the request is wrong
        400 | 413 | 414 | 422 => AttemptError::Final(CallError::Refused(reason)),
        // the settings of this program are wrong, not the request
        _ => AttemptError::Final(CallError::Rejected(reason)),
    }
}

/// Pause after an attempt, times a random factor in [0.5, 1) from the seed.
fn backoff(attempt: u32, jitter: Seed) -> Duration {
    let whole = Duration::from_millis(FIRST_PAUSE_MS << attempt.min(10)).min(MAX_PAUSE);
    whole.mul_f64(0.5 + jitter.unit() / 2.0)
}
