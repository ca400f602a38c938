//! This process's place among all: its rank, their number, where they meet. Read from the variables
//! that `torchrun` sets. Knows no sockets.

use crate::error::Error;

/// The variables that a launcher sets: all of them, or none.
const NAMES: [&str; 6] =
    ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"];

/// A process's place among the processes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of this process among those of its host, from 0: the index of its GPU.
    pub local_rank: usize,
    /// Number of processes on this host.
    pub local_size: usize,
    pub(crate) meeting: Option<Meeting>,
}

/// Where the processes of a run meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meeting {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The launcher serves the store; otherwise rank 0 does.
    pub(crate) launcher_serves: bool,
    /// How many times the launcher has started all ranks again.
    pub(crate) n_restarts: u32,
}

impl Meeting {
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl World {
    /// A run of one process.
    pub const fn single() -> Self {
        Self { rank: 0, size: 1, local_rank: 0, local_size: 1, meeting: None }
    }

    /// Reads `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR` and
    /// `MASTER_PORT`, and torchrun's own `TORCHELASTIC_USE_AGENT_STORE` and
    /// `TORCHELASTIC_RESTART_COUNT`. One process where none of the six is set; an empty variable
    /// counts as not set.
    ///
    /// # Errors
    /// [`Error::Variable`] where some are missing, or a value makes no sense.
    pub fn from_env() -> Result<Self, Error> {
        Self::read(|name| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned()))
    }

    /// The rank that writes what a run writes once.
    pub const fn is_first(&self) -> bool {
        self.rank == 0
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let variable = |name: &str| variable(name).filter(|text| !text.trim().is_empty());
        let Some(first_set) = NAMES.into_iter().find(|name| variable(name).is_some()) else {
            return Ok(Self::single());
        };
        let text = |name: &'static str, wanted: &str| {
            let missing = || {
                let wanted =
                    format!("{wanted}, because {first_set} is set (for one process unset all)");
                Error::Variable { name, value: None, wanted }
            };
            variable(name).ok_or_else(missing)
        };
        let number = |name: &'static str, range: std::ops::Range<usize>, wanted: &str| {
            let value = text(name, wanted)?;
            let number = value.trim().parse().ok().filter(|n| range.contains(n));
            let wanted = wanted.to_owned();
            number.ok_or(Error::Variable { name, value: Some(value), wanted })
        };
        const MAX: usize = i32::MAX as usize;
        let size = number("WORLD_SIZE", 1..MAX, "the number of processes, from 1")?;
        let below = |n: usize, of: &str| format!("a number from 0 to {} ({of} is {n})", n - 1);
        let rank = number("RANK", 0..size, &below(size, "WORLD_SIZE"))?;
        let wanted = format!("the number of processes on this host, from 1 to {size}");
        let local_size = number("LOCAL_WORLD_SIZE", 1..size + 1, &wanted)?;
        let local_rank =
            number("LOCAL_RANK", 0..local_size, &below(local_size, "LOCAL_WORLD_SIZE"))?;
        let host = text("MASTER_ADDR", "the host of rank 0")?.trim().to_owned();
        let port = number("MASTER_PORT", 1..1 << 16, "a port, from 1 to 65535")?;
        let meeting = Meeting {
            host,
            port: u16::try_from(port).expect("bounded above. This is a bug."),
            launcher_serves: launcher_serves(variable("TORCHELASTIC_USE_AGENT_STORE"))?,
            n_restarts: n_restarts(variable("TORCHELASTIC_RESTART_COUNT"))?,
        };
        Ok(Self { rank, size, local_rank, local_size, meeting: Some(meeting) })
    }
}

fn launcher_serves(value: Option<String>) -> Result<bool, Error> {
    match value.as_deref() {
        Some("True") => Ok(true),
        Some("False") | None => Ok(false),
        Some(_) => {
            let wanted = "True or False".to_owned();
            Err(Error::Variable { name: "TORCHELASTIC_USE_AGENT_STORE", value, wanted })
        }
    }
}

fn n_restarts(value: Option<String>) -> Result<u32, Error> {
    let Some(value) = value else { return Ok(0) };
    let wanted = "the number of restarts, from 0".to_owned();
    let name = "TORCHELASTIC_RESTART_COUNT";
    value.trim().parse().map_err(|_| Error::Variable { name, value: Some(value), wanted })
}

#[cfg(test)]
mod tests;
