//! The weights of policy servers: gives each version of a policy to all of them, and sees that they
//! compute with it.
//!
//! In: the policy after each update. Out: which servers hold exactly that version, or a fault with
//! its remedy. A server that failed half-way gets no calls, and one that came back gets the newest
//! weights before any call. No answer of a server is taken as a proof: log-probabilities are. It
//! does not know what is sampled.

mod drill;
mod endpoint;
pub(crate) mod fault;
mod read;
mod sink;
mod state;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use joust_engine::{Decoder, SamplingParams, forced};
use joust_fleet::{Fleet, RequestError};
use joust_schema::ids::PolicyVersion;

use super::fleet_config::fleet_config;
use super::policy::ServedPolicy;
use super::start_id::StartId;
use super::weights::ServedWeights;
use crate::config::RolloutConfig;
use crate::error::Error;
use endpoint::{Endpoint, is_no_control};
use fault::ServerFault;
use sink::{DiskSink, WeightsFolder};
use state::HeldVersion;
use witness::{Allowance, Seen, WitnessTexts, difference, is_lost, share_followed};

/// Time between two looks at servers that are waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// Least time that a server has for reading weights.
const LEAST_RELOAD_TIME: Duration = Duration::from_secs(600);

/// The servers of a run, and the weights that they hold.
pub struct PolicyServers {
    runtime: tokio::runtime::Runtime,
    servers: Vec<PolicyServer>,
    sink: DiskSink,
    texts: WitnessTexts,
    /// How groups are sampled.
    params: SamplingParams,
    max_difference: f64,
    /// Time for which servers that are gone are waited for.
    outage: Duration,
    newest: Option<NewestWeights>,
    /// Once it is true, servers are not waited for.
    stop: Arc<AtomicBool>,
    /// Whether this process gives weights; if not, another one does, and this one looks.
    publishes: bool,
}

struct PolicyServer {
    endpoint: Endpoint,
    held: HeldVersion,
    /// Difference per token from the trainer with weights that it surely held.
    noise: f64,
    /// The last version that it was seen to follow the policy to.
    since: Option<Seen>,
}

/// The weights that servers are to hold.
#[derive(Clone, Debug)]
struct NewestWeights {
    weights: WeightsFolder,
    version: PolicyVersion,
    /// The trainer's log-probabilities of the fixed text.
    text_logprobs: Vec<f32>,
}

impl PolicyServers {
    /// Waits until all servers are up, and asks each whether it can serve the policy.
    ///
    /// # Errors
    /// [`Error::ServerFault`] for a server that is not up, lacks the model, its context or the
    /// routes for weights; [`Error::Servers`] where no client can be made.
    pub fn open(
        config: &RolloutConfig,
        policy: &ServedPolicy,
        start: StartId,
    ) -> Result<Self, Error> {
        Self::open_until(config, policy, start, Arc::default())
    }

    /// As [`PolicyServers::open`]. Once `stop` is true, servers that are not up are not waited for:
    /// here and later.
    ///
    /// # Errors
    /// As [`PolicyServers::open`]; [`Error::Cancelled`].
    pub fn open_until(
        config: &RolloutConfig,
        policy: &ServedPolicy,
        start: StartId,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Servers(error.to_string());
        let servers = &config.servers;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let fleet = fleet_config(servers, "")?;
        let timeout = fleet.timeout.max(LEAST_RELOAD_TIME);
        let outage = fleet.outage;
        let fleet = {
            let _inside = runtime.enter();
            Fleet::new(fleet, None).map_err(|error| failed(&error))?
        };
        let vocab_size = policy.vocab_size.min(policy.tokenizer.vocab_size());
        let server = |idx| PolicyServer {
            endpoint: Endpoint::new(fleet.server(idx).clone(), config.kind, timeout),
            held: HeldVersion::Behind("it was given no weights yet".to_owned()),
            noise: 0.0,
            since: None,
        };
        let mut opened = Self {
            runtime,
            servers: (0..fleet.n_servers()).map(server).collect(),
            sink: DiskSink::new(servers, Arc::clone(&policy.tokenizer), &start)?,
            texts: WitnessTexts::new(vocab_size, policy.max_context),
            publishes: start.publishes,
            params: SamplingParams {
                temperature: config.temperature,
                top_p: config.top_p,
                top_k: config.top_k,
                ..SamplingParams::default()
            },
            max_difference: servers.max_logprob_difference,
            outage,
            newest: None,
            stop,
        };
        opened.look_at_all(&servers.model, policy.max_context)?;
        Ok(opened)
    }

    /// What the servers call the model.
    pub fn model(&self) -> &str {
        self.servers.first().map_or("", |server| server.endpoint.model())
    }

