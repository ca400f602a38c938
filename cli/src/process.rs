//! Settings of the process before its work starts: OpenMP, malloc, cuBLASLt, logs.
//!
//! These libraries read their environment variables once, before `main`. The program therefore sets
//! them and restarts itself. Knows no command.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;

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
/// cuBLASLt's workspace, in KiB: libtorch's 1 MiB is too small to split products of few rows over
/// the whole GPU.
const SETTINGS: [(&str, &str); 7] = [
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("GOMP_SPINCOUNT", "2000"),
    ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
    ("MALLOC_MMAP_THRESHOLD_", "68719476736"),
    ("MALLOC_TRIM_THRESHOLD_", "137438953472"),
    ("MALLOC_TOP_PAD_", "268435456"),
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
    // exec returns only if it fails: then the program continues without the settings
    let error = command.exec();
    tracing::warn!(%error, "Could not restart with OpenMP's and malloc's settings.");
}

/// Makes signal handlers run on a thread that does not compute.
pub(crate) fn confine_signal_handlers() {
    if let Err(error) = joust_engine::signals::confine_handlers() {
        tracing::warn!(%error, "A signal may interrupt a computation.");
    }
}

/// Writes logs to standard error; `RUST_LOG` sets the level.
pub(crate) fn start_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::LogLines)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
