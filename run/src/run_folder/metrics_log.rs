//! `metrics.jsonl`: one line per step, written by an observer of the run's events.
//!
//! It knows no metric.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use joust_schema::{Error as FileError, jsonl};
use joust_trainer::Metrics;
use serde_json::{Map, json};

use super::content::{METRICS, read_whole_lines};
use crate::error::Error;
use crate::observer::{Event, Observer};

/// The file of one run.
pub(crate) struct MetricsLog {
    path: PathBuf,
}

impl MetricsLog {
    pub(super) fn of_run(dir: &Path) -> Self {
        Self { path: dir.join(METRICS) }
    }

    /// Deletes the lines of `step` and of later ones: the run writes them again.
    pub(crate) fn forget_from(&self, step: u64) -> Result<(), Error> {
        if self.path.exists() {
            let mut lines = read_whole_lines(&self.path)?;
            lines.retain(|line| line["step"].as_u64().is_some_and(|at| at < step));
            jsonl::write(&self.path, &lines)?;
        }
        Ok(())
    }

    pub(super) fn add(&self, step: u64, metrics: &Metrics) -> Result<(), Error> {
        let mut line = Map::from_iter([("step".to_owned(), json!(step))]);
        line.extend(metrics.iter().map(|(name, value)| (name.clone(), json!(value))));
        let io = |source| FileError::io(&self.path, source);
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(io)?;
        let line = jsonl::to_line(&line).expect("names and numbers serialise. This is a bug.");
        file.write_all(line.as_bytes()).map_err(io)?;
        Ok(())
    }
}

impl Observer for MetricsLog {
    fn observe(&mut self, event: Event<'_>) -> Result<(), Error> {
        match event {
            // after a step, what is measured is among the step's metrics
            Event::Evaluated { step: 0, metrics } => self.add(0, metrics),
            Event::StepFinished { step, metrics, .. } => self.add(step, metrics),
            _ => Ok(()),
        }
    }
}
