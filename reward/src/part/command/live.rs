//! The process groups of running programs, so that a process that ends at once can end them first.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};

use joust_engine::signals;
use rustix::process::{Pid, Signal, kill_process_group};

/// Process groups that were started, and whether more may be.
struct LiveGroups {
    /// Leaders by their numbers, which are still their own: nobody has waited for them yet.
    leaders: BTreeMap<u32, Pid>,
    is_closed: bool,
}

static LIVE: Mutex<LiveGroups> =
    Mutex::new(LiveGroups { leaders: BTreeMap::new(), is_closed: false });

fn live() -> MutexGuard<'static, LiveGroups> {
    LIVE.lock().expect("no thread panics while it holds the groups. This is a bug.")
}

/// Starts a program in a process group of its own.
pub(super) fn start(command: &mut Command) -> io::Result<Child> {
    let mut live = live();
    if live.is_closed {
        return Err(io::Error::other("this process ends"));
    }
    let child = signals::unblocked(|| command.process_group(0).spawn())?;
    live.leaders.insert(child.id(), Pid::from_child(&child));
    Ok(child)
}

/// Kills the process group of a program that was not waited for.
pub(super) fn kill(child: &Child) {
    if let Some(leader) = live().leaders.remove(&child.id()) {
        kill_group(leader);
    }
}

/// Kills the process groups of all programs of parts, and lets none be started, for a process that
/// ends at once.
pub fn end_all() {
    let mut live = live();
    live.is_closed = true;
    std::mem::take(&mut live.leaders).into_values().for_each(kill_group);
}

fn kill_group(leader: Pid) {
    // it may have ended by itself
    let _ = kill_process_group(leader, Signal::KILL);
}
