//! Tests with real processes: each test starts its own binary once per rank, see `ranks`.

mod failures;
mod launcher;
mod nccl;
mod numbers;
mod ranks;
mod refused;

/// Prints that something was not tested, and why.
#[expect(clippy::print_stderr, reason = "a skipped test must be visible in the output")]
fn tests_not_run(reason: &str) {
    eprintln!("NOT RUN: {reason}");
}
