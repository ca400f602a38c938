//! The objective of GRPO: the policy loss of a step's samples, with sums for its metrics.
//!
//! It does not know how advantages were computed.

use joust_dist::Collectives;
use tch::{Kind, Tensor};

use super::aggregate::Normalizer;
use super::interface::Objective;
use super::mismatch::Mismatch;
use super::policy_loss::{MicroBatchLoss, PolicyLoss, PolicyTerms};
use super::sums::add_ranks;
use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::{Entropies, TokenNeeds, TokenNumbers};
use crate::metrics::Metrics;
use crate::sample::TrainingSample;

/// How the samples of a step were made, and into how many updates they are split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampledStep {
    /// Temperature that completions were sampled with.
    pub(crate) temperature: f64,
    /// Maximum number of tokens per completion.
    pub(crate) max_completion_length: usize,
    /// Number of trained tokens of the step, divided by the number of updates per pass.
    pub(crate) n_tokens_per_update: f64,
}

/// The policy loss over the updates of one step.
pub(crate) struct PolicyObjective {
    loss: PolicyLoss,
    step: SampledStep,
    normalizer: Normalizer,
    sums: PolicySums,
    /// Between the sampler and the policy before the first update.
    mismatch: Mismatch,
    /// True until the first update is over: the policy is the one that sampled.
    is_unmoved: bool,
}

/// Sums over the trained tokens of a step.
#[derive(Default)]
struct PolicySums {
    n_tokens: f64,
    entropy: f64,
    kl: f64,
    n_clipped_low: f64,
    n_clipped_high: f64,
}

impl PolicyObjective {
    pub(crate) fn new(loss: PolicyLoss, step: SampledStep) -> Self {
        let normalizer = Normalizer {
            n_rows: 0,
            n_tokens: 0,
            n_kept: 0,
            n_tokens_per_update: step.n_tokens_per_update,
            max_completion_length: step.max_completion_length,
        };
        let (sums, mismatch) = (PolicySums::default(), Mismatch::default());
        Self { loss, step, normalizer, sums, mismatch, is_unmoved: true }
    }

    /// The metrics of all updates together.
    pub(crate) fn metrics(&self, has_reference: bool) -> Metrics {
        let PolicySums { entropy, kl, n_clipped_low, n_clipped_high, .. } = self.sums;
        let n_tokens = self.sums.n_tokens.max(1.0);
        let mut metrics = self.mismatch.metrics();
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        put("entropy", entropy / n_tokens);
        put("clip_ratio/low_mean", n_clipped_low / n_tokens);
        put("clip_ratio/high_mean", n_clipped_high / n_tokens);
        put("clip_ratio/region_mean", (n_clipped_low + n_clipped_high) / n_tokens);
        if has_reference {
            put("kl", kl / n_tokens);
        }
        metrics
    }

    fn add(&mut self, tokens: &TokenNumbers, loss: &MicroBatchLoss) {
        let sums = &mut self.sums;
        sums.n_tokens += tokens.logprobs.numel() as f64;
        let entropies = tokens.entropies.as_ref();
        sums.entropy += entropies.map_or(0.0, |values| values.sum(Kind::Double).double_value(&[]));
        sums.kl += loss.kl_sum.unwrap_or(0.0);
        sums.n_clipped_low += loss.n_clipped_low;
        sums.n_clipped_high += loss.n_clipped_high;
    }
}

impl Objective for PolicyObjective {
    fn needs(&self) -> TokenNeeds {
        TokenNeeds {
            temperature: self.step.temperature,
            entropies: match self.loss.entropy.weight > 0.0 {
                true => Entropies::Gradients,
                false => Entropies::Numbers,
            },
            is_top: false,
        }
    }

    fn begin(&mut self, samples: &[&TrainingSample]) {
        self.normalizer.n_rows = samples.len();
        self.normalizer.n_tokens = samples.iter().map(|sample| sample.n_trained()).sum();
        self.normalizer.n_kept = samples.iter().map(|sample| sample.n_kept()).sum();
    }

    fn reduce(&mut self, ranks: &Collectives) -> Result<(), Error> {
        let sums = &mut self.sums;
        let numbers = [
            &mut sums.n_tokens,
            &mut sums.entropy,
            &mut sums.kl,
            &mut sums.n_clipped_low,
            &mut sums.n_clipped_high,
        ];
        add_ranks(numbers, ranks)?;
        self.mismatch.reduce(ranks)
    }

    fn policy_has_moved(&mut self) {
        self.is_unmoved = false;
    }

    /// With most losses a completion with advantage 0 has gradient 0, as has a masked one: it
    /// counts in the denominators only.
    fn has_gradient(&self, sample: &TrainingSample) -> bool {
        let has_signal = sample.has_advantage() || self.loss.learns_without_advantage();
        has_signal && sample.trained.contains(&true)
    }

    fn loss(&mut self, batch: &MicroBatch<'_>, tokens: &TokenNumbers) -> Tensor {
        let behaviour = batch.numbers(|sample| sample.behaviour.as_deref());
        if self.is_unmoved
            && let Some(behaviour) = &behaviour
        {
            self.mismatch.add(&tokens.logprobs, behaviour);
        }
        let behaviour = behaviour.map(|behaviour| batch.spread(&behaviour));
        let old = batch.column(|sample| sample.old.as_deref());
        let reference = batch.column(|sample| sample.reference.as_deref());
        let kept = batch.column(|sample| sample.kept.as_deref());
        let entropies = tokens.entropies.as_ref().map(|entropies| batch.spread(entropies));
        let of_tokens = batch.column(|sample| sample.token_advantages.as_deref());
        let terms = PolicyTerms {
            logprobs: &batch.spread(&tokens.logprobs),
            old: old.as_ref(),
            behaviour: behaviour.as_ref(),
            reference: reference.as_ref(),
            mask: &batch.mask,
            kept: kept.as_ref(),
            entropies: entropies.as_ref(),
            advantages: &of_tokens.unwrap_or_else(|| batch.row_column(|sample| sample.advantage)),
        };
        let loss = self.loss.micro_batch(&terms, &self.normalizer);
        self.add(tokens, &loss);
        loss.loss
    }
}
