//! What an update minimises, as data: published losses by name, each a product of five parts.
//!
//! Pure tensor functions of log-probabilities; they do not know the model. A new loss is a variant
//! of one part, or a line in `preset`, with a golden value in `tests`.

mod aggregate;
mod correction;
mod kl;
mod policy;
mod preset;
mod ratio;
mod rows;
mod surrogate;

pub use aggregate::{Aggregate, Normalizer};
pub use correction::{Correction, CorrectionWeights, SamplerNumbers};
pub use kl::{KlEstimator, KlTerm};
pub use policy::{MicroBatchLoss, PolicyLoss, PolicyTerms};
pub use preset::{LossConfig, Preset};
pub use ratio::Ratio;
pub use surrogate::{
    CispoBounds, ClipBounds, DroPenalty, LogBounds, NoBounds, ProbabilityBounds, SapoTemperatures,
    Surrogate, VespoShape,
};

#[cfg(test)]
mod tests;
