//! A model in training: f32 master weights, the optimiser and the count of updates.
//!
//! The one loop over micro-batches, for every kind of training. Which loss is minimised is not
//! known here.

pub(crate) mod config;
mod evaluate;
mod share;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use joust_dist::Collectives;
use joust_engine::Decoder;
use joust_engine::model::KeptActivations;
use tch::{Kind, Tensor};

use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::{
    Entropies, ForwardPlan, TokenNeeds, TokenNumbers, TokenPass, backward, token_numbers,
};
use crate::metrics::Metrics;
use crate::objective::{KeptTogether, Objective};
use crate::optim::AdamW;
use crate::pack::{PackLimits, micro_batches};
use crate::sample::TrainingSample;
use crate::seconds::TrainSeconds;
use crate::weights::first::FirstWeights;
use crate::weights::frozen::FrozenModel;
use crate::weights::sections::Sections;
use crate::weights::{WeightBucket, Weights};
use config::LearnerConfig;

/// The model, its optimiser and its schedule.
pub(crate) struct Learner {
    pub(crate) weights: Weights,
    pub(crate) optimizer: AdamW,
    pub(crate) config: LearnerConfig,
    pub(crate) plan: ForwardPlan,
    /// Number of updates of the whole run, for the schedule.
    pub(crate) n_updates_total: u64,
    /// The processes that train together.
    pub(crate) ranks: Arc<Collectives>,
    pub(crate) seconds: TrainSeconds,
}

impl Learner {
    /// Takes a model with f32 weights (f64 in tests).
    ///
    /// # Errors
    /// [`Error::Engine`] where there is no memory for the gradients, and for files that cannot be
    /// used.
    pub(crate) fn new(
        first: impl Into<FirstWeights>,
        config: &LearnerConfig,
        n_updates_total: u64,
        ranks: Arc<Collectives>,
    ) -> Result<Self, Error> {
        let first = first.into();
        let formats = config.formats_of(&first);
        let weights = Weights::new(first, formats.working, config.shard, &ranks)?;
        let model = &weights.model;
        let kept = match config.checkpoint_activations {
            true => KeptActivations::LayerInputs,
            false => KeptActivations::Products,
        };
        let plan = ForwardPlan {
            kept,
            compute: formats.compute,
            chunk_tokens: (config.logits_mib << 20)
                / (size_of::<f32>() * model.config().vocab_size),
        };
        let parameters = weights.buckets.iter().map(WeightBucket::parameters).collect();
        let optimizer = AdamW::new(parameters, &config.optim);
        Ok(Self {
            weights,
            optimizer,
            config: config.clone(),
            plan,
            n_updates_total,
            ranks,
            seconds: TrainSeconds::default(),
        })
    }

    /// The model with the weights that passes compute with.
    pub(crate) fn model(&self) -> &Decoder {
        &self.weights.model
    }

    /// Adds the gradient of an objective over the samples of an update, which are the same on all
    /// ranks, and returns the loss; none, and no gradient, where none can come of the samples. Each
    /// rank computes its share.
    ///
    /// # Errors
    /// [`Error::NotFinite`], with all gradients cleared; [`Error::Ranks`].
    pub(crate) fn pass(
        &mut self,
        samples: &[&TrainingSample],
        objective: &mut dyn Objective,
    ) -> Result<Option<f64>, Error> {
        objective.begin(samples);
        let samples: Vec<&TrainingSample> =
            samples.iter().copied().filter(|sample| objective.has_gradient(sample)).collect();
        if samples.is_empty() {
            return Ok(None);
        }
        let samples = self.share(&samples);
        let mut total = 0.0;
        let micro_batches = self.micro_batches(&samples, objective.kept_together());
        let Weights { model, gradients, .. } = &self.weights;
        let mut sections = self.weights.sections(&self.ranks);
        for pass in 0..sections.n_passes(micro_batches.len())? {
            let started = Instant::now();
            let batch = micro_batches.get(pass).map(|rows| {
                MicroBatch::new(rows.iter().map(|&row| samples[row]).collect(), model.device())
            });
            let needs = objective.needs();
            let pass = TokenPass::forward(model, batch.as_ref(), self.plan, needs, &mut sections)?;
            let mut loss = None;
            if let (Some(batch), Some(pass)) = (&batch, &pass) {
                let of_batch = objective.loss(batch, pass.numbers());
                total += of_batch.double_value(&[]);
                loss = Some(of_batch);
            }
            // all ranks fail together, below
            if !sections.all(total.is_finite())? {
                break;
            }
            self.seconds.forward_s += started.elapsed().as_secs_f64();
            let started = Instant::now();
            backward(pass.zip(loss.as_ref()), gradients, &mut sections)?;
            self.seconds.backward_s += started.elapsed().as_secs_f64();
        }
        sections.finish()?;
        self.ranks.sum_f64(std::slice::from_mut(&mut total))?;
        self.finite(total).map(Some)
    }

