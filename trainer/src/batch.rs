//! Samples as tensors: trees of their tokens, with the positions that are trained on.
//!
//! Alignment is fixed here once: the hidden state at position t − 1 predicts token t, and a
//! per-token number belongs to the token that it is the log-probability of.

use std::collections::BTreeMap;

use joust_engine::model::TokenTree;
use tch::{Device, Kind, Tensor};

use crate::sample::TrainingSample;
use crate::sharing::SharedSamples;

/// Samples as tensors on one device: B samples, C trained tokens of the one that has most of them,
/// M trained tokens in all. Equal trained tokens after equal tokens are one prediction; there are Q
/// different ones.
#[derive(Debug)]
pub struct MicroBatch<'a> {
    /// The samples.
    pub samples: Vec<&'a TrainingSample>,
    /// Their tokens, those that samples of a group share only once.
    pub trees: Vec<TokenTree>,
    /// Positions among the tokens of the trees whose hidden states predict trained tokens: `[Q]`
    /// i64.
    pub sources: Tensor,
    /// The predicted tokens in the same order: `[Q]` i64.
    pub targets: Tensor,
    /// The prediction of each trained token: `[M]` i64.
    pub predictions: Tensor,
    /// Flat positions (row · C + c) of the trained tokens in a [B, C] matrix: `[M]` i64.
    pub places: Tensor,
    /// 1 for trained tokens, 0 for padding: [B, C] f32.
    pub mask: Tensor,
}

impl<'a> MicroBatch<'a> {
    /// Lays samples out.
    pub fn new(samples: Vec<&'a TrainingSample>, device: Device) -> Self {
        let shared = SharedSamples::new(&samples);
        let n_columns = samples.iter().map(|sample| sample.n_trained()).max().unwrap_or(0);
        let mut known: BTreeMap<(usize, i64), i64> = BTreeMap::new();
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        let (mut predictions, mut places) = (Vec::new(), Vec::new());
        for (row, (sample, place)) in samples.iter().zip(&shared.places).enumerate() {
            let tokens = sample.tokens.iter().zip(&sample.trained).enumerate();
            let trained = tokens.filter(|(_, (_, is_trained))| **is_trained);
            for (column, (t, (&token, _))) in trained.enumerate() {
                let source = place.token(t - 1);
                let prediction = *known.entry((source, token)).or_insert_with(|| {
                    sources.push(source as i64);
                    targets.push(token);
                    sources.len() as i64 - 1
                });
                predictions.push(prediction);
                places.push((row * n_columns + column) as i64);
            }
        }
        let shape = [samples.len() as i64, n_columns as i64];
        let places = Tensor::from_slice(&places);
        let mask = Tensor::zeros([shape[0] * shape[1]], (Kind::Float, Device::Cpu))
            .index_fill(0, &places, 1.0)
            .view(shape);
        let on_device = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(device);
        Self {
            trees: shared.trees,
            sources: on_device(&sources),
            targets: on_device(&targets),
            predictions: on_device(&predictions),
            places: places.to_device(device),
            mask: mask.to_device(device),
            samples,
        }
    }

    /// Spreads one value per trained token out: `[M]` → [B, C], 0 elsewhere.
    pub fn spread(&self, values: &Tensor) -> Tensor {
        let zeros = self.mask.zeros_like().to_kind(values.kind()).view([-1]);
        zeros.scatter(0, &self.places, values).view_as(&self.mask)
    }

    /// A per-token number of all samples in order: `[M]` f32; none unless every sample has it.
    pub fn numbers(&self, of: impl Fn(&TrainingSample) -> Option<&[f32]>) -> Option<Tensor> {
        let lists: Option<Vec<&[f32]>> = self.samples.iter().map(|sample| of(sample)).collect();
        lists.map(|lists| Tensor::from_slice(&lists.concat()).to_device(self.mask.device()))
    }

    /// A per-token number as a matrix: [B, C] f32, 0 elsewhere; none unless every sample has it.
    pub fn column(&self, of: impl Fn(&TrainingSample) -> Option<&[f32]>) -> Option<Tensor> {
        self.numbers(of).map(|numbers| self.spread(&numbers))
    }

    /// A number of each row: [B, 1] f32.
    pub fn row_column(&self, of: impl Fn(&TrainingSample) -> f64) -> Tensor {
        let values: Vec<f32> = self.samples.iter().map(|sample| of(sample) as f32).collect();
        Tensor::from_slice(&values).to_device(self.mask.device()).unsqueeze(1)
    }
}
