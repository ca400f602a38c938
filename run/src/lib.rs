//! Runs: a config in, a run folder out.
//!
//! Owns configs and how their files merge, the run folder, the loops of training and of learning
//! from given texts, records, metrics and evaluation. What happens is told to an [`Observer`].
//! Knows neither the inside of a stage nor a terminal: programs are shells over this library.

#![forbid(unsafe_code)]

mod checkpoints;
pub mod config;
mod counted;
pub mod dpo;
mod error;
mod examples;
mod export;
mod inputs;
pub mod memory;
pub mod metrics;
mod observer;
mod places;
mod ranks;
mod run_folder;
pub mod sft;
mod stop;
pub mod training;
mod tuning;

pub use counted::counted;
pub use error::Error;
pub use observer::{Event, Observer};
pub use run_folder::{ExistingRun, differing_keys};
pub use stop::StopSwitch;
pub use tuning::finished::FinishedTuning;
