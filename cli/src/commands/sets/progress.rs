//! Progress over all sets: a bar on a terminal, else now and then a line.
//!
//! It counts groups or pairs, and knows nothing of them.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar};

use super::files::ListedFile;
use super::shard::Shard;
use crate::output;
use crate::time_left::TimeLeft;

/// Least time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// How much of the input is done, and how much there is.
pub(super) struct SetProgress {
    unit: &'static str,
    shard: Shard,
    /// Number of items of this shard, where the files say it.
    n_known: Option<u64>,
    n_bytes: u64,
    n_done: u64,
    n_total: u64,
    bar: Option<ProgressBar>,
    /// Of the lines; made with the first set that is judged.
    left: Option<TimeLeft>,
    last_line: Instant,
}

impl SetProgress {
    pub(super) fn new(files: &[ListedFile], shard: Shard, unit: &'static str) -> Self {
        let n_rows: Option<u64> = files.iter().map(|file| file.n_rows).sum();
        Self {
            unit,
            shard,
            n_known: n_rows.map(|n_rows| shard.n_of(n_rows)),
            n_bytes: files.iter().map(|file| file.n_bytes).sum(),
            n_done: 0,
            n_total: 0,
            bar: None,
            left: None,
            last_line: Instant::now(),
        }
    }

    /// Takes note of a set that was judged by an earlier start.
    pub(super) fn skip(&mut self, n: usize) {
        self.n_done += n as u64;
    }

    /// Takes note of what was read up to the set that is judged next, `n_set` items.
    pub(super) fn begin_set(
        &mut self,
        rows_read: u64,
        bytes_read: u64,
        n_set: usize,
        is_last: bool,
    ) {
        let read = self.n_done + n_set as u64;
        self.n_total = match self.n_known {
            _ if is_last => read,
            Some(n_known) => n_known,
            // rows that are still to come are as long as those before
            None if bytes_read > 0 => {
                let n_rows = rows_read as f64 * self.n_bytes as f64 / bytes_read as f64;
                self.shard.n_of(n_rows as u64).max(read + 1)
            }
            None => read + 1,
        };
        let is_exact = is_last || self.n_known.is_some();
        if std::io::stderr().is_terminal() {
            let unit = match is_exact {
                true => self.unit.to_owned(),
                false => format!("{} (about)", self.unit),
            };
            let (n_done, n_total) = (self.n_done, self.n_total);
            let bar =
                self.bar.get_or_insert_with(|| output::progress_bar_from(n_done, n_total, &unit));
            bar.set_length(n_total);
        }
        let n_done = self.n_done;
        self.left.get_or_insert_with(|| TimeLeft::new(n_done, Instant::now()));
    }

    /// Takes note of an item that is judged.
    pub(super) fn inc(&mut self) {
        self.n_done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
        let now = Instant::now();
        if let Some(left) = &mut self.left {
            left.note(self.n_done, now);
        }
        if self.bar.is_none() && now.duration_since(self.last_line) >= LINE_INTERVAL {
            self.last_line = now;
            output::note(self.line(now));
        }
    }

    fn line(&self, now: Instant) -> String {
        let left = self.left.as_ref().and_then(|left| left.at(self.n_total, now));
        let left = left.map_or(String::new(), |left| format!(", {:#} left", HumanDuration(left)));
        format!("{} of about {} {}{left}", self.n_done, self.n_total, self.unit)
    }
}

impl Drop for SetProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_is_that_of_tables_or_an_estimate_by_bytes() {
        let file = |n_bytes, n_rows| ListedFile { path: "x".into(), name: None, n_bytes, n_rows };
        let total = |files: &[ListedFile], is_last| {
            let shard = "1/2".parse().unwrap();
            let mut progress = SetProgress::new(files, shard, "groups");
            progress.skip(10);
            progress.begin_set(40, 400, 10, is_last);
            progress.n_total
        };
        assert_eq!(total(&[file(900, Some(51)), file(100, Some(50))], false), 51);
        assert_eq!(total(&[file(900, None), file(100, Some(50))], false), 50);
        assert_eq!(total(&[file(900, None)], true), 20);
        assert_eq!(total(&[file(0, None)], false), 21, "a pipe");
    }
}
