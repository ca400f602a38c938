//! How the ranks find each other: a store that one process serves, in which each rank says that it
//! is there, then the connections between all of them. Knows no collectives.

use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tch::Device;

use crate::error::{Error, duration};
use crate::fault::first_line;
use crate::ffi::{self, ProcessGroup, Store, Words};
use crate::peers::Peers;
use crate::planned_call::{Collective, PlannedCall};
use crate::rank_group::{Lanes, RankGroup};
use crate::world::{Meeting, World};

/// How to join the other ranks.
#[derive(Clone, Copy, Debug)]
pub struct JoinOptions {
    /// Device of the tensors: the CPU, or a GPU, for which libtorch's CUDA library has been loaded.
    pub device: Device,
    /// Time limit of joining, from the call to the connections with all ranks.
    pub join_limit: Duration,
    /// Time limit of a collective: how long ranks wait for one that does not take part. Longer than
    /// the longest time between a fast and a slow rank.
    pub limit: Duration,
}

impl Default for JoinOptions {
    /// CPU tensors; 5 minutes for joining and 30 for a collective, as c10d.
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self { device: Device::Cpu, join_limit: minutes(5), limit: minutes(30) }
    }
}

/// Pauses between two attempts to reach the store: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// The longest time limit of joining: clocks end somewhere.
const MAX_JOIN_LIMIT: Duration = Duration::from_secs(86_400 * 365);

/// What c10d may take beyond the time limit before it is left alone.
const GRACE: Duration = Duration::from_secs(1);

/// What all ranks do first.
const JOINED: PlannedCall = PlannedCall::of_values(Collective::Barrier, 0);

/// What a user sets where Gloo chose the wrong network.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";

/// Joins the other ranks.
///
/// # Errors
/// [`Error::Rendezvous`] where they do not come in time, [`Error::NoNccl`], [`Error::Refused`] for
/// a device that no group is for.
pub(crate) fn join(
    world: &World,
    meeting: &Meeting,
    options: JoinOptions,
) -> Result<RankGroup, Error> {
    check_device(options.device)?;
    ffi::init_logs();
    let join_limit = options.join_limit.min(MAX_JOIN_LIMIT);
    let options = JoinOptions { join_limit, ..options };
    let all_came = Arc::new(AtomicBool::new(false));
    let joining = Joining {
        world: world.clone(),
        meeting: meeting.clone(),
        options,
        deadline: Instant::now() + join_limit,
        all_came: Arc::clone(&all_came),
    };
    // c10d waits without limit for a peer that accepts its connection and then says nothing
    let (done, outcome) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("join".to_owned());
    let spawned = thread.spawn(move || {
        // nobody receives where the time limit has passed
        let _ = done.send(joining.run());
    });
    let failed = |reason: String| Error::Rendezvous { address: meeting.address(), reason };
    spawned.map_err(|error| failed(format!("no thread: {error}")))?;
    outcome.recv_timeout(join_limit + GRACE).unwrap_or_else(|_| {
        let all_came = all_came.load(Ordering::Relaxed);
        let who = if all_came { "a rank that had come" } else { "whoever listens there" };
        let limit = duration(&join_limit);
        Err(failed(format!("{who} did not answer within {limit}{}", advice(world, all_came))))
    })
}

/// What helps where ranks of several hosts came but do not reach each other.
fn advice(world: &World, all_came: bool) -> String {
    if !all_came || world.local_size == world.size {
        return String::new();
    }
    format!("; set {INTERFACE} to the network interface between the hosts")
}

fn check_device(device: Device) -> Result<(), Error> {
    if matches!(device, Device::Cpu | Device::Cuda(_)) {
        return Ok(());
    }
    let (seen, wanted) = (format!("{device:?}"), "the CPU or a CUDA device".to_owned());
    Err(Error::Refused { call: "join", what: "the device", seen, wanted })
}

struct Joining {
    world: World,
    meeting: Meeting,
    options: JoinOptions,
    deadline: Instant,
    /// All ranks have said that they are there.
    all_came: Arc<AtomicBool>,
}

impl Joining {
    fn run(&self) -> Result<RankGroup, Error> {
        let World { rank, size, .. } = self.world;
        let (store, address) = self.store().map_err(|words| self.failed(&words))?;
        let ours = self.meet(&store)?;
        self.all_came.store(true, Ordering::Relaxed);
        let lane = |name: &str| ours.prefixed(name).map_err(|words| self.failed(&words));
        let small = self.gloo(&lane("small")?, address)?;
        let tensors = match self.options.device {
            Device::Cuda(_) => {
                ProcessGroup::nccl(&lane("tensors")?, rank, size, self.options.limit)
                    .map_err(|words| Error::NoNccl { reason: first_line(&words) })?
            }
            _ => self.gloo(&lane("tensors")?, address)?,
        };
        let lanes = Lanes { tensors, small, _store: store };
        let peers = Peers::new(ours);
        let mut group = RankGroup::new((rank, size), self.options.join_limit, lanes, peers);
        // the store may go as soon as one rank has joined: not before all have
        let all_joined = group.turn().and_then(|turn| turn.announce(&JOINED, &[]).map(|_| ()));
        all_joined.map_err(|error| self.failed(&error.to_string()))?;
        group.set_limit(self.options.limit).map_err(|words| self.failed(&words))?;
        ffi::log_errors();
        Ok(group)
    }

