//! The objective of preference optimisation: the mean loss of the pairs of an update, with sums for
//! its metrics.

use joust_dist::Collectives;
use tch::{Kind, Tensor};

use super::interface::{KeptTogether, Objective};
use super::preference::{PairTerms, PreferenceLoss};
use super::rows::row_sum;
use super::sums::add_ranks;
use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::{Entropies, TokenNeeds, TokenNumbers};
use crate::metrics::Metrics;
use crate::sample::TrainingSample;

/// A completion's side of its pair. The advantage of its sample says which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairSide {
    /// The preferred completion.
    Chosen,
    /// The other one.
    Rejected,
}

impl PairSide {
    /// The advantage of the sample.
    pub(crate) fn sign(self) -> f64 {
        match self {
            Self::Chosen => 1.0,
            Self::Rejected => -1.0,
        }
    }

    fn of(sample: &TrainingSample) -> Self {
        if sample.advantage > 0.0 { Self::Chosen } else { Self::Rejected }
    }
}

/// What is minimised: the loss of pairs, and the cross-entropy of the chosen completions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairLoss {
    pub(crate) loss: PreferenceLoss,
    pub(crate) beta: f64,
    pub(crate) label_smoothing: f64,
    /// Weight of the cross-entropy.
    pub(crate) sft_weight: f64,
}

/// The losses of the pairs of an update or several. A group of samples is a pair.
pub(crate) struct PairObjective {
    loss: PairLoss,
    n_pairs: f64,
    n_chosen_tokens: f64,
    sums: PairSums,
}

/// Sums over the pairs and tokens of all updates.
#[derive(Default)]
struct PairSums {
    n_pairs: f64,
    n_tokens: f64,
    chosen_reward: f64,
    rejected_reward: f64,
    n_right: f64,
    chosen_logprobs: f64,
    rejected_logprobs: f64,
    entropy: f64,
}

impl PairObjective {
    pub(crate) fn new(loss: PairLoss) -> Self {
        let sums = PairSums::default();
        Self { loss, n_pairs: 0.0, n_chosen_tokens: 0.0, sums }
    }

    /// The metrics of all updates together, under TRL's names.
    pub(crate) fn metrics(&self) -> Metrics {
        let PairSums { chosen_reward, rejected_reward, .. } = self.sums;
        let of_pairs = [
            ("rewards/chosen", chosen_reward),
            ("rewards/rejected", rejected_reward),
            ("rewards/margins", chosen_reward - rejected_reward),
            ("rewards/accuracies", self.sums.n_right),
            ("logps/chosen", self.sums.chosen_logprobs),
            ("logps/rejected", self.sums.rejected_logprobs),
        ];
        let mut metrics: Metrics =
            of_pairs.map(|(name, sum)| (name.to_owned(), sum / self.sums.n_pairs)).into();
        metrics.insert("entropy".to_owned(), self.sums.entropy / self.sums.n_tokens);
        metrics
    }
}

impl Objective for PairObjective {
    fn needs(&self) -> TokenNeeds {
        TokenNeeds { temperature: 1.0, entropies: Entropies::Numbers, is_top: false }
    }

    fn kept_together(&self) -> KeptTogether {
        KeptTogether::Groups
    }

    fn begin(&mut self, samples: &[&TrainingSample]) {
        let chosen = samples.iter().filter(|sample| PairSide::of(sample) == PairSide::Chosen);
        let n_chosen_tokens: usize = chosen.map(|sample| sample.n_trained()).sum();
        self.n_pairs = samples.len() as f64 / 2.0;
        self.n_chosen_tokens = n_chosen_tokens as f64;
    }

    fn reduce(&mut self, ranks: &Collectives) -> Result<(), Error> {
        let sums = &mut self.sums;
        let numbers = [
            &mut sums.n_pairs,
            &mut sums.n_tokens,
            &mut sums.chosen_reward,
            &mut sums.rejected_reward,
            &mut sums.n_right,
            &mut sums.chosen_logprobs,
            &mut sums.rejected_logprobs,
            &mut sums.entropy,
        ];
        add_ranks(numbers, ranks)
    }

    fn loss(&mut self, batch: &MicroBatch<'_>, tokens: &TokenNumbers) -> Tensor {
        let reference = batch.column(|sample| sample.reference.as_deref());
        let reference = reference.expect("Pairs have the reference's numbers. This is a bug.");
        let completions = row_sum(&batch.spread(&tokens.logprobs)).squeeze_dim(1); // [2P]
        let ratios = &completions - row_sum(&reference).squeeze_dim(1);
        let lengths = row_sum(&batch.mask).squeeze_dim(1);
        let rows = [PairSide::Chosen, PairSide::Rejected].map(|side| rows_by_pair(batch, side));
        let of_sides = |values: &Tensor| rows.each_ref().map(|rows| values.index_select(0, rows));
        let ([chosen, rejected], [chosen_lengths, rejected_lengths]) =
            (of_sides(&ratios), of_sides(&lengths));
        let terms = PairTerms {
            chosen: &chosen,
            rejected: &rejected,
            chosen_lengths: &chosen_lengths,
            rejected_lengths: &rejected_lengths,
        };
        let PairLoss { loss, beta, label_smoothing, sft_weight } = self.loss;
        let mut total = loss.per_pair(&terms, beta, label_smoothing).sum(None) / self.n_pairs;
        let [chosen_logprobs, rejected_logprobs] = of_sides(&completions);
        if sft_weight > 0.0 {
            total -= chosen_logprobs.sum(None) * (sft_weight / self.n_chosen_tokens);
        }
        let sum = |values: &Tensor| values.detach().sum(Kind::Double).double_value(&[]);
        let sums = &mut self.sums;
        sums.n_pairs += chosen.numel() as f64;
        sums.n_tokens += tokens.logprobs.numel() as f64;
        sums.chosen_reward += beta * sum(&chosen);
        sums.rejected_reward += beta * sum(&rejected);
        sums.n_right += sum(&chosen.gt_tensor(&rejected));
        sums.chosen_logprobs += sum(&chosen_logprobs);
        sums.rejected_logprobs += sum(&rejected_logprobs);
        sums.entropy += tokens.entropies.as_ref().map_or(0.0, sum);
        total
    }
}

/// The rows of one side, in the order of their pairs: `[P]` i64.
fn rows_by_pair(batch: &MicroBatch<'_>, side: PairSide) -> Tensor {
    let of_side = batch.samples.iter().enumerate().filter(|(_, it)| PairSide::of(it) == side);
    let mut rows: Vec<(usize, i64)> =
        of_side.map(|(row, sample)| (sample.group, row as i64)).collect();
    rows.sort_unstable();
    let rows: Vec<i64> = rows.into_iter().map(|(_, row)| row).collect();
    Tensor::from_slice(&rows).to_device(batch.mask.device())
}
