//! The ranks as a caller has them: joined, or alone. The collectives themselves are in `tensors`,
//! `values` and `bytes`.

use tch::Device;

use crate::error::Error;
use crate::join::{JoinOptions, join};
use crate::peers;
use crate::rank_group::{RankGroup, Turn};
use crate::world::World;

/// The collectives of this process with all others.
///
/// It may be shared between threads, but the order of collectives is that of the ranks, so one
/// thread should make them; another one has its own ([`Collectives::join_beside`]).
pub struct Collectives {
    world: World,
    device: Device,
    group: Option<RankGroup>,
}

impl Collectives {
    /// Joins the other ranks of a world. Where there are none, this returns at once.
    ///
    /// # Errors
    /// [`Error::Rendezvous`] where not all ranks come within the time limit, [`Error::NoNccl`] for
    /// a GPU without it, [`Error::Refused`] for other devices.
    pub fn join(world: World, options: JoinOptions) -> Result<Self, Error> {
        let group = match &world.meeting {
            Some(meeting) if world.size > 1 => Some(join(&world, meeting, options)?),
            _ => None,
        };
        let joined = Self { world, device: options.device, group };
        if let Some(group) = &joined.group
            && joined.world.size <= peers::MAX_RANKS
        {
            group.peers.learn(&joined.all_gather_bytes(peers::own_addresses())?);
        }
        Ok(joined)
    }

    /// Joins the ranks of this world once more, by the store that they have met in, which must live
    /// as long: collectives of their own, which a second thread may make.
    ///
    /// # Errors
    /// As [`Collectives::join`].
    pub fn join_beside(&self, options: JoinOptions) -> Result<Self, Error> {
        let mut world = self.world.clone();
        if let Some(meeting) = &mut world.meeting {
            meeting.launcher_serves = true;
        }
        Self::join(world, options)
    }

    /// The collectives of a process without others, with tensors on any device.
    pub const fn single(device: Device) -> Self {
        Self { world: World::single(), device, group: None }
    }

    /// This process's place among all.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The device of tensors in collectives.
    pub(crate) const fn device(&self) -> Device {
        self.device
    }

    /// The right to make one collective; none where there is one rank.
    pub(crate) fn turn(&self) -> Result<Option<Turn<'_>>, Error> {
        self.group.as_ref().map(RankGroup::turn).transpose()
    }
}
