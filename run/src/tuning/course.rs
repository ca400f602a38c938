//! What a run learns from, and how: the part in which the kinds of such runs differ.

use std::sync::Arc;

use joust_dist::Collectives;
use joust_engine::Tokenizer;
use joust_schema::seed::Seed;
use joust_trainer::checkpoint::Trainer;
use joust_trainer::{FirstWeights, Metrics, ShardStage};

use crate::error::Error;
use crate::examples::Encoder;

/// A model whose weights are not read yet: what is wrong with examples is told before.
pub(crate) struct FirstModel {
    pub(crate) tokenizer: Tokenizer,
    /// Reads or makes the weights.
    pub(crate) decoder: Box<dyn FnOnce() -> Result<FirstWeights, Error>>,
}

/// What a run learns from, as people wrote it.
pub(crate) trait Course {
    /// The same as the text that a model reads.
    type Lessons: Lessons;

    /// Number of examples after which they repeat; `None` if they never do.
    fn n_examples(&self) -> Option<u64>;

    /// The model of the first step, with f32 master weights.
    fn first_model(&self, seed: Seed) -> Result<FirstModel, Error>;

    /// The tokenizer with the variables that the config gives to its chat template.
    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error>;

    /// Renders all examples with such a tokenizer, and refuses those that cannot be learned.
    fn rendered(self, tokenizer: &Tokenizer) -> Result<Self::Lessons, Error>;
}

/// Examples by number, and a model that learns from them.
pub(crate) trait Lessons {
    /// One example as token ids.
    type Example;
    /// The model in training.
    type Trainer: Trainer;

    /// What an example has to be.
    const WANTED: &'static str;
    /// Number of sequences of an example.
    const SEQUENCES: usize;
    /// Whether the loss needs a reference.
    const HAS_REFERENCE: bool;

    /// Whether examples are rendered by the chat template.
    fn has_chats(&self) -> bool;

    /// Takes the model of the first step, or that of a checkpoint, for a run of `n_steps` updates
    /// on these ranks, which divide the model in this way.
    fn trainer(
        &self,
        model: FirstWeights,
        n_steps: u64,
        divided: (Arc<Collectives>, ShardStage),
    ) -> Result<Self::Trainer, Error>;

    /// Example `idx` of the run.
    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<Self::Example, Error>;

    /// The held-out examples, none where nothing is measured.
    fn held_out(&self, encoder: &Encoder) -> Result<Vec<Self::Example>, Error>;

    /// Makes one update. `place` is its place in the schedule.
    fn learn(
        trainer: &mut Self::Trainer,
        examples: &[Self::Example],
        place: u64,
    ) -> Result<Metrics, Error>;

    /// The metrics of held-out examples; none where no example fits.
    fn evaluate(trainer: &Self::Trainer, examples: &[Self::Example]) -> Result<Metrics, Error>;

    /// Whether an example can be learned.
    fn fits(trainer: &Self::Trainer, example: &Self::Example) -> bool;
}
