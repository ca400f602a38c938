//! Output of commands: text for people, JSON for programs. The only file that prints.
//!
//! Knows no command.

use std::io::{ErrorKind, IsTerminal as _, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;

use crate::time_left::TimeLeft;

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

/// Writes to standard error, above the progress bar if one is drawn.
fn above_bar<T>(write: impl FnOnce(&mut dyn Write) -> T) -> T {
    let write = || write(&mut std::io::stderr().lock());
    let bar = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes one line to standard error, beside the result of a command.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = above_bar(|stderr| writeln!(stderr, "{}", text.as_ref()));
}

/// Writes the last line before the program ends at once, and leaves no progress bar behind.
pub(crate) fn last_note(text: impl AsRef<str>) {
    if let Some(bar) = BAR.lock().ok().and_then(|bar| bar.as_ref()?.upgrade()) {
        bar.finish_and_clear();
    }
    note(text);
}

/// Takes the lines of the log, each whole.
pub(crate) struct LogLines {
    /// The rank that each of them begins with, if any.
    pub(crate) rank: Option<usize>,
}

impl Write for LogLines {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        let rank = self.rank.map_or(String::new(), |rank| format!("rank {rank}: "));
        above_bar(|stderr| stderr.write_all(&[rank.as_bytes(), lines].concat()))?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
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
    progress_bar_from(0, n_total, unit)
}

/// A progress bar of work of which the first part was done before.
pub(crate) fn progress_bar_from(n_done: u64, n_total: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(n_total).with_position(n_done);
    // the bar takes what is left of the terminal's width, so that narrow ones break no line
    let template = format!("{{pos}}/{{len}} {unit} {{wide_bar}} {{elapsed}} < {{left}}");
    let style = ProgressStyle::with_template(&template)
        .expect("the template is a constant with known placeholders. This is a bug.");
    let style = style.with_key("left", TimeLeft::new(n_done, Instant::now()));
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

/// Writes `parts` in one line, or in several where standard error is a narrower terminal; none of
/// the parts is broken.
pub(crate) fn note_parts(parts: &[String]) {
    let width = Term::stderr().size_checked().map(|(_, n_columns)| usize::from(n_columns));
    note(filled(parts, width.unwrap_or(usize::MAX)));
}

/// Parts in lines of at most `width` columns, where that is possible. All but the first line begin
/// below the second part.
fn filled(parts: &[String], width: usize) -> String {
    let indent = parts.first().map_or(0, String::len);
    let mut text = String::new();
    let mut n_columns = 0;
    for part in parts {
        if n_columns > indent && n_columns + 1 + part.len() > width {
            text += "\n";
            text += &" ".repeat(indent);
            n_columns = indent;
        }
        if !text.is_empty() {
            text += " ";
            n_columns += 1;
        }
        text += part;
        n_columns += part.len();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_lines_break_between_parts_and_go_on_below_the_second_one() {
        let parts = ["9/10", "loss 0.5", "accuracy 0.25", "9 tokens/s"].map(str::to_owned);
        let whole = "9/10 loss 0.5 accuracy 0.25 9 tokens/s";
        assert_eq!(filled(&parts, usize::MAX), whole);
        assert_eq!(filled(&parts, whole.len()), whole);
        let broken = "9/10 loss 0.5 accuracy 0.25\n     9 tokens/s";
        assert_eq!(filled(&parts, whole.len() - 1), broken);
        let narrow = "9/10 loss 0.5\n     accuracy 0.25\n     9 tokens/s";
        assert_eq!(filled(&parts, 15), narrow);
        assert_eq!(filled(&parts, 1), narrow, "no part is broken");
        assert_eq!(filled(&[], 80), "");
    }
}
