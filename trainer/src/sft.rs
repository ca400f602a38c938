//! Supervised fine-tuning: cross-entropy of given completions, prompts left out of the loss.

use joust_engine::Decoder;
use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::learner::{Learner, LearnerConfig};
use crate::metrics::Metrics;
use crate::objective::likelihood::Likelihood;
use crate::sample::TrainingSample;

/// Settings of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Number of updates of the run.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Number of examples per update.
    #[schemars(range(min = 1, max = 65536))]
    pub batch_size: usize,
    /// Maximum number of tokens of an example, prompt and completion together. A longer example is
    /// left out and counted.
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// Training of the model.
    pub learner: LearnerConfig,
}

impl Default for SftConfig {
    fn default() -> Self {
        Self { steps: 1000, batch_size: 32, max_length: 2048, learner: LearnerConfig::default() }
    }
}

impl SftConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        validate(self, &ConfigKeys::of::<Self>())
    }
}

/// One example as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct SftExample {
    /// Tokens that are given; at least one.
    pub prompt: Vec<u32>,
    /// Tokens that are learned.
    pub completion: Vec<u32>,
}

impl SftExample {
    fn n_tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

/// A model in supervised fine-tuning.
pub struct SftTrainer {
    pub(crate) learner: Learner,
    max_length: usize,
}

impl SftTrainer {
    /// Takes a model with f32 master weights.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(model: Decoder, config: &SftConfig) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        let max_length = config.max_length.min(model.config().max_position);
        Ok(Self { learner: Learner::new(model, &config.learner, config.steps), max_length })
    }

    /// One update: loss = −Σ log p(token) / number of completion tokens in the batch. Without an
    /// example that has a prompt, a completion and at most `max_length` tokens there is no update,
    /// and the metrics have no loss. `place` is the update's place in the schedule: the number of
    /// steps before it, with those that made no update.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::BadWeights`].
    pub fn step(&mut self, examples: &[SftExample], place: u64) -> Result<Metrics, Error> {
        let fits = |example: &&SftExample| {
            !example.prompt.is_empty()
                && !example.completion.is_empty()
                && example.n_tokens() <= self.max_length
        };
        let sample = |(place, example): (usize, &SftExample)| {
            TrainingSample::of_completion(&example.prompt, &example.completion, place)
        };
        let samples: Vec<TrainingSample> =
            examples.iter().filter(fits).enumerate().map(sample).collect();
        let n_skipped = examples.len() - samples.len();
        let mut objective = Likelihood::default();
        let mut metrics = self.learner.step(&samples, &mut objective, place)?;
        metrics.insert("skipped_examples".to_owned(), n_skipped as f64);
        if metrics.contains_key("loss") {
            metrics.extend(objective.metrics());
        }
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests;
