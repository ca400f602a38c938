//! Policies that are sampled on inference servers: one call per group, and the checks that make an
//! answer a group.
//!
//! In: groups with rendered prompts. Out: the same groups with completions, or an error. How
//! weights reach the servers is not known here, only who holds the newest ones.

mod answer;
pub(crate) mod control;
mod counts;
mod fleet_config;
mod group_call;
mod policy;
mod start_id;
mod thread;
mod weights;
mod wire;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam::channel::{Receiver, Sender, bounded};
use joust_engine::model::Decoder;
use joust_fleet::Fleet;
use joust_schema::ids::PolicyVersion;

use crate::config::RolloutConfig;
use crate::error::Error;
use crate::sampler::{Sampler, SamplerCounts};
use crate::sampling::Sampling;
use crate::sampling::group_job::GroupJob;
use crate::sampling::reports::{WorkerReplies, WorkerReport};
use crate::sampling::request::GenerateRequest;
pub use control::PolicyServers;
pub use control::fault::ServerFault;
use counts::Counts;
use fleet_config::fleet_config;
pub use policy::ServedPolicy;
pub use start_id::StartId;
use thread::{GenerateCommand, SamplingThread};
use weights::{HeldWeights, ServedWeights, inspector};
use wire::Wire;

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
    /// Looks at the servers, which have no weights of the run before [`Sampler::publish`]. Once
    /// `stop` is true, it waits for no server, and neither does the publication of weights.
    ///
    /// # Errors
    /// As [`PolicyServers::open_until`].
    pub fn open(
        config: &RolloutConfig,
        policy: ServedPolicy,
        start: StartId,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let weights = PolicyServers::open_until(config, &policy, start, Arc::clone(stop))?;
        let model = weights.model().to_owned();
        Self::new(config, policy, model, Arc::new(Mutex::new(weights)))
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
            Fleet::new(fleet_config(servers, wire.path())?, Some(inspector))
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
            .spawn(move || {
                sampling.run(&runtime, &commands);
                // a look at a server may still wait for an answer
                runtime.shutdown_background();
            })
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

impl Sampler for ServerSampler {
    fn n_workers(&self) -> usize {
        self.n_servers
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    /// # Errors
    /// [`Error::ServerFault`] where a server computes with weights that it was not given.
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
    /// [`Error::ServerFault`] where no server can take them, or a server's log-probabilities show
    /// that it computes with others; [`Error::Schema`] where they cannot be written;
    /// [`Error::Cancelled`].
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