    /// One update on all samples, and its metrics: number of tokens; loss, gradient norm and
    /// learning rate where a gradient can come of the samples.
    ///
    /// # Errors
    /// As [`Learner::pass`] and [`Learner::update`].
    pub(crate) fn step(
        &mut self,
        samples: &[TrainingSample],
        objective: &mut dyn Objective,
        place: u64,
    ) -> Result<Metrics, Error> {
        let n_tokens: usize = samples.iter().map(TrainingSample::n_tokens).sum();
        let mut metrics = Metrics::from([("step_tokens".to_owned(), n_tokens as f64)]);
        let samples: Vec<&TrainingSample> = samples.iter().collect();
        if let Some(loss) = self.pass(&samples, objective)? {
            let (lr, grad_norm) = self.update(place)?;
            objective.reduce(&self.ranks)?;
            metrics.insert("loss".to_owned(), loss);
            metrics.insert("grad_norm".to_owned(), grad_norm);
            metrics.insert("learning_rate".to_owned(), lr);
        }
        Ok(metrics)
    }

    /// Log-probabilities of every sample's trained tokens, without gradients.
    ///
    /// # Errors
    /// [`Error::Engine`] where the model refuses.
    pub(crate) fn logprobs(
        &self,
        samples: &[TrainingSample],
        temperature: f64,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let needs = TokenNeeds { temperature, entropies: Entropies::None, is_top: false };
        self.numbers(self.policy(), samples, needs, |numbers| Some(&numbers.logprobs))
    }

    /// As [`Learner::logprobs`], of a reference.
    ///
    /// # Errors
    /// As [`Learner::logprobs`].
    pub(crate) fn reference_logprobs(
        &self,
        reference: &FrozenModel,
        samples: &[TrainingSample],
        temperature: f64,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let needs = TokenNeeds { temperature, entropies: Entropies::None, is_top: false };
        let model = (&reference.model, reference.sections(&self.ranks));
        self.numbers(model, samples, needs, |numbers| Some(&numbers.logprobs))
    }

    /// Entropies of the policy where it predicts every sample's trained tokens, without gradients.
    ///
    /// # Errors
    /// [`Error::Engine`] where the model refuses.
    pub(crate) fn entropies(
        &self,
        samples: &[TrainingSample],
        temperature: f64,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let needs = TokenNeeds { temperature, entropies: Entropies::Numbers, is_top: false };
        self.numbers(self.policy(), samples, needs, |numbers| numbers.entropies.as_ref())
    }

    /// The model in training, for passes without gradients.
    fn policy(&self) -> (&Decoder, Sections<'_>) {
        (self.model(), self.weights.read_sections(&self.ranks))
    }

