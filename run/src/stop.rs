//! The wish to stop a run after the training of its current step.
//!
//! It knows neither signals nor runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A switch that a run looks at after each step and while it evaluates. All clones are the same
/// switch.
#[derive(Clone, Debug, Default)]
pub struct StopSwitch {
    asked: Arc<AtomicBool>,
    waits_for_ranks: Arc<AtomicBool>,
}

impl StopSwitch {
    /// Asks the run to stop.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// What is true once the run was asked to stop.
    pub(crate) fn flag(&self) -> &Arc<AtomicBool> {
        &self.asked
    }

    /// Whether the run was asked to stop.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Whether the run waits for other processes to come, and looks at nothing meanwhile: there is
    /// nothing to save, and the program may end at once.
    pub fn waits_for_ranks(&self) -> bool {
        self.waits_for_ranks.load(Ordering::Acquire)
    }

    /// Notes whether the run waits for other processes, or is about to.
    pub fn set_waits_for_ranks(&self, waits: bool) {
        self.waits_for_ranks.store(waits, Ordering::Release);
    }
}
