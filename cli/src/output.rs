//! Output of commands: text for people, JSON for programs. The only file that prints.
//!
//! Knows no command.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;

/// Writes one line for people to standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    match writeln!(std::io::stdout().lock(), "{}", text.as_ref()) {
        // a closed pipe (`joust … | head`) is not an error
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            LOST.get_or_init(|| error.to_string());
        }
        _ => {}
    }
}

/// Why a line for people was lost; the first reason.
static LOST: OnceLock<String> = OnceLock::new();

/// Fails if a line was lost, on a full disk for example.
pub(crate) fn check() -> anyhow::Result<()> {
    match LOST.get() {
        Some(reason) => anyhow::bail!("writing to standard output: {reason}"),
        None => Ok(()),
    }
}

/// The progress bar that is drawn now. Lines are written above it.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Writes one line to standard error, beside the result of a command.
pub(crate) fn note(text: impl AsRef<str>) {
    let write = || {
        let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
    };
    let bar = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes values as JSON Lines to `path`, atomically, or to standard output.
pub(crate) fn json_lines<T: Serialize>(path: Option<&Path>, rows: &[T]) -> anyhow::Result<()> {
    match path {
        Some(path) => Ok(joust_schema::jsonl::write(path, rows)?),
        None => {
            let mut out = std::io::stdout().lock();
            for row in rows {
                let row = serde_json::to_string(row)?;
                match writeln!(out, "{row}") {
                    // a closed pipe (`joust … | head`) is not an error
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                    written => written.context("writing to standard output")?,
                }
            }
            Ok(())
        }
    }
}

/// Writes one JSON value to standard output.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A progress bar on standard error; nothing is drawn if that is not a terminal.
pub(crate) fn progress_bar(n_total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(n_total);
    // the bar takes what is left of the terminal's width, so that narrow ones break no line
    let template = format!("{{pos}}/{{len}} {unit} {{wide_bar}} {{elapsed}} < {{eta}}");
    let style = ProgressStyle::with_template(&template)
        .expect("the template is a constant with known placeholders. This is a bug.");
    bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    if std::io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
        if let Ok(mut drawn) = BAR.lock() {
            *drawn = Some(bar.downgrade());
        }
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Moves a progress bar to `position`, and writes a line every `every` steps.
pub(crate) fn progress(bar: &ProgressBar, position: u64, n_total: u64, every: u64, message: &str) {
    bar.set_position(position);
    let is_due = position.is_multiple_of(every) || position == n_total || position == 1;
    if is_due {
        note(format!("{position}/{n_total} {message}"));
    }
}
