//! The loss of samples that are not learned from. Nothing of the training changes by it: no
//! gradient, no update, no random draw.

use super::Learner;
use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::token_numbers;
use crate::objective::Objective;
use crate::sample::TrainingSample;

impl Learner {
    /// The loss of an objective over samples, as that of one update; its sums are then those of the
    /// samples. None without samples.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a loss that is none, [`Error::Engine`] where the model refuses,
    /// [`Error::Ranks`].
    pub(crate) fn evaluate(
        &self,
        samples: &[TrainingSample],
        objective: &mut dyn Objective,
    ) -> Result<Option<f64>, Error> {
        let samples: Vec<&TrainingSample> = samples.iter().collect();
        if samples.is_empty() {
            return Ok(None);
        }
        objective.begin(&samples);
        let samples = self.share(&samples);
        let _guard = tch::no_grad_guard();
        let mut total = 0.0;
        let micro_batches = self.micro_batches(&samples, objective.kept_together());
        let (model, mut sections) = self.policy();
        for pass in 0..sections.n_passes(micro_batches.len())? {
            let batch = micro_batches.get(pass).map(|rows| {
                MicroBatch::new(rows.iter().map(|&row| samples[row]).collect(), model.device())
            });
            let needs = objective.needs();
            let numbers = token_numbers(model, batch.as_ref(), self.plan, needs, &mut sections)?;
            if let (Some(batch), Some(numbers)) = (&batch, &numbers) {
                total += objective.loss(batch, numbers).double_value(&[]);
            }
        }
        self.ranks.sum_f64(std::slice::from_mut(&mut total))?;
        objective.reduce(&self.ranks)?;
        match total.is_finite() {
            true => Ok(Some(total)),
            false => Err(Error::NotFinite { loss: total, update: self.optimizer.n_updates() }),
        }
    }
}