    /// Connects with all ranks.
    fn gloo(&self, store: &Store, address: Option<IpAddr>) -> Result<ProcessGroup, Error> {
        let World { rank, size, .. } = self.world;
        // a user's choice comes first, and is libtorch's to read
        let address = address.filter(|_| std::env::var_os(INTERFACE).is_none());
        let connected = ProcessGroup::gloo(store, rank, size, address, self.remaining());
        let advice = advice(&self.world, true);
        connected.map_err(|words| self.failed(&format!("{}{advice}", first_line(&words))))
    }

    /// The store, served or found, and this host's address as seen from there: the network between
    /// the hosts. A host's name often stands for loopback.
    fn store(&self) -> Result<(Store, Option<IpAddr>), Words> {
        let Meeting { host, port, launcher_serves, .. } = &self.meeting;
        if self.world.is_first() && !launcher_serves {
            let store = Store::serve(*port, self.remaining())?;
            // the address need not lead back here: then Gloo chooses
            return Ok((store, self.try_to_connect(PAUSES[1]).ok()));
        }
        // c10d's limit is that of one attempt, and it makes several
        let address = self.reach()?;
        Ok((Store::connect(host, *port, self.remaining())?, Some(address)))
    }

    /// Waits until something listens at the address, and returns this host's own.
    fn reach(&self) -> Result<IpAddr, Words> {
        let mut pause = PAUSES[0];
        loop {
            let reason = match self.try_to_connect(self.remaining()) {
                Ok(address) => return Ok(address),
                Err(reason) => reason,
            };
            let remaining = self.deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                let limit = duration(&self.options.join_limit);
                return Err(format!("nothing answered within {limit}: {reason}"));
            }
            std::thread::sleep(pause.min(remaining));
            pause = PAUSES[1].min(pause * 2);
        }
    }

    fn try_to_connect(&self, limit: Duration) -> Result<IpAddr, Words> {
        let Meeting { host, port, .. } = &self.meeting;
        let addresses = (&host[..], *port).to_socket_addrs().map_err(|error| error.to_string())?;
        let mut last = "the host has no address".to_owned();
        for address in addresses {
            let stream = TcpStream::connect_timeout(&address, limit);
            match stream.and_then(|stream| stream.local_addr()) {
                Ok(ours) => return Ok(ours.ip()),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    /// Says that this rank is there, and waits for the others. Returns the part of the store that
    /// belongs to this meeting: a launcher's store also has the keys of earlier ones, of processes
    /// that it started before or of commands that ran before in the same place.
    fn meet(&self, store: &Store) -> Result<Store, Error> {
        let World { rank, size, .. } = self.world;
        let restart = format!("joust/{}", self.meeting.n_restarts);
        let ours = || -> Result<Store, Words> {
            let nth = store.add(&format!("{restart}/joins/{rank}"), 1)?;
            let ours = store.prefixed(&format!("{restart}/{nth}"))?;
            ours.set(&format!("rank/{rank}"))?;
            Ok(ours)
        };
        let ours = ours().map_err(|words| self.failed(&words))?;
        for rank in 0..size {
            let key = format!("rank/{rank}");
            if let Err(words) = ours.wait(&key, self.remaining()) {
                return Err(self.missing(&ours, rank, &words));
            }
        }
        Ok(ours)
    }

    /// The error of ranks that are not there: at least one, for which this rank has waited.
    fn missing(&self, ours: &Store, waited_for: usize, words: &str) -> Error {
        let size = self.world.size;
        if Instant::now() < self.deadline {
            // the rank that serves it may have waited for long enough
            let words = first_line(words);
            let reason = format!("rank {waited_for} of {size} had not come when the store failed");
            return self.failed(&format!("{reason}: {words}"));
        }
        // the store may be gone by now, with the rank that served it
        let is_missing = |rank: &usize| matches!(ours.has(&format!("rank/{rank}")), Ok(false));
        let mut ranks: Vec<usize> = (0..size).filter(is_missing).collect();
        if ranks.is_empty() {
            ranks.push(waited_for);
        }
        let word = if ranks.len() == 1 { "rank" } else { "ranks" };
        let ranks: Vec<String> = ranks.iter().map(ToString::to_string).collect();
        let (ranks, limit) = (ranks.join(", "), duration(&self.options.join_limit));
        self.failed(&format!("{word} {ranks} of {size} did not come within {limit}"))
    }

    fn failed(&self, words: &str) -> Error {
        Error::Rendezvous { address: self.meeting.address(), reason: first_line(words) }
    }

    fn remaining(&self) -> Duration {
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        remaining.max(Duration::from_millis(1))
    }
}
