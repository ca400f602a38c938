//! What the process itself needs before it starts work: settings of OpenMP, malloc and cuBLASLt, logs.
//!
//! These libraries read their settings once, before `main`; so the program sets them and starts
//! itself again. It knows nothing of commands.

use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;

/// Set in the second start, so that there is never a third.
const MARK: &str = "JOUST_STARTED";

/// Idle OpenMP threads that spin would fight over few cores with those that work; memory that
/// malloc gives back to the system after each step is page-faulted in anew at the next.
///
/// A thread that waits spins for a moment (about 10 µs) before it sleeps: between two products of a
/// decode step that is enough not to be woken anew, which cost a third of the step at batch 1.
///
/// cuBLASLt's workspace, in KiB: libtorch's 1 MiB is too little for products of few rows to be split over
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

/// Starts the program again with its settings in the environment, unless that has been done.
/// What the user has set stays as it is.
pub(crate) fn restart_with_settings() {
    if std::env::var_os(MARK).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut command = std::process::Command::new(program);
    command.args(std::env::args_os().skip(1)).env(MARK, "1");
    for (name, value) in SETTINGS {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    // exec returns only where it fails; the program then goes on without the settings
    let error = command.exec();
    tracing::warn!(%error, "Could not restart with OpenMP's and malloc's settings.");
}

/// Sends logs to the terminal's error stream; `RUST_LOG` chooses what is logged.
pub(crate) fn start_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
