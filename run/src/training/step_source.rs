//! Where the loop has the groups of its steps from.
//!
//! It does not know how groups are made.

use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;

use super::collector::{Collected, Collector, Measured};
use crate::error::Error;
use crate::observer::Observer;

/// Collects the groups of the steps of a run, in their order, and takes each new policy.
pub(super) trait StepSource {
    /// The groups of a step, which follows the one before.
    ///
    /// # Errors
    /// As [`Collector::collect`].
    fn next(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Collected, Error>;

    /// Returns once the trainer may change the weights that were published last.
    ///
    /// # Errors
    /// [`Error::Rollout`]
    fn before_update(&mut self, observer: &mut dyn Observer) -> Result<(), Error>;

    /// Takes the policy after an update.
    ///
    /// # Errors
    /// As [`Collector::publish`].
    fn publish(&mut self, policy: Decoder, version: PolicyVersion) -> Result<(), Error>;

    /// Measures the policy that was published last.
    ///
    /// # Errors
    /// As [`Collector::evaluate`].
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Measured, Error>;
}

/// Collects the groups of a step when the step begins: they are of the newest policy.
impl StepSource for Collector {
    fn next(&mut self, step: u64, observer: &mut dyn Observer) -> Result<Collected, Error> {
        self.collect(step, observer)
    }

    fn before_update(&mut self, _observer: &mut dyn Observer) -> Result<(), Error> {
        self.release()
    }

    fn publish(&mut self, policy: Decoder, version: PolicyVersion) -> Result<(), Error> {
        Collector::publish(self, &policy, version)
    }

    fn evaluate(&mut self, _observer: &mut dyn Observer) -> Result<Measured, Error> {
        Collector::evaluate(self)
    }
}
