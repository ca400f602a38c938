//! Lines that the journal had no room for: kept in memory, in their order and within a limit, until
//! the disk has room again.
//!
//! Pure; knows no files.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::judged::{GroupKey, Judged};

/// A line, and the group that it holds.
pub(super) struct WaitingLine {
    pub(super) text: String,
    pub(super) judged: Option<Arc<Judged>>,
}

/// Lines that wait for the disk.
pub(super) struct Backlog {
    lines: VecDeque<WaitingLine>,
    n_bytes: usize,
    max_bytes: usize,
}

impl Backlog {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { lines: VecDeque::new(), n_bytes: 0, max_bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn n_lines(&self) -> usize {
        self.lines.len()
    }

    /// Whether a group's line waits.
    pub(super) fn contains(&self, key: GroupKey) -> bool {
        let groups = self.lines.iter().filter_map(|line| line.judged.as_ref());
        groups.into_iter().any(|judged| judged.key == key)
    }

    /// Adds a line; false if it is dropped, because there is no memory for it either.
    pub(super) fn push(&mut self, line: WaitingLine) -> bool {
        let n_bytes = n_bytes(&line);
        if self.n_bytes + n_bytes > self.max_bytes {
            return false;
        }
        self.n_bytes += n_bytes;
        self.lines.push_back(line);
        true
    }

    /// The line that waits for the longest time.
    pub(super) fn first(&self) -> Option<&str> {
        self.lines.front().map(|line| &line.text[..])
    }

    /// Removes the line that [`Backlog::first`] returned.
    pub(super) fn pop(&mut self) -> Option<WaitingLine> {
        let line = self.lines.pop_front()?;
        self.n_bytes -= n_bytes(&line);
        Some(line)
    }
}

/// A line takes its text and the group that the text was made from.
fn n_bytes(line: &WaitingLine) -> usize {
    line.text.len() + line.judged.as_ref().map_or(0, |judged| judged.n_bytes()) + 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlog_keeps_lines_in_order_within_its_limit() {
        let line = |text: &str| WaitingLine { text: text.to_owned(), judged: None };
        let mut backlog = Backlog::new(250);
        assert!(backlog.push(line("first")) && backlog.push(line("second")));
        assert!(!backlog.push(line("third")), "no room");
        assert_eq!(backlog.first(), Some("first"));
        assert_eq!(backlog.pop().unwrap().text, "first");
        assert!(backlog.push(line("third")));
        assert_eq!([backlog.pop().unwrap().text, backlog.pop().unwrap().text], ["second", "third"]);
        assert!(backlog.is_empty() && backlog.first().is_none() && backlog.n_bytes == 0);
    }
}
