//! The processes of a run, each a rank: how they join, and how they agree.
//!
//! All ranks have the same config, prompts and weights, and know every step as a whole; each
//! samples, judges and computes the gradients of its part. The first one writes the run's folder;
//! checkpoints are written by all. A failure of one becomes the end of all (`tell`). What is
//! exchanged is not known here.

use std::sync::Arc;
use std::time::Duration;

use joust_dist::{Collectives, JoinOptions, World};
use joust_engine::device::{self, DeviceChoice};
use joust_reward::{PoolError, RatingPool};
use joust_trainer::checkpoint::Retention;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Device;

use crate::config::RanksSection;
use crate::error::Error;
use crate::stop::StopSwitch;

/// Joins the other processes that a launcher such as `torchrun` has started; without one, the run
/// has this process alone. Each process of a host takes the GPU of its place among them.
///
/// # Errors
/// [`Error::Ranks`] where the launcher's variables make no sense, or not all processes come;
/// [`Error::Engine`] where there is no such device.
pub(crate) fn join(
    choice: DeviceChoice,
    limits: &RanksSection,
    stop: &StopSwitch,
) -> Result<(Device, Arc<Collectives>), Error> {
    let world = World::from_env()?;
    device::choose_gpu(world.local_rank);
    let device = choice.resolve()?;
    let joined = Collectives::join(world, join_options(device, limits));
    stop.set_waits_for_ranks(false);
    Ok((device, Arc::new(joined?)))
}

/// Joins the same processes once more, for collectives of a thread of its own.
///
/// # Errors
/// [`Error::Ranks`] where not all come.
pub(crate) fn join_beside(
    ranks: &Collectives,
    limits: &RanksSection,
) -> Result<Arc<Collectives>, Error> {
    Ok(Arc::new(ranks.join_beside(join_options(Device::Cpu, limits))?))
}

fn join_options(device: Device, limits: &RanksSection) -> JoinOptions {
    let [join_limit, limit] =
        [limits.join_timeout_s, limits.timeout_s].map(Duration::from_secs_f64);
    JoinOptions { device, join_limit, limit }
}

/// Tells the other ranks of this one's failure, at their next collective, so that all end for one
/// reason; they may make collectives afterwards. What they know of already is not told again.
pub(crate) fn tell(ranks: &Collectives, error: Error) -> Error {
    let world = ranks.world();
    if world.size == 1 || error.is_known_to_ranks() {
        return error;
    }
    let reason = error.to_string();
    let Ok(failed) = ranks.fail(&reason) else {
        // they are gone, which is no news
        return Error::OfRank { rank: world.rank, source: Box::new(error) };
    };
    let of_own = failed.iter().find(|(rank, _)| *rank == world.rank);
    let is_common = failed.len() == world.size
        && failed.iter().all(|(_, reason)| Some(reason) == of_own.map(|(_, reason)| reason));
    match is_common {
        true => Error::OfAllRanks(Box::new(error)),
        false => Error::OfRank { rank: world.rank, source: Box::new(error) },
    }
}

/// The values of all ranks, in their order.
///
/// # Errors
/// [`Error::Ranks`]
pub(crate) fn exchange<T>(ranks: &Collectives, own: T) -> Result<Vec<T>, Error>
where
    T: Serialize + DeserializeOwned,
{
    if ranks.world().size == 1 {
        return Ok(vec![own]);
    }
    let bytes = to_bytes(&own);
    drop(own);
    let all = ranks.all_gather_bytes(bytes)?;
    Ok(all.iter().map(|bytes| of_bytes(bytes)).collect())
}

/// The values of all ranks, on the first one; none on the others.
///
/// # Errors
/// [`Error::Ranks`]
pub(crate) fn collect<T>(ranks: &Collectives, own: &T) -> Result<Option<Vec<T>>, Error>
where
    T: Serialize + DeserializeOwned,
{
    let all = ranks.gather_bytes(to_bytes(own))?;
    Ok(all.map(|all| all.iter().map(|bytes| of_bytes(bytes)).collect()))
}

/// The first rank's value, on all ranks.
///
/// # Errors
/// [`Error::Ranks`]
pub(crate) fn of_first<T>(ranks: &Collectives, own: T) -> Result<T, Error>
where
    T: Serialize + DeserializeOwned,
{
    if ranks.world().size == 1 {
        return Ok(own);
    }
    let bytes = if ranks.world().is_first() { to_bytes(&own) } else { Vec::new() };
    Ok(of_bytes(&ranks.broadcast_bytes(bytes)?))
}

const PLAIN: &str = "Plain data becomes JSON and comes back. This is a bug.";

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect(PLAIN)
}

fn of_bytes<T: DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).expect(PLAIN)
}

/// The checkpoint that is due, as the first rank's clock has it.
///
/// # Errors
/// [`Error::Ranks`]
pub(crate) fn due(ranks: &Collectives, due: Option<Retention>) -> Result<Option<Retention>, Error> {
    let due = due.map(|Retention { keep_last, is_interim }| (keep_last, is_interim));
    let due = of_first(ranks, due)?;
    Ok(due.map(|(keep_last, is_interim)| Retention { keep_last, is_interim }))
}

/// The ranks as those who judge a step together.
pub(crate) struct JudgingRanks(pub(crate) Arc<Collectives>);

impl RatingPool for JudgingRanks {
    fn exchange(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, PoolError> {
        let mut all = self.0.all_gather_bytes(own)?;
        all.remove(self.0.world().rank);
        Ok(all)
    }
}
