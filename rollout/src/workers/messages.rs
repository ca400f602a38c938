//! Commands to worker threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use joust_engine::model::Decoder;

use crate::sampling::group_job::GroupJob;

/// A message to a worker.
pub(super) enum WorkerCommand {
    /// Sample these groups, unless and until the switch is set.
    Generate(Vec<GroupJob>, Option<Arc<AtomicBool>>),
    /// Free the memory that the next weights make anew.
    Release,
    /// Take these weights.
    Publish(Box<Decoder>),
}
