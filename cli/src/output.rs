//! Output of commands: text for people, JSON for programs. The only file that prints.
//!
//! Knows no command.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Writes one line for people to standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    // a closed pipe (`joust … | head`) is not an error
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// Writes one line to standard error, beside the result of a command.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// Writes values as JSON Lines to `path`, atomically, or to standard output.
pub(crate) fn json_lines<T: Serialize>(path: Option<&Path>, rows: &[T]) -> anyhow::Result<()> {
    match path {
        Some(path) => Ok(joust_schema::jsonl::write(path, rows)?),
        None => {
            let mut out = std::io::stdout().lock();
            for row in rows {
                serde_json::to_writer(&mut out, row).context("writing to standard output")?;
                writeln!(out).context("writing to standard output")?;
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
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit} {{msg}} [{{elapsed}} < {{eta}}]");
    let style = ProgressStyle::with_template(&template)
        .expect("the template is a constant with known placeholders. This is a bug.");
    bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    if std::io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(250));
    } else {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Moves a progress bar to `position`. Without a terminal, prints a line every `every` steps.
pub(crate) fn progress(
    bar: &ProgressBar,
    position: u64,
    n_total: u64,
    every: u64,
    message: String,
) {
    bar.set_position(position);
    let is_due = position.is_multiple_of(every) || position == n_total || position == 1;
    if bar.is_hidden() && is_due {
        note(format!("{position}/{n_total} {message}"));
    }
    bar.set_message(message);
}
