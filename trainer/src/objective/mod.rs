//! What an update minimises: objectives of samples (`policy`, `pairs`, `likelihood`), and losses as
//! data: those of pairs by name, those of policies as a product of six parts, published ones by
//! name.
//!
//! Functions of log-probabilities; they do not know the model. A new policy loss is a variant of
//! one part, or a line in `preset`, with a golden value in `tests`; another kind of training is an
//! [`Objective`].

mod aggregate;
mod correction;
mod entropy;
mod interface;
mod kl;
pub(crate) mod likelihood;
mod mismatch;
pub(crate) mod pairs;
pub(crate) mod policy;
mod policy_loss;
mod preference;
mod preset;
mod ratio;
mod rows;
mod sums;
mod surrogate;

pub use aggregate::{Aggregate, Normalizer};
pub use correction::{Correction, CorrectionWeights, SamplerNumbers};
pub use entropy::EntropyTerm;
pub use interface::{KeptTogether, Objective};
pub use kl::{KlEstimator, KlPlace, KlTerm};
pub use policy_loss::{MicroBatchLoss, PolicyLoss, PolicyTerms};
pub use preference::{PairTerms, PreferenceLoss};
pub use preset::{LossConfig, Preset};
pub use ratio::Ratio;
pub use surrogate::{
    CispoBounds, ClipBounds, DroPenalty, LogBounds, NoBounds, ProbabilityBounds, SapoTemperatures,
    Surrogate, VespoShape,
};

#[cfg(test)]
mod tests;
