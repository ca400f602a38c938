//! The process groups of running programs, so that a process that ends at once can end them first.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Leaders of process groups that were started and not yet waited for.
static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<i32>> {
    LIVE.lock().expect("no thread panics while it holds the set. This is a bug.")
}

/// Takes note of the process group of a child.
pub(super) fn add(leader: i32) {
    live().insert(leader);
}

/// Kills a process group whose leader was not waited for, so that its number is still its own.
pub(super) fn kill(leader: i32) {
    if live().remove(&leader) {
        kill_group(leader);
    }
}

/// Kills the process groups of all programs of parts, for a process that ends at once.
pub fn end_all() {
    let leaders = std::mem::take(&mut *live());
    leaders.into_iter().for_each(kill_group);
}

fn kill_group(leader: i32) {
    // it may have ended by itself
    let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
}
