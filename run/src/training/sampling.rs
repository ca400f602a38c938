//! What samples in a run: engines on this machine, or servers; and how ranks agree about servers.
//!
//! It does not know how completions are made.

use std::sync::Arc;

use joust_dist::Collectives;
use joust_engine::folder::ModelFiles;
use joust_engine::{Decoder, Engine, Precision, Tokenizer};
use joust_rollout::{RolloutWorkers, Sampler, SamplerCounts, ServedPolicy, ServerSampler, StartId};
use joust_schema::ids::PolicyVersion;
use joust_trainer::Metrics;
use tch::Device;

use crate::config::train::TrainRun;
use crate::counted::counted;
use crate::error::Error;
use crate::ranks::of_first;
use crate::run_folder::WEIGHTS;
use crate::stop::StopSwitch;

/// Opens what samples. Servers are looked at, and have no weights of the run yet.
///
/// # Errors
/// [`Error::Engine`] for engines that do not fit, [`Error::Rollout`] for servers that cannot be
/// used.
pub(super) fn open(
    config: &TrainRun,
    policy: &Decoder,
    files: &ModelFiles,
    ranks: &Collectives,
    stop: &StopSwitch,
) -> Result<Box<dyn Sampler>, Error> {
    if !config.rollout.kind.is_servers() {
        let engines = engines(config, policy, &files.tokenizer)?;
        return Ok(Box::new(RolloutWorkers::spawn(engines, &config.rollout)?));
    }
    let mut rollout = config.rollout.clone();
    let dir = rollout.servers.weights_dir.unwrap_or_else(|| config.run.dir().join(WEIGHTS));
    let absolute = std::path::absolute(&dir);
    let absolute = absolute.map_err(|source| joust_schema::Error::io(&dir, source))?;
    rollout.servers.weights_dir = Some(absolute);
    let served = ServedPolicy::new(policy.config(), &files.tokenizer, &rollout)?;
    let start = StartId { id: of_first(ranks, StartId::fresh())?, publishes: is_first(ranks) };
    Ok(Box::new(ServerSampler::open(&rollout, served, start, stop.flag())?))
}

fn is_first(ranks: &Collectives) -> bool {
    ranks.world().is_first()
}

/// Has everything that samples take a version of the policy. The first rank gives it to servers;
/// the others go on once these have it.
///
/// # Errors
/// [`Error::Rollout`] where it cannot be taken, [`Error::Ranks`].
pub(super) fn publish(
    sampler: &mut dyn Sampler,
    policy: &Decoder,
    version: PolicyVersion,
    ranks: &Collectives,
) -> Result<(), Error> {
    if sampler.is_repeatable() || ranks.world().size == 1 {
        return Ok(sampler.publish(policy, version)?);
    }
    // of all ranks or of none: the state after a failure is saved by all together
    for first in [true, false] {
        let mut published = Ok(());
        if is_first(ranks) == first {
            published = sampler.publish(policy, version);
        }
        let has_failed = ranks.any(published.is_err())?;
        published?;
        if has_failed {
            let reason = "another process of the run could not give the policy to the servers";
            return Err(joust_rollout::Error::Servers(reason.to_owned()).into());
        }
    }
    Ok(())
}

/// Who samples, for people; none for engines on this machine.
pub(super) fn name(config: &TrainRun) -> Option<String> {
    let (kind, n_servers) = (config.rollout.kind, config.rollout.servers.urls.len());
    kind.is_servers().then(|| counted(n_servers as u64, &format!("{} server", kind.name())))
}

/// Metrics of a step's calls to servers, of all ranks; none where engines sample.
///
/// # Errors
/// [`Error::Ranks`]
pub(super) fn metrics(sampler: &mut dyn Sampler, ranks: &Collectives) -> Result<Metrics, Error> {
    if sampler.is_repeatable() {
        return Ok(Metrics::new());
    }
    let SamplerCounts { n_retries, n_bad_answers, n_stale_groups, n_servers_down, .. } =
        sampler.take_counts();
    let mut sums = [n_retries, n_bad_answers, n_stale_groups].map(|n| n as f64);
    ranks.sum_f64(&mut sums)?;
    let mut down = [n_servers_down as f64];
    ranks.max_f64(&mut down)?;
    let names = ["retries", "bad_answers", "stale_groups", "servers_down"];
    let values = sums.into_iter().chain(down);
    let metric = |(name, value): (&str, f64)| (format!("sampling/{name}"), value);
    Ok(names.into_iter().zip(values).map(metric).collect())
}

/// The number formats of the policy's weights for sampling: those that engines compute in, or, for
/// servers, which round what they are given, those that training computes in.
pub(super) fn precision(config: &TrainRun, device: Device) -> Result<Precision, Error> {
    if config.rollout.kind.is_servers() {
        return Ok(config.trainer.learner.number_formats(device).working.into());
    }
    let settings = &config.rollout.engine;
    Ok(settings.quantization.resolve(device, settings.dtype, false)?)
}

/// One engine per worker. Engines that compute in the policy's number format share its weights; a
/// GPU's kernels know no adapters, so that engines there have weights with the adapters in them.
fn engines(
    config: &TrainRun,
    policy: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<Vec<Engine>, Error> {
    let settings = &config.rollout.engine;
    let precision = precision(config, policy.device())?;
    let tokenizer = Arc::new(tokenizer.clone());
    let engine = |_| {
        // where no worker samples while the trainer changes the weights, one copy serves both
        let knows_adapters = !policy.device().is_cuda() || !policy.has_adapters();
        let is_same = precision == policy.precision() && config.train.ahead == 0;
        let weights = match knows_adapters && is_same {
            true => policy.shared(),
            false => policy.duplicate(policy.device(), precision)?,
        };
        Ok(Engine::new(weights, Arc::clone(&tokenizer), settings)?)
    };
    (0..config.rollout.workers).map(engine).collect()
}
