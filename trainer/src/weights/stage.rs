//! What each of several ranks keeps of a model in training. It knows no tensors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How several ranks divide a model in training (ZeRO, Rajbhandari et al., arXiv 1910.02054).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ShardStage {
    /// The first of the others whose memory plan fits the device.
    #[default]
    Auto,
    /// Each rank has a part of the optimiser's state.
    Zero1,
    /// The same, and a part of the sums of gradients.
    Zero2,
    /// The same, and a part of the weights.
    Zero3,
}

/// What each rank has a part of, beside the optimiser's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InParts {
    /// The sums of gradients.
    pub(crate) gradients: bool,
    /// The weights that passes compute with.
    pub(crate) weights: bool,
}

impl ShardStage {
    /// The stages in the order in which they need less memory and send more.
    pub const STAGES: [Self; 3] = [Self::Zero1, Self::Zero2, Self::Zero3];

    /// What is in parts among so many ranks. Nothing is for one.
    pub(crate) fn in_parts(self, n_ranks: usize) -> InParts {
        let is_divided = n_ranks > 1;
        InParts {
            gradients: is_divided && self >= Self::Zero2,
            weights: is_divided && self >= Self::Zero3,
        }
    }
}
