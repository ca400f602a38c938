//! The objective of supervised fine-tuning: −Σ log p(token) / number of trained tokens.

use joust_dist::Collectives;
use tch::{Kind, Tensor};

use super::interface::Objective;
use super::sums::add_ranks;
use crate::batch::MicroBatch;
use crate::error::Error;
use crate::forward::{Entropies, TokenNeeds, TokenNumbers};
use crate::metrics::Metrics;
use crate::sample::TrainingSample;

/// The cross-entropy of one update, with sums for its metrics.
#[derive(Default)]
pub(crate) struct Likelihood {
    n_targets: usize,
    n_top: f64,
    entropy: f64,
}

impl Likelihood {
    /// The metrics of the update.
    pub(crate) fn metrics(&self) -> Metrics {
        let n_targets = self.n_targets as f64;
        Metrics::from([
            ("mean_token_accuracy".to_owned(), self.n_top / n_targets),
            ("entropy".to_owned(), self.entropy / n_targets),
        ])
    }
}

impl Objective for Likelihood {
    fn needs(&self) -> TokenNeeds {
        TokenNeeds { temperature: 1.0, entropies: Entropies::Numbers, is_top: true }
    }

    fn begin(&mut self, samples: &[&TrainingSample]) {
        self.n_targets = samples.iter().map(|sample| sample.n_trained()).sum();
    }

    fn reduce(&mut self, ranks: &Collectives) -> Result<(), Error> {
        add_ranks([&mut self.n_top, &mut self.entropy], ranks)
    }

    fn loss(&mut self, _batch: &MicroBatch<'_>, tokens: &TokenNumbers) -> Tensor {
        let sum = |values: &Option<Tensor>, kind: Kind| {
            values.as_ref().map_or(0.0, |values| values.sum(kind).double_value(&[]))
        };
        self.n_top += sum(&tokens.is_top, Kind::Int64);
        self.entropy += sum(&tokens.entropies, Kind::Double);
        -tokens.logprobs.sum(None::<Kind>) / self.n_targets as f64
    }
}
