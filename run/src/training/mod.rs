//! A post-training run: opened from a config, run step by step, recorded.
//!
//! Table of contents; [`start()`] opens a run, [`Training::run`] runs it.

mod evaluation;
mod records;
mod start;
mod state;
mod step_loop;

pub use start::start;
pub use state::FinishedRun;
pub use step_loop::Training;