    /// Whether a server holds the newest weights, as far as was seen.
    pub fn is_usable(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|server| server.held == HeldVersion::Newest)
    }

    /// What servers with the newest weights call them; empty before there are any.
    pub fn label(&self) -> &str {
        self.newest.as_ref().map_or("", |newest| &newest.weights.label)
    }

    /// Gives a version of the policy to all servers. The first version of a start is given with a
    /// drill, which sees whether weights arrive at all. A process that does not publish only takes
    /// note of it.
    ///
    /// # Errors
    /// [`Error::ServerFault`] where no server takes it in the time of an outage, or one computes
    /// with other weights; [`Error::Schema`] or [`Error::Engine`] where it cannot be written.
    pub fn publish(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error> {
        if !self.publishes {
            let weights = self.sink.folder_of(version);
            self.set_newest(NewestWeights { weights, version, text_logprobs: Vec::new() });
            return self.check().map(|_| ());
        }
        if self.newest.is_none() {
            return self.drill(policy, version);
        }
        let text_logprobs = self.text_logprobs(policy)?;
        let weights = self.sink.write(policy, version)?;
        self.set_newest(NewestWeights { weights, version, text_logprobs });
        self.give()?;
        self.wait_for_one()?;
        self.sink.delete_old();
        Ok(())
    }

    /// Server by server, whether it holds exactly the newest version. One that came back, or was
    /// restarted, is given it first.
    ///
    /// # Errors
    /// [`Error::ServerFault`] where a server that was given it computes with other weights.
    pub fn check(&mut self) -> Result<Vec<bool>, Error> {
        if let Some(newest) = self.newest.clone() {
            let labels = join_all(self.servers.iter().map(|server| server.endpoint.label()));
            let labels = self.runtime.block_on(labels);
            let sink = &self.sink;
            for (server, label) in self.servers.iter_mut().zip(labels) {
                let label = label.map_err(|error| error.to_string());
                let seen = label.as_deref().map_err(Clone::clone);
                let wanted = &newest.weights.label;
                let was = server.held.clone();
                server.held = match self.publishes {
                    true => was.clone().after_look(seen, wanted, |it| sink.is_own(it)),
                    false => HeldVersion::of_label(seen, wanted),
                };
                // once per outage
                if was == HeldVersion::Newest
                    && let Some(reason) = server.held.reason()
                {
                    let url = server.endpoint.url();
                    tracing::warn!(url, reason, "A policy server lacks the newest weights.");
                }
            }
            if self.publishes {
                self.give()?;
            }
        }
        Ok((0..self.servers.len()).map(|idx| self.is_usable(idx)).collect())
    }

    /// The trainer's log-probabilities of the fixed text.
    fn text_logprobs(&self, policy: &Decoder) -> Result<Vec<f32>, Error> {
        let text = &self.texts.text;
        Ok(forced::logprobs(policy, &text[..1], &text[1..])?)
    }

    fn set_newest(&mut self, newest: NewestWeights) {
        for server in &mut self.servers {
            if server.held == HeldVersion::Newest {
                server.held = HeldVersion::Behind("it was not given the newest weights".to_owned());
            }
        }
        self.newest = Some(newest);
    }

    /// Gives the newest weights to all servers that are behind, at once, and compares the numbers
    /// of those that took them.
    fn give(&mut self) -> Result<(), Error> {
        let given = self.update_all()?;
        let text = &self.texts.text;
        let numbers = join_all(given.iter().map(|&idx| {
            let endpoint = &self.servers[idx].endpoint;
            endpoint.text_logprobs(text)
        }));
        for (idx, seen) in given.iter().copied().zip(self.runtime.block_on(numbers)) {
            match seen {
                Ok(seen) => self.judge(idx, seen)?,
                Err(error) => self.servers[idx].held = held_after(&error),
            }
        }
        Ok(())
    }

    /// Gives the newest weights to all servers that are behind, at once. Returns those that took
    /// them, whose numbers were not compared yet.
    fn update_all(&mut self) -> Result<Vec<usize>, Error> {
        let Some(newest) = self.newest.clone() else { return Ok(Vec::new()) };
        let is_behind = |idx: &usize| matches!(self.servers[*idx].held, HeldVersion::Behind(_));
        let behind: Vec<usize> = (0..self.servers.len()).filter(is_behind).collect();
        let updates = join_all(behind.iter().map(|&idx| {
            let endpoint = &self.servers[idx].endpoint;
            let weights = &newest.weights;
            async move { (endpoint.update(weights).await, endpoint.label().await) }
        }));
        let mut given = Vec::new();
        for (idx, (updated, label)) in behind.into_iter().zip(self.runtime.block_on(updates)) {
            let server = &mut self.servers[idx];
            server.held = match (updated, label) {
                (Err(error), _) => HeldVersion::after_failure(error),
                (Ok(()), Err(error)) => held_after(&error),
                (Ok(()), Ok(seen)) if seen != newest.weights.label => {
                    let wanted = newest.weights.label.clone();
                    let server = server.endpoint.url().to_owned();
                    return Err(ServerFault::OtherLabel { server, seen, wanted }.into());
                }
                (Ok(()), Ok(_)) => {
                    given.push(idx);
                    HeldVersion::Newest
                }
            };
            if let HeldVersion::Tainted(reason) = &server.held {
                let url = server.endpoint.url();
                tracing::error!(url, reason, "A policy server failed at new weights; restart it.");
            }
        }
        Ok(given)
    }

    /// Compares a server's numbers of the fixed text with the trainer's, and its movement with the
    /// policy's.
    fn judge(&mut self, idx: usize, seen: Vec<f32>) -> Result<(), Error> {
        let Some(newest) = &self.newest else { return Ok(()) };
        let text = &self.texts.text;
        let server = &mut self.servers[idx];
        let (url, version) = (server.endpoint.url().to_owned(), newest.version.0);
        let found = difference(&seen, &newest.text_logprobs);
        if found > self.max_difference {
            server.held = HeldVersion::Tainted("its numbers are not the policy's".to_owned());
            let (server, allowed) = (url, self.max_difference);
            return Err(ServerFault::Difference { server, version, seen: found, allowed }.into());
        }
        let now = Seen { version, server: seen, trainer: newest.text_logprobs.clone() };
        let Some(since) = &server.since else {
            server.since = Some(now);
            return Ok(());
        };
        if let Some(share) = share_followed(since, &now, server.noise) {
            if is_lost(share) {
                // changes that are smaller than the folder's number format resolves are no fault
                let written = forced::logprobs(&newest.weights.read()?, &text[..1], &text[1..])?;
                let allowance = Allowance { max: self.max_difference, noise: server.noise };
                if difference(&now.server, &written) > allowance.after_change() {
                    server.held = HeldVersion::Tainted("updates get lost".to_owned());
                    let (server, since) = (url, since.version);
                    let fault = ServerFault::LostUpdates { server, since, version, share };
                    return Err(fault.into());
                }
                tracing::warn!(
                    url,
                    share,
                    "The policy changes by less than the weights of servers resolve, so that they \
                     sample from an older one; rollout.servers.weights_dtype = \"f32\" would \
                     resolve more."
                );
            }
            server.since = Some(now);
        }
        Ok(())
    }

    /// Waits until a server holds the newest weights.
    fn wait_for_one(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            if (0..self.servers.len()).any(|idx| self.is_usable(idx)) {
                return Ok(());
            }
            if began.elapsed() >= self.outage {
                let waited_s = began.elapsed().as_secs_f64();
                let reasons = self.servers.iter().filter_map(|server| server.held.reason());
                let reasons = reasons.collect::<Vec<_>>().join("; ");
                return Err(ServerFault::NoServer { waited_s, reasons }.into());
            }
            self.pause()?;
            self.check()?;
        }
    }

    /// Waits before another look at servers that are gone.
    fn pause(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Error::Cancelled);
        }
        std::thread::sleep(PAUSE.min(self.outage));
        Ok(())
    }

    /// Asks every server for its facts, and waits for those that are not up.
    fn look_at_all(&mut self, model: &str, max_context: usize) -> Result<(), Error> {
        let began = Instant::now();
        for idx in 0..self.servers.len() {
            let mut is_told = false;
            loop {
                let endpoint = &mut self.servers[idx].endpoint;
                let reason = match self.runtime.block_on(look(endpoint, model, max_context)) {
                    Ok(facts) => break facts?,
                    Err(error) if is_no_control(&error) => {
                        let reason = error.to_string();
                        return Err(ServerFault::NoControl { reason }.into());
                    }
                    Err(error) => error.to_string(),
                };
                if began.elapsed() >= self.outage {
                    let waited_s = began.elapsed().as_secs_f64();
                    return Err(ServerFault::NotUp { reason, waited_s }.into());
                }
                if !std::mem::replace(&mut is_told, true) {
                    let outage_s = self.outage.as_secs_f64();
                    tracing::warn!(
                        reason,
                        outage_s,
                        "A policy server is not up; it is waited for."
                    );
                }
                self.pause()?;
            }
        }
        Ok(())
    }
}

impl ServedWeights for PolicyServers {
    fn publish(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error> {
        Self::publish(self, policy, version)
    }

    fn check(&mut self) -> Result<Vec<bool>, Error> {
        Self::check(self)
    }

    fn label(&self) -> String {
        Self::label(self).to_owned()
    }
}

/// What is known of a server whose numbers could not be asked for.
fn held_after(error: &RequestError) -> HeldVersion {
    HeldVersion::Behind(error.to_string())
}

/// Asks a server whether it can serve the policy.
async fn look(
    endpoint: &mut Endpoint,
    model: &str,
    max_context: usize,
) -> Result<Result<(), ServerFault>, RequestError> {
    let facts = match endpoint.look(model).await? {
        Ok(facts) => facts,
        Err(fault) => return Ok(Err(fault)),
    };
    endpoint.label().await?;
    if let Some(seen) = facts.max_context.filter(|seen| *seen < max_context) {
        let (server, wanted) = (endpoint.url().to_owned(), max_context);
        return Ok(Err(ServerFault::ShortContext { server, seen, wanted }));
    }
    Ok(Ok(()))
}
