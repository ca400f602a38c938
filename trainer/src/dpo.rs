//! Direct preference optimisation: of two completions of a prompt, the preferred one becomes more
//! probable than under the reference, and the other one less.

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
use crate::objective::PreferenceLoss;
use crate::objective::pairs::{PairLoss, PairObjective, PairSide};
use crate::reference::{Reference, SyncRefModel, sync_problem};
use crate::sample::TrainingSample;
use crate::weights::first::FirstWeights;

/// Settings of preference optimisation, under the names of TRL's `DPOConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// Number of updates of the run. Exactly one of `steps` and `epochs` is set; a later file or
    /// override that sets one takes the place of the other.
    #[schemars(range(min = 1))]
    pub steps: Option<u64>,
    /// Number of passes over the pairs of the file, in place of `steps`; it may have a fraction.
    /// An update that the last pass does not fill takes the rest from a further one.
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0))]
    pub epochs: Option<f64>,
    /// Number of pairs per update.
    #[schemars(range(min = 1, max = 65536))]
    pub batch_size: usize,
    /// Maximum number of tokens of a prompt with a completion. A pair with a longer one is left out
    /// and counted.
    #[schemars(range(min = 1))]
    pub max_length: usize,
    /// The loss of a pair.
    pub loss: PreferenceLoss,
    /// How much the policy is held at the reference: the larger, the nearer it stays.
    #[schemars(range(max = 1e3), extend("exclusiveMinimum" = 0))]
    pub beta: f64,
    /// Share of the pairs whose labels are taken to be wrong (`sigmoid`, `sigmoid_norm`, `robust`,
    /// `exo_pair`).
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub label_smoothing: f64,
    /// Weight of the cross-entropy of the chosen completions beside the loss of the pairs (RPO,
    /// arXiv 2404.19733). 0: none.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub sft_weight: f64,
    /// Refresh of the reference by the model in training (TR-DPO), such as
    /// `{ every = 512, mixup_alpha = 0.6 }`. Without it, the reference stays as it is. It goes
    /// without `learner.lora`.
    pub sync_ref_model: Option<SyncRefModel>,
    /// Training of the model.
    pub learner: LearnerConfig,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            steps: None,
            epochs: None,
            batch_size: 32,
            max_length: 2048,
            loss: PreferenceLoss::Sigmoid,
            beta: 0.1,
            label_smoothing: 0.0,
            sft_weight: 0.0,
            sync_ref_model: None,
            learner: LearnerConfig::default(),
        }
    }
}

impl DpoConfig {
    /// All problems but those of [`Self::length`], each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        problems.extend(label_smoothing_problems(self.loss, self.label_smoothing));
        problems.extend(self.learner.contradictions());
        problems.extend(sync_problem(self.sync_ref_model, self.learner.lora.as_ref()));
        problems
    }

    /// Length of the run.
    ///
    /// # Errors
    /// Says that not exactly one of its keys is set.
    pub fn length(&self) -> Result<TuningLength, String> {
        TuningLength::of(self.steps, self.epochs)
    }

    fn pair_loss(&self) -> PairLoss {
        let Self { loss, beta, label_smoothing, sft_weight, .. } = *self;
        PairLoss { loss, beta, label_smoothing, sft_weight }
    }
}

/// What is wrong with a loss of pairs and its label smoothing.
pub(crate) fn label_smoothing_problems(loss: PreferenceLoss, label_smoothing: f64) -> Vec<String> {
    let mut problems = Vec::new();
    if loss == PreferenceLoss::ExoPair && label_smoothing <= 0.0 {
        let text = "label_smoothing is 0, wanted more with the loss `exo_pair`, which is infinite \
                    for labels that are certain";
        problems.push(text.to_owned());
    }
    if label_smoothing > 0.0 && !loss.has_label_smoothing() {
        let text = "label_smoothing is above 0, wanted 0 with this loss, which has none";
        problems.push(text.to_owned());
    }
    problems
}

/// A prompt with two completions as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoPair {
    /// Tokens that are given; at least one.
    pub prompt: Vec<u32>,
    /// The preferred completion.
    pub chosen: Vec<u32>,
    /// The other one.
    pub rejected: Vec<u32>,
}

