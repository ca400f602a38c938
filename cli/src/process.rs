//! Settings of the process before its work starts: OpenMP, malloc, cuBLASLt, logs.
//!
//! These libraries read their environment variables once, before `main`. The program therefore sets
//! them and restarts itself. Knows no command.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;

use joust_dist::World;

use crate::output;

/// Environment variable that marks the restarted program.
const RESTARTED: &str = "JOUST_STARTED";

/// Environment variables with their values.
///
/// OpenMP: idle threads that spin would take cores from working threads. A waiting thread therefore
/// spins only for about 10 µs before it sleeps. That covers the time between two products of a
/// decode step; waking the threads took a third of a step at batch 1.
///
/// malloc: memory that is returned to the system after each step would be page-faulted in the next.
///
/// NCCL: sums that are the same in every repetition.
///
/// cuBLASLt's workspace, in KiB: libtorch's 1 MiB is too small to split products of few rows over
/// the whole GPU.
const SETTINGS: [(&str, &str); 8] = [
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("GOMP_SPINCOUNT", "2000"),
    ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
    ("MALLOC_MMAP_THRESHOLD_", "68719476736"),
    ("MALLOC_TRIM_THRESHOLD_", "137438953472"),
    ("MALLOC_TOP_PAD_", "268435456"),
    ("NCCL_ALGO", "Ring"),
    ("CUBLASLT_WORKSPACE_SIZE", "32768"),
];

/// Restarts the program with [`SETTINGS`] in its environment, unless it was restarted before.
/// Variables that the user has set are kept.
pub(crate) fn restart_with_settings() {
    if std::env::var_os(RESTARTED).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(RESTARTED, "1");
    for (name, value) in SETTINGS {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    if let Some(n_threads) = threads_of_rank() {
        command.env("OMP_NUM_THREADS", n_threads.to_string());
    }
    // exec returns only if it fails: then the program continues without the settings
    let error = command.exec();
    tracing::warn!(%error, "Could not restart with OpenMP's and malloc's settings.");
}

/// Number of threads of a process that shares its host with other ranks of a run; `None` where
/// there are none, or the user has set the number. `torchrun` sets 1, which is no choice of the
/// user's.
fn threads_of_rank() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.trim().parse::<usize>().ok();
    let n_ranks = number("LOCAL_WORLD_SIZE").filter(|n_ranks| *n_ranks > 1)?;
    let is_launchers = std::env::var_os("TORCHELASTIC_RUN_ID").is_some();
    let is_users = match number("OMP_NUM_THREADS") {
        Some(n_threads) => !(is_launchers && n_threads == 1),
        None => std::env::var_os("OMP_NUM_THREADS").is_some(),
    };
    let n_processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    (!is_users).then_some((n_processors / n_ranks).max(1))
}

/// Makes signal handlers run on a thread that does not compute.
pub(crate) fn confine_signal_handlers() {
    if let Err(error) = joust_engine::signals::confine_handlers() {
        tracing::warn!(%error, "A signal may interrupt a computation.");
    }
}

/// Whether this process speaks for the run: the first one of several, or the only one.
pub(crate) fn is_first_rank() -> bool {
    World::from_env().map_or(true, |world| world.is_first())
}

/// What a later rank of a run warns of beside the first one, which has the same models and files:
/// only what may be its own.
const OF_LATER_RANKS: &str = "warn,joust_engine=error,joust_engine::gpu=warn,joust_run=error";

/// Writes logs to standard error; `RUST_LOG` sets the level. Lines of a run's later ranks carry the
/// rank.
pub(crate) fn start_logs() {
    let rank = World::from_env().ok().filter(|it| !it.is_first()).map(|world| world.rank);
    let level = if rank.is_some() { OF_LATER_RANKS } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || output::LogLines { rank })
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
