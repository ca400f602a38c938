//! The wish to stop a run after the training of its current step.
//!
//! It knows neither signals nor runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A switch that a run looks at after each step and while it evaluates. All clones are the same
/// switch.
#[derive(Clone, Debug, Default)]
pub struct StopSwitch(Arc<AtomicBool>);

impl StopSwitch {
    /// Asks the run to stop.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// What is true once the run was asked to stop.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.0
    }

    /// Whether the run was asked to stop.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
