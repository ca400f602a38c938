//! The processes of a run, each a rank: how they join, and how they agree.
//!
//! All ranks have the same config, prompts and weights, and know every step as a whole; each
//! samples, judges and computes the gradients of its part. The first one writes the run's folder.
//! What is exchanged is not known here.

use std::sync::Arc;

use joust_dist::{Collectives, JoinOptions, World};
use joust_engine::device::{self, DeviceChoice};
use joust_reward::RatingPool;
use joust_trainer::checkpoint::Retention;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Device;

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
    stop: &StopSwitch,
) -> Result<(Device, Arc<Collectives>), Error> {
    let world = World::from_env()?;
    device::choose_gpu(world.local_rank);
    let device = choice.resolve()?;
    let options = JoinOptions { device, ..JoinOptions::default() };
    let joined = Collectives::join(world, options);
    stop.set_waits_for_ranks(false);
    Ok((device, Arc::new(joined?)))
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
    const PLAIN: &str = "Plain data becomes JSON and comes back. This is a bug.";
    let bytes = serde_json::to_vec(&own).expect(PLAIN);
    drop(own);
    let all = ranks.gather_bytes(bytes)?.map_or(Vec::new(), |parts| {
        let mut all = vec![b'['];
        for (rank, part) in parts.into_iter().enumerate() {
            all.extend((rank > 0).then_some(b','));
            all.extend(part);
        }
        all.push(b']');
        all
    });
    Ok(serde_json::from_slice(&ranks.broadcast_bytes(all)?).expect(PLAIN))
}

/// The first rank's value, on all ranks.
///
/// # Errors
/// [`Error::Ranks`]
pub(crate) fn of_first<T>(ranks: &Collectives, own: T) -> Result<T, Error>
where
    T: Serialize + DeserializeOwned,
{
    let own: Vec<T> = ranks.world().is_first().then_some(own).into_iter().collect();
    let first = exchange(ranks, own)?.into_iter().flatten().next();
    Ok(first.expect("the first rank sends its value. This is a bug."))
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
    fn exchange(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, String> {
        let world = self.0.world();
        if world.size == 1 {
            return Ok(Vec::new());
        }
        let own = String::from_utf8(own).map_err(|error| error.to_string())?;
        let all = exchange(&self.0, own).map_err(|error| error.to_string())?;
        let others = all.into_iter().enumerate().filter(|(rank, _)| *rank != world.rank);
        Ok(others.map(|(_, text)| text.into_bytes()).collect())
    }
}
