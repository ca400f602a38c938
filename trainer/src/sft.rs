//! Supervised fine-tuning: cross-entropy of given completions or turns, all else left out of the
//! loss.

use std::sync::Arc;

use joust_dist::Collectives;
use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::learner::Learner;
use crate::learner::config::LearnerConfig;
use crate::length::TuningLength;
use crate::metrics::{Metrics, held_out_metrics};
use crate::objective::likelihood::Likelihood;
use crate::sample::TrainingSample;
use crate::weights::first::FirstWeights;

/// Settings of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Number of updates of the run. Exactly one of `steps` and `epochs` is set; a later file or
    /// override that sets one takes the place of the other.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Number of passes over the examples of a file, in place of `steps`; it may have a fraction.
    /// An update that the last pass does not fill takes the rest from a further one.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
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
        Self {
            steps: None,
            epochs: None,
            batch_size: 32,
            max_length: 2048,
            learner: LearnerConfig::default(),
        }
    }
}

impl SftConfig {
    /// All problems but those of [`Self::length`], each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        problems.extend(self.learner.contradictions());
        problems
    }

    /// Length of the run.
    ///
    /// # Errors
    /// Says that not exactly one of its keys is set.
    pub fn length(&self) -> Result<TuningLength, String> {
        TuningLength::of(self.steps, self.epochs)
    }
}

/// One example as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct SftExample {
    /// Given and learned tokens.
    pub tokens: Vec<u32>,
    /// Token by token, whether it is learned. The first one cannot be: nothing predicts it.
    pub is_learned: Vec<bool>,
}

impl SftExample {
    /// A prompt that is given, and a completion that is learned.
    pub fn of_completion(mut prompt: Vec<u32>, completion: &[u32]) -> Self {
        let is_learned = [vec![false; prompt.len()], vec![true; completion.len()]].concat();
        prompt.extend(completion);
        Self { tokens: prompt, is_learned }
    }

    fn fits(&self, max_length: usize) -> bool {
        let begins_given = self.is_learned.first() == Some(&false);
        begins_given && self.is_learned.contains(&true) && self.tokens.len() <= max_length
    }

    fn sample(&self, group: usize) -> TrainingSample {
        TrainingSample {
            tokens: self.tokens.iter().map(|&token| token.into()).collect(),
            trained: self.is_learned.clone(),
            group,
            ..TrainingSample::default()
        }
    }
}

/// A model in supervised fine-tuning.
pub struct SftTrainer {
    pub(crate) learner: Learner,
    max_length: usize,
}

impl SftTrainer {
    /// Takes a model with f32 master weights, the number of updates of the run, and the processes
    /// that train together, which have the same examples.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(
        model: impl Into<FirstWeights>,
        config: &SftConfig,
        n_steps: u64,
        ranks: Arc<Collectives>,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        let model = model.into();
        let max_length = config.max_length.min(model.config().max_position);
        Ok(Self { learner: Learner::new(model, &config.learner, n_steps, ranks)?, max_length })
    }

    /// Whether an example can be learned: its first token is given, a token is learned, and it has
    /// at most `max_length` tokens.
    pub fn fits(&self, example: &SftExample) -> bool {
        example.fits(self.max_length)
    }

    /// One update: loss = −Σ log p(token) / number of learned tokens in the batch. Without an
    /// example that fits there is no update, and the metrics have no loss. `place` is the update's
    /// place in the schedule: the number of steps before it, with those that made no update.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::BadWeights`].
    pub fn step(&mut self, examples: &[SftExample], place: u64) -> Result<Metrics, Error> {
        let samples = self.samples(examples);
        let n_skipped = examples.len() - samples.len();
        let mut objective = Likelihood::default();
        let mut metrics = self.learner.step(&samples, &mut objective, place)?;
        metrics.insert("skipped_examples".to_owned(), n_skipped as f64);
        if metrics.contains_key("loss") {
            metrics.extend(objective.metrics());
        }
        Ok(metrics)
    }

    /// The loss of held-out examples and their further numbers, as metrics under `eval/`; none
    /// where no example fits.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Engine`].
    pub fn evaluate(&self, examples: &[SftExample]) -> Result<Metrics, Error> {
        let samples = self.samples(examples);
        let mut objective = Likelihood::default();
        let Some(loss) = self.learner.evaluate(&samples, &mut objective)? else {
            return Ok(Metrics::new());
        };
        Ok(held_out_metrics(loss, objective.metrics(), examples.len() - samples.len()))
    }

    /// The samples of the examples that fit.
    fn samples(&self, examples: &[SftExample]) -> Vec<TrainingSample> {
        let fitting = examples.iter().filter(|example| self.fits(example)).enumerate();
        fitting.map(|(group, example)| example.sample(group)).collect()
    }
}

#[cfg(test)]
mod tests;
