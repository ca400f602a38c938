//! CUDA graphs of decoding steps, one per padded batch size and kind of step.

use std::collections::{BTreeMap, BTreeSet};

use super::tuning::GRAPH_MAX_ROWS;
use crate::error::Error;
use crate::ffi::cuda::graph::CudaGraph;
use crate::ffi::cuda::stream::CudaStream;

/// Number of rows of a step, and whether some of them share a prefix.
pub(super) type StepKind = (usize, bool);

/// Graphs by kind of step.
pub(super) struct Graphs {
    stream: CudaStream,
    recorded: BTreeMap<StepKind, CudaGraph>,
    /// Kinds of step that could not be recorded.
    unrecorded: BTreeSet<StepKind>,
}

impl Graphs {
    pub(super) fn new(stream: CudaStream) -> Self {
        Self { stream, recorded: BTreeMap::new(), unrecorded: BTreeSet::new() }
    }

    /// Whether steps of `n_rows` rows are recorded.
    pub(super) fn takes(n_rows: usize) -> bool {
        (1..=GRAPH_MAX_ROWS).contains(&n_rows)
    }

    /// Drops all graphs, because the memory that they use was freed.
    pub(super) fn clear(&mut self) {
        self.recorded.clear();
    }

    /// Computes a step, by its kind's graph where one exists. Otherwise the step runs directly,
    /// twice, so that libraries allocate what they need, and is then recorded for the next time. A
    /// step that runs twice writes the same values.
    ///
    /// # Errors
    /// The errors of `step`.
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
        // the second run takes the path that the first found: a refused product has another one
        step()?;
        self.stream.synchronize()?;
        match CudaGraph::capture(&self.stream, &step) {
            Ok(graph) => {
                self.recorded.insert(kind, graph);
            }
            Err(error) => {
                tracing::warn!(
                    n_rows = kind.0,
                    %error,
                    "A step cannot be recorded; its kernels are launched one by one."
                );
                self.unrecorded.insert(kind);
            }
        }
        Ok(())
    }
}
