//! Scored Arrow batches in, new weights out.
//!
//! Group-relative policy optimisation and supervised fine-tuning of decoder models, their optimiser
//! and checkpoints. It does not know where rewards come from, nor what a judge is.

#![forbid(unsafe_code)]

pub mod advantage;
pub mod batch;
pub mod checkpoint;
mod error;
mod forward;
mod grpo;
mod learner;
pub mod loss;
pub mod optim;
mod pack;
mod sft;

pub use error::Error;
pub use grpo::{GrpoConfig, GrpoTrainer, StepInfo};
pub use learner::LearnerConfig;
pub use sft::{SftConfig, SftExample, SftTrainer};

/// Figures of one step by their name in `metrics.jsonl`; docs/metrics.md explains each.
pub type Metrics = std::collections::BTreeMap<String, f64>;
