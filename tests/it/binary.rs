//! Runs the `joust` binary in the project's root, so that paths in configs hold.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The binary under test: the one that cargo built, or the one at `JOUST_BINARY`.
fn binary() -> PathBuf {
    std::env::var_os("JOUST_BINARY").map_or(env!("CARGO_BIN_EXE_joust").into(), PathBuf::from)
}

/// A command that is ready to run.
pub(crate) fn joust<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).current_dir(root()).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Runs a command that must succeed and returns its standard output.
pub(crate) fn succeed<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let output = joust(args).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A command that is ended where it takes minutes.
pub(crate) fn within_minutes(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg("300").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(root()).stdin(Stdio::null());
    limited
}

/// Runs a command that must end with exit code 2 and one line of error, and returns the line.
pub(crate) fn refuse<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    refuse_command(&joust(args))
}

/// As [`refuse`], for a command in an environment of its own.
pub(crate) fn refuse_command(command: &Command) -> String {
    let output = within_minutes(command).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    assert!(text.starts_with("error: "), "{text}");
    text.trim().to_owned()
}

/// What a command said.
pub(crate) fn told(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Text as an argument.
pub(crate) fn arg(path: &Path) -> String {
    path.display().to_string()
}

/// Writes a file into a folder and returns its path as an argument.
pub(crate) fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    arg(&path)
}

/// The lines of a JSON Lines file.
pub(crate) fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Says that a test did not run, and why.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn not_run(reason: &str) {
    eprintln!("NOT RUN: {reason}");
}