impl DpoPair {
    /// Number of tokens of the prompt with the longer completion.
    fn n_tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len().max(self.rejected.len())
    }

    fn fits(&self, max_length: usize) -> bool {
        let is_empty = self.prompt.is_empty() || self.chosen.is_empty() || self.rejected.is_empty();
        !is_empty && self.chosen != self.rejected && self.n_tokens() <= max_length
    }

    /// Both completions with the prompt, as a group of their own.
    fn samples(&self, group: usize) -> [TrainingSample; 2] {
        let sample = |side: PairSide, completion: &[u32]| TrainingSample {
            advantage: side.sign(),
            ..TrainingSample::of_completion(&self.prompt, completion, group)
        };
        [sample(PairSide::Chosen, &self.chosen), sample(PairSide::Rejected, &self.rejected)]
    }
}

/// A model in preference optimisation.
pub struct DpoTrainer {
    pub(crate) learner: Learner,
    pub(crate) reference: Reference,
    config: DpoConfig,
    max_length: usize,
}

impl DpoTrainer {
    /// Takes a model with f32 master weights, the reference, the number of updates of the run, and
    /// the processes that train together, which have the same pairs.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(
        model: impl Into<FirstWeights>,
        reference: impl Into<FirstWeights>,
        config: &DpoConfig,
        n_steps: u64,
        ranks: Arc<Collectives>,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        let (model, reference) = (model.into(), reference.into());
        let (wanted, seen) = (model.config().vocab_size, reference.config().vocab_size);
        if wanted != seen {
            return Err(Error::Config(format!(
                "the reference has {seen} tokens and the model {wanted}, wanted models of one \
                 tokenizer"
            )));
        }
        let max_length = config.max_length.min(model.config().max_position);
        let max_length = max_length.min(reference.config().max_position);
        let compute = config.learner.compute_kind(&model);
        let learner = Learner::new(model, &config.learner, n_steps, ranks)?;
        let reference = learner.weights.frozen(reference, compute, &learner.ranks)?;
        let reference = Reference::new(reference, config.sync_ref_model);
        Ok(Self { learner, reference, config: config.clone(), max_length })
    }

    /// Whether a pair can be learned: it has a prompt and two completions that differ, and each of
    /// them has with the prompt at most `max_length` tokens.
    pub fn fits(&self, pair: &DpoPair) -> bool {
        pair.fits(self.max_length)
    }

    /// One update: the mean loss of the pairs. A pair that does not fit is left out and counted.
    /// Without a pair that fits there is no update, and the metrics have no loss. `place` is the
    /// update's place in the schedule.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::BadWeights`].
    pub fn step(&mut self, pairs: &[DpoPair], place: u64) -> Result<Metrics, Error> {
        let samples = self.samples(pairs)?;
        let n_skipped = pairs.len() - samples.len() / 2;
        let mut objective = PairObjective::new(self.config.pair_loss());
        let mut metrics = self.learner.step(&samples, &mut objective, place)?;
        let reference = &self.reference;
        reference.refresh(|| self.learner.own_values(&reference.model), place + 1)?;
        metrics.insert("skipped_examples".to_owned(), n_skipped as f64);
        if metrics.contains_key("loss") {
            metrics.extend(objective.metrics());
        }
        Ok(metrics)
    }

    /// The loss of held-out pairs and their further numbers, as metrics under `eval/`; none where
    /// no pair fits.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::Engine`].
    pub fn evaluate(&self, pairs: &[DpoPair]) -> Result<Metrics, Error> {
        let samples = self.samples(pairs)?;
        let mut objective = PairObjective::new(self.config.pair_loss());
        let Some(loss) = self.learner.evaluate(&samples, &mut objective)? else {
            return Ok(Metrics::new());
        };
        Ok(held_out_metrics(loss, objective.metrics(), pairs.len() - samples.len() / 2))
    }

    /// The samples of the pairs that fit, with the log-probabilities of the reference.
    fn samples(&self, pairs: &[DpoPair]) -> Result<Vec<TrainingSample>, Error> {
        let fitting = pairs.iter().filter(|pair| self.fits(pair)).enumerate();
        let mut samples: Vec<TrainingSample> =
            fitting.flat_map(|(group, pair)| pair.samples(group)).collect();
        let reference = self.learner.reference_logprobs(&self.reference.model, &samples, 1.0)?;
        for (sample, logprobs) in samples.iter_mut().zip(reference) {
            sample.reference = Some(logprobs);
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests;
