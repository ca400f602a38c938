//! The part `http`: a server that is sent a group and answers with its numbers.
//!
//! A fleet makes the calls: it bounds the load, retries faults and waits for a server that is gone.

use std::sync::Arc;
use std::time::Duration;

use joust_fleet::{BadAnswer, Call, CallError, Fleet, FleetConfig, MAX_TEXT_BYTES, OddNumbers};
use joust_schema::seed::Seed;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::source::{PartQuestions, PartSource};
use super::wire;
use crate::config::part::HttpPartConfig;
use crate::error::Error;

/// Time between two looks whether the answers are still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A server that scores groups.
pub(super) struct HttpPart {
    fleet: Arc<Fleet>,
    runtime: tokio::runtime::Runtime,
}

impl HttpPart {
    /// Prepares calls, and makes none.
    ///
    /// # Errors
    /// [`Error::Config`] if no thread or client can be made, or the variable of a header is not
    /// set.
    pub(super) fn open(name: &str, config: &HttpPartConfig) -> Result<Self, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::Config(format!("part `{name}`: {error}"));
        let mut headers = Vec::new();
        for (header, variable) in &config.headers_env {
            let value = std::env::var(variable).unwrap_or_default().trim().to_owned();
            if value.is_empty() {
                let text = format!("headers_env.{header}: the variable {variable} is not set");
                return Err(bad(&text));
            }
            headers.push((header.clone(), value));
        }
        let (base, path) = split_url(&config.url);
        let fleet = FleetConfig {
            urls: vec![base.to_owned()],
            path: path.to_owned(),
            headers,
            concurrency: config.concurrency,
            requests_per_minute: 0,
            timeout: Duration::from_secs_f64(config.timeout_s),
            max_answer_bytes: MAX_TEXT_BYTES,
            tries: config.tries,
            outage: Duration::from_secs_f64(config.outage_s),
            busy: Duration::from_secs_f64(config.outage_s),
            // null has a meaning: no number
            odd_numbers: OddNumbers::Refused,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("http-part")
            .enable_all()
            .build()
            .map_err(|error| bad(&error))?;
        let fleet = {
            let _inside = runtime.enter();
            Fleet::new(fleet, None).map_err(|error| bad(&error))?
        };
        Ok(Self { fleet: Arc::new(fleet), runtime })
    }
}

/// Asks the server about a group.
async fn score_group(fleet: &Fleet, group: &PartGroup) -> PartOutcome {
    let request = &group.request;
    let mut call = PartCall {
        question: wire::question(group),
        id: &request.group_id.0,
        n: request.completions.len(),
        seed: request.seed,
    };
    match fleet.call(&mut call, 0).await {
        Ok(finished) => PartOutcome::Given(finished.reply),
        Err(CallError::Refused(reason) | CallError::Rejected(reason)) => {
            PartOutcome::Failed(reason)
        }
        Err(error) => PartOutcome::Failed(error.to_string()),
    }
}

impl PartSource for HttpPart {
    fn score(&mut self, questions: PartQuestions) {
        let PartQuestions { groups, answers, .. } = questions;
        let mut calls = JoinSet::new();
        for (place, group) in groups {
            let (fleet, answers) = (Arc::clone(&self.fleet), answers.clone());
            let call = async move { answers.send(place, score_group(&fleet, &group).await) };
            calls.spawn_on(call, self.runtime.handle());
        }
        self.runtime.block_on(async {
            // the end of the set ends the calls that nobody waits for
            while !calls.is_empty() && !answers.are_unwanted() {
                let ended = tokio::time::timeout(LOOK, calls.join_next()).await;
                if let Ok(Some(Err(error))) = ended
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        });
    }
}

/// The address of the server, and the path below it.
fn split_url(url: &str) -> (&str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    match url[authority..].find('/') {
        Some(at) => (&url[..authority + at], &url[authority + at + 1..]),
        None => (url, ""),
    }
}

/// A group on its way to the server.
struct PartCall<'a> {
    question: Box<RawValue>,
    id: &'a str,
    n: usize,
    seed: Seed,
}

impl Call for PartCall<'_> {
    type Reply = Vec<Option<f64>>;

    fn n_slots(&self) -> usize {
        1
    }

    fn body(&mut self) -> Option<impl Serialize> {
        Some(&*self.question)
    }

    fn read(&mut self, answer: Value, _: Duration) -> Result<Self::Reply, BadAnswer> {
        wire::read_answer(&answer, self.id, self.n).map_err(|reason| {
            let begins: String = answer.to_string().chars().take(wire::MAX_SHOWN_CHARS).collect();
            BadAnswer::Defect(format!("{reason}; it begins {begins:?}"))
        })
    }

    fn seed(&self) -> Seed {
        self.seed
    }
}

#[cfg(test)]
mod tests;
