//! Whether the dump can be written: told to probes and to the log, which hears of a full disk once
//! a minute and not once a group.
//!
//! Knows neither the journal nor the sets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::ServerMetrics;

/// Time between two lines of the log about the same part of the dump.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A part of the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DumpPart {
    Journal,
    Sets,
}

impl DumpPart {
    fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Sets => "sets",
        }
    }
}

/// State of a part whose last write failed.
#[derive(Debug)]
struct FailedPart {
    error: String,
    n_failures: u64,
    logged: Instant,
}

/// State of both parts.
#[derive(Clone)]
pub(crate) struct DumpHealth {
    parts: Arc<Mutex<[Option<FailedPart>; 2]>>,
    metrics: ServerMetrics,
}

impl DumpHealth {
    pub(crate) fn new(metrics: &ServerMetrics) -> Self {
        Self { parts: Arc::default(), metrics: metrics.clone() }
    }

    fn change<T>(&self, part: DumpPart, change: impl FnOnce(&mut Option<FailedPart>) -> T) -> T {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts[part as usize])
    }

    /// A write failed, and will be tried again.
    pub(super) fn failed(&self, part: DumpPart, error: &impl ToString) {
        self.metrics.count_dump_error();
        let (error, now) = (error.to_string(), Instant::now());
        let logged = self.change(part, |state| {
            let before = state.as_ref().map_or(0, |state| state.n_failures);
            let due = |state: &FailedPart| now.duration_since(state.logged) >= LOG_INTERVAL;
            let is_due = state.as_ref().is_none_or(due);
            let logged = state.as_ref().filter(|_| !is_due).map_or(now, |state| state.logged);
            *state = Some(FailedPart { error: error.clone(), n_failures: before + 1, logged });
            is_due.then_some(before + 1)
        });
        if let Some(failures) = logged {
            let part = part.name();
            tracing::error!(part, failures, %error, "The dump cannot be written; rewards go on.");
        }
    }

    /// A write succeeded.
    pub(super) fn succeeded(&self, part: DumpPart) {
        if let Some(FailedPart { n_failures: failures, .. }) = self.change(part, Option::take) {
            tracing::info!(part = part.name(), failures, "The dump is written again.");
        }
    }

    /// Results that will never be in the dump, because neither disk nor memory had room for them.
    pub(super) fn lost(&self) {
        self.metrics.count_dump_loss();
    }

    /// What is wrong with the dump.
    pub(crate) fn problem(&self) -> Option<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = parts.iter().flatten().next()?;
        Some(format!("not written: {}", problem.error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_health_tells_the_error_until_the_next_success_of_the_same_part() {
        let health = DumpHealth::new(&ServerMetrics::new());
        assert_eq!(health.problem(), None);
        for _ in 0..3 {
            health.failed(DumpPart::Sets, &"no space");
        }
        let state = |health: &DumpHealth| {
            health.change(DumpPart::Sets, |part| part.as_ref().map(|it| (it.n_failures, it.logged)))
        };
        let (n_failures, logged) = state(&health).unwrap();
        health.failed(DumpPart::Sets, &"no space");
        assert_eq!(n_failures, 3);
        assert_eq!(state(&health), Some((4, logged)), "the log is not written again so soon");
        health.succeeded(DumpPart::Journal);
        assert_eq!(health.problem().unwrap(), "not written: no space");
        health.succeeded(DumpPart::Sets);
        assert_eq!(health.problem(), None);
    }
}
