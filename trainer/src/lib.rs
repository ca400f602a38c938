//! Scored Arrow batches in, new weights out.
//!
//! Group-relative policy optimisation, preference optimisation and supervised fine-tuning of
//! decoder models, their optimiser and checkpoints. It does not know where rewards come from, nor
//! what a judge is.

#![forbid(unsafe_code)]

pub mod advantage;
mod batch;
pub mod checkpoint;
mod dpo;
mod error;
mod forward;
#[cfg(test)]
mod golden;
mod grpo;
mod learner;
mod length;
mod memory;
mod metrics;
pub mod objective;
pub mod optim;
mod pack;
mod reference;
mod sample;
mod seconds;
mod sft;
mod sharing;
#[cfg(test)]
mod tiny;
mod weights;

pub use batch::MicroBatch;
pub use dpo::{DpoConfig, DpoPair, DpoTrainer};
pub use error::Error;
pub use forward::{Entropies, TokenNeeds, TokenNumbers};
pub use grpo::GrpoTrainer;
pub use grpo::config::GrpoConfig;
pub use grpo::online_dpo::OnlineDpo;
pub use grpo::step::{ScoredTables, StepInfo, StepOutcome};
pub use learner::config::{LearnerConfig, NumberFormats};
pub use length::TuningLength;
pub use memory::{TrainedModel, TrainingMemory};
pub use metrics::Metrics;
pub use reference::SyncRefModel;
pub use sample::TrainingSample;
pub use seconds::TrainSeconds;
pub use sft::{SftConfig, SftExample, SftTrainer};
pub use weights::first::FirstWeights;
pub use weights::stage::ShardStage;
