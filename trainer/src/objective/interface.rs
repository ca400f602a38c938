//! What an update minimises, as the one loop over micro-batches sees it. It knows no model.

use joust_dist::Collectives;
use tch::Tensor;

use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::{TokenNeeds, TokenNumbers};
use crate::sample::TrainingSample;

/// Which samples must be in the same micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptTogether {
    /// None: the loss is a sum over samples.
    Nothing,
    /// Those of a group, such as a pair: the loss compares them.
    Groups,
}

/// A loss of the trained tokens of an update. It keeps the sums that its metrics are made of.
pub trait Objective {
    /// What it needs to know of each trained token.
    fn needs(&self) -> TokenNeeds;

    /// Which samples must be in the same micro-batch.
    fn kept_together(&self) -> KeptTogether {
        KeptTogether::Nothing
    }

    /// Is told of all samples of an update, also those without a gradient, before its first
    /// micro-batch: denominators are counted here.
    fn begin(&mut self, samples: &[&TrainingSample]);

    /// Whether a gradient can come of a sample. One without is not computed.
    fn has_gradient(&self, sample: &TrainingSample) -> bool {
        sample.trained.contains(&true)
    }

    /// Is told that an update has changed the weights.
    fn policy_has_moved(&mut self) {}

    /// Adds the sums that its metrics are made of over all ranks, each of which has computed a part
    /// of the samples.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    fn reduce(&mut self, ranks: &Collectives) -> Result<(), Error>;

    /// A micro-batch's share of the loss of the update: a scalar with a gradient for the
    /// log-probabilities.
    fn loss(&mut self, batch: &MicroBatch<'_>, tokens: &TokenNumbers) -> Tensor;
}
