//! What a run learns from, and how: the part in which the kinds of such runs differ.

use joust_engine::Tokenizer;
use joust_engine::model::Decoder;
use joust_schema::seed::Seed;
use joust_trainer::Metrics;
use joust_trainer::checkpoint::Trainer;

use crate::error::Error;
use crate::examples::Encoder;

/// Examples by number, and a model that learns from them.
pub(crate) trait Course {
    /// One example as token ids.
    type Example;
    /// The model in training.
    type Trainer: Trainer;

    /// What an example has to be.
    const WANTED: &'static str;

    /// The model of the first step, with f32 master weights, and its tokenizer.
    fn first_model(&self, seed: Seed) -> Result<(Decoder, Tokenizer), Error>;

    /// The tokenizer with the variables that the config gives to its chat template.
    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error>;

    /// Refuses examples that cannot be learned, before the run's folder is touched.
    fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error>;

    /// Number of examples after which they repeat; `None` if they never do.
    fn n_examples(&self) -> Option<u64>;

    /// Whether examples are rendered by the chat template.
    fn has_chats(&self) -> bool;

    /// Takes the model of the first step, or that of a checkpoint.
    fn trainer(&self, model: Decoder) -> Result<Self::Trainer, Error>;

    /// Example `idx` of the run.
    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<Self::Example, Error>;

    /// Makes one update. `place` is its place in the schedule.
    fn learn(
        trainer: &mut Self::Trainer,
        examples: &[Self::Example],
        place: u64,
    ) -> Result<Metrics, Error>;
}
