//! Steps that were recorded, one for each batch size that they are filled up to and kind of step.

use std::collections::{BTreeMap, BTreeSet};

use super::tuning::GRAPH_MAX_ROWS;
use crate::error::Error;
use crate::ffi::cuda::{CudaStream, Graph};

/// Number of rows of a step, and whether some of them share what they begin with.
pub(super) type StepKind = (usize, bool);

/// Recorded steps.
pub(super) struct Graphs {
    stream: CudaStream,
    recorded: BTreeMap<StepKind, Graph>,
    /// Steps that could not be recorded.
    unrecorded: BTreeSet<StepKind>,
}

impl Graphs {
    pub(super) fn new(stream: CudaStream) -> Self {
        Self { stream, recorded: BTreeMap::new(), unrecorded: BTreeSet::new() }
    }

    /// Whether batches of this size are recorded.
    pub(super) fn takes(n_rows: usize) -> bool {
        (1..=GRAPH_MAX_ROWS).contains(&n_rows)
    }

    /// Forgets all: what they were recorded with is there no longer.
    pub(super) fn clear(&mut self) {
        self.recorded.clear();
    }

    /// Computes a step, by the recorded one of its kind where there is one. The first time it is computed as
    /// it is, twice, so that libraries set up what they need, and recorded for the next time. A step that is
    /// computed again finds the same.
    ///
    /// # Errors
    /// What `step` returns.
    pub(super) fn run(
        &mut self,
        kind: StepKind,
        step: impl Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        if let Some(graph) = self.recorded.get(&kind) {
            return graph.launch(&self.stream);
        }
        step()?;
        if self.unrecorded.contains(&kind) {
            return Ok(());
        }
        // a second time by what the first one found out: a product that was refused goes another way
        step()?;
        self.stream.synchronize()?;
        match Graph::capture(&self.stream, &step) {
            Ok(graph) => {
                self.recorded.insert(kind, graph);
            }
            Err(error) => {
                tracing::warn!(n_rows = kind.0, %error, "A step cannot be recorded; it is started part by part.");
                self.unrecorded.insert(kind);
            }
        }
        Ok(())
    }
}
