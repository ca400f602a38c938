//! A post-training run: opened from a config, run step by step, recorded.
//!
//! Table of contents; [`start()`] opens a run, [`Training::run`] runs it.

mod ahead;
mod collector;
mod evaluation;
mod exchange;
mod failures;
mod idle;
mod part_groups;
mod records;
mod refill;
mod round;
mod sampling;
mod scored;
mod start;
pub(crate) mod state;
mod step_clock;
mod step_loop;
mod step_metrics;
mod step_source;
mod tables;
mod told;

pub use scored::ScoredGroup;
pub use start::start;
pub use state::{FinishedRun, RunEnd};
pub use step_loop::Training;
