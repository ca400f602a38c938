//! Policies that are sampled on inference servers: one call per group, and the checks that make an
//! answer a group.
//!
//! In: groups with rendered prompts. Out: the same groups with completions, or an error. How
//! weights reach the servers is not known here, only who holds the newest ones.

mod answer;
mod counts;
mod group_call;
mod policy;
mod thread;
mod weights;
mod wire;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use joust_engine::model::Decoder;
use joust_fleet::{Fleet, FleetConfig, OddNumbers};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;

use crate::config::{RolloutConfig, ServersConfig};
use crate::error::Error;
use crate::sampler::{Sampler, SamplerCounts};
use crate::sampling::Sampling;
use crate::sampling::group_job::GroupJob;
use crate::sampling::reports::{WorkerReplies, WorkerReport};
use crate::sampling::request::GenerateRequest;
use counts::Counts;
pub use policy::ServedPolicy;
use thread::{GenerateCommand, SamplingThread};
use weights::{HeldWeights, ServedWeights, inspector};
use wire::Wire;

/// Maximum size of an answer. A group of 64 completions of 32,768 tokens takes about 100 MiB.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// A start of a run, as servers are told of it.
#[derive(Clone, Debug)]
pub struct StartId {
    /// Part of the name that servers give the weights: version numbers repeat where a run is
    /// resumed.
    pub id: String,
    /// Whether this process gives weights to the servers: among several, one does.
    pub publishes: bool,
}

impl StartId {
    /// An id that no other start has.
    pub fn fresh() -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = Seed::new(now.map_or(0, |now| now.as_nanos() as u64));
        format!("{:08x}", seed.child("process", std::process::id().into()).0 >> 32)
    }
}

/// Samples groups on servers. A thread with a tokio runtime makes the calls.
pub struct ServerSampler {
    n_servers: usize,
    weights: Arc<Mutex<dyn ServedWeights>>,
    held: Arc<HeldWeights>,
    counts: Arc<Counts>,
    /// The version that the servers were given last.
    version: Option<PolicyVersion>,
    commands: Option<Sender<GenerateCommand>>,
    reports: Receiver<WorkerReport>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ServerSampler {
    /// Looks at the servers, which have no weights of the run before [`Sampler::publish`].
    ///
    /// # Errors
    /// [`Error::Servers`] for servers that cannot be used.
    pub fn open(
        config: &RolloutConfig,
        policy: ServedPolicy,
        start: StartId,
    ) -> Result<Self, Error> {
        let _ = (config, policy, start);
        Err(Error::Servers("this build gives no weights to servers".to_owned()))
    }

    /// Prepares calls to the servers, and makes none. `model` is the name that the servers give the
    /// policy.
    fn new(
        config: &RolloutConfig,
        policy: ServedPolicy,
        model: String,
        weights: Arc<Mutex<dyn ServedWeights>>,
    ) -> Result<Self, Error> {
        let servers = &config.servers;
        let bad = |error: &dyn std::fmt::Display| Error::Servers(error.to_string());
        let wire = Wire::new(config.kind, model);
        let held = Arc::new(HeldWeights::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| bad(&error))?;
        let fleet = {
            let _inside = runtime.enter();
            let inspector =
                inspector(Arc::clone(&weights), Arc::clone(&held), servers.urls.clone());
            Fleet::new(fleet_config(servers, &wire)?, Some(inspector))
                .map_err(|error| bad(&error))?
        };
        let (report, reports) = bounded(config.queue_capacity);
        // one command at a time: the next one waits until it is done
        let (command, commands) = bounded(1);
        let counts = Arc::new(Counts::default());
        let sampling = SamplingThread {
            fleet,
            wire,
            policy,
            config: config.clone(),
            counts: Arc::clone(&counts),
            reports: report,
        };
        let thread = std::thread::Builder::new()
            .name("rollout-servers".to_owned())
            .spawn(move || sampling.run(&runtime, &commands))
            .map_err(|error| bad(&error))?;
        Ok(Self {
            n_servers: servers.urls.len(),
            weights,
            held,
            counts,
            version: None,
            commands: Some(command),
            reports,
            thread: Some(thread),
        })
    }

    fn weights(&self) -> MutexGuard<'_, dyn ServedWeights + 'static> {
        self.weights.lock().expect("no thread panics while it holds the weights. This is a bug.")
    }
}

/// Settings of the fleet, with the API key of the environment.
fn fleet_config(servers: &ServersConfig, wire: &Wire) -> Result<FleetConfig, Error> {
    let mut headers = Vec::new();
    if let Some(name) = &servers.api_key_env {
        let key = std::env::var(name).unwrap_or_default().trim().to_owned();
        if key.is_empty() {
            let text = format!("api_key_env: the variable {name} is not set");
            return Err(Error::Servers(text));
        }
        headers.push(("authorization".to_owned(), format!("Bearer {key}")));
    }
    Ok(FleetConfig {
        urls: servers.urls.clone(),
        path: wire.path().to_owned(),
        headers,
        concurrency: servers.concurrency,
        requests_per_minute: 0,
        timeout: Duration::from_secs_f64(servers.timeout_s),
        max_answer_bytes: MAX_ANSWER_BYTES,
        tries: servers.tries,
        outage: Duration::from_secs_f64(servers.outage_s),
        busy: Duration::from_secs_f64(servers.outage_s),
        // a log-probability that is no number is no answer
        odd_numbers: OddNumbers::Refused,
    })
}

impl Sampler for ServerSampler {
    fn n_workers(&self) -> usize {
        self.n_servers
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    /// # Errors
    /// [`Error::Servers`] where servers hold wrong weights that cannot be replaced.
    fn start(&mut self, request: &GenerateRequest<'_>) -> Result<Sampling<'_>, Error> {
        let label = {
            let mut weights = self.weights();
            let held = weights.check()?;
            self.counts.set_down(held.iter().filter(|held| !**held).count());
            self.held.set(held);
            weights.label()
        };
        let n_prompts = request.prompts.len();
        let jobs = (0..n_prompts).map(|prompt_idx| GroupJob::new(request, prompt_idx)).collect();
        let unasked = || Arc::new(AtomicBool::new(false));
        let cancelled = request.cancelled.cloned().unwrap_or_else(unasked);
        let stop = request.stop.cloned().unwrap_or_else(unasked);
        let command = GenerateCommand { jobs, label, cancelled: Arc::clone(&cancelled), stop };
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok());
        if !sent {
            return Err(Error::Servers("the thread that calls them has ended".to_owned()));
        }
        Ok(Sampling::new(WorkerReplies::new(&self.reports, 1), n_prompts, Some(cancelled)))
    }

    fn release(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Gives the weights to the servers. Steps without an update publish nothing.
    ///
    /// # Errors
    /// [`Error::Servers`] where they cannot be written, no server can take them, or a server's
    /// log-probabilities show that it computes with others.
    fn publish(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error> {
        if self.version == Some(version) {
            return Ok(());
        }
        // half-done work leaves no version that could be taken for the new one
        self.version = None;
        self.weights().publish(policy, version)?;
        self.version = Some(version);
        Ok(())
    }

    fn take_counts(&mut self) -> SamplerCounts {
        self.counts.take()
    }
}

impl Drop for ServerSampler {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // panics were reported where they were caught
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