    /// One of the numbers of every sample's trained tokens.
    fn numbers(
        &self,
        (model, mut sections): (&Decoder, Sections<'_>),
        samples: &[TrainingSample],
        needs: TokenNeeds,
        number: fn(&TokenNumbers) -> Option<&Tensor>,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let trained: Vec<&TrainingSample> =
            samples.iter().filter(|sample| sample.trained.contains(&true)).collect();
        let mut all: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let own = self.share_of(&trained);
        let computed: Vec<&TrainingSample> = own.iter().map(|&row| trained[row]).collect();
        let micro_batches = self.micro_batches(&computed, KeptTogether::Nothing);
        for pass in 0..sections.n_passes(micro_batches.len())? {
            let rows = micro_batches.get(pass);
            let batch = rows.map(|rows| {
                MicroBatch::new(rows.iter().map(|&row| computed[row]).collect(), model.device())
            });
            let numbers = token_numbers(model, batch.as_ref(), self.plan, needs, &mut sections)?;
            let (Some(rows), Some(numbers)) = (rows, numbers) else { continue };
            let numbers = number(&numbers).expect("the numbers are computed. This is a bug.");
            let mut numbers = Vec::<f32>::try_from(numbers.to_kind(Kind::Float))?.into_iter();
            for &row in rows {
                let of_row = numbers.by_ref().take(computed[row].n_trained()).collect();
                all.insert(own[row], of_row);
            }
        }
        let mut all = self.of_all_ranks(&trained, all)?.into_iter();
        let of_sample = |sample: &TrainingSample| match sample.trained.contains(&true) {
            true => all.next().expect("every trained sample is computed. This is a bug."),
            false => Vec::new(),
        };
        Ok(samples.iter().map(of_sample).collect())
    }

    /// Splits samples into micro-batches, as lists of their indices.
    fn micro_batches(
        &self,
        samples: &[&TrainingSample],
        together: KeptTogether,
    ) -> Vec<Vec<usize>> {
        let LearnerConfig { micro_batch_rows, micro_batch_tokens, .. } = self.config;
        let limits = PackLimits {
            max_rows: micro_batch_rows,
            max_tokens: micro_batch_tokens,
            keeps_groups: together == KeptTogether::Groups,
        };
        micro_batches(samples, limits)
    }

    /// The learning rate at a place of the schedule.
    fn lr(&self, place: u64) -> f64 {
        let schedule = &self.config.optim.schedule;
        self.config.optim.lr * schedule.factor(place, self.n_updates_total)
    }

    /// Makes the update at a place of the schedule, counted from 0, and returns learning rate and
    /// gradient norm.
    ///
    /// # Errors
    /// [`Error::NotFinite`] before the update, [`Error::BadWeights`] after it: the weights must
    /// then be neither saved nor published. [`Error::Ranks`].
    pub(crate) fn update(&mut self, place: u64) -> Result<(f64, f64), Error> {
        let started = Instant::now();
        let lr = self.lr(place);
        self.weights.reduce_gradients(&self.ranks)?;
        let mut square = self.optimizer.grad_square();
        self.ranks.sum_f64(std::slice::from_mut(&mut square))?;
        let norm = self.finite(square.sqrt())?;
        self.optimizer.update(lr, norm);
        self.weights.clear_gradients();
        self.weights.share(&self.ranks)?;
        let is_finite = self.ranks.all(self.optimizer.is_finite())?;
        self.seconds.optimizer_s += started.elapsed().as_secs_f64();
        match is_finite {
            true => Ok((lr, norm)),
            false => Err(Error::BadWeights { update: self.optimizer.n_updates() }),
        }
    }

    /// A loss, or the norm of a gradient, if it is a finite number.
    ///
    /// # Errors
    /// [`Error::NotFinite`], with all gradients cleared.
    fn finite(&self, value: f64) -> Result<f64, Error> {
        if value.is_finite() {
            return Ok(value);
        }
        self.weights.clear_gradients();
        Err(Error::NotFinite { loss: value, update: self.optimizer.n_updates() })
    }

    /// Checks that the model can be used: its logits for one token are finite.
    ///
    /// # Errors
    /// [`Error::BadWeights`]
    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let sample = TrainingSample::of_completion(&[0_i64], &[0], 0);
        let batch = MicroBatch::new(vec![&sample], self.model().device());
        let entropies = Entropies::Numbers;
        let needs = TokenNeeds { temperature: 1.0, entropies, is_top: false };
        let (model, mut sections) = self.policy();
        let numbers = token_numbers(model, Some(&batch), self.plan, needs, &mut sections)?;
        // a logit that is not finite makes the entropy NaN
        let entropies = numbers.and_then(|numbers| numbers.entropies);
        let is_usable = entropies.is_some_and(|it| it.isfinite().all().int64_value(&[]) == 1);
        match self.ranks.all(self.optimizer.is_finite() && is_usable)? {
            true => Ok(()),
            false => Err(Error::BadWeights { update: self.optimizer.n_updates() }),
        }
    }
}

#[cfg(test)]
mod tests;
