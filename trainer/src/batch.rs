//! Samples as tensors: right-padded, with the positions that are trained on.
//!
//! Alignment is fixed here once: the hidden state at position t − 1 predicts token t, and a
//! per-token number belongs to the token that it is the log-probability of.

use tch::{Device, Kind, Tensor};

use crate::sample::TrainingSample;

/// Samples as tensors on one device: B rows, T tokens of the longest row, C trained tokens of the
/// row that has most of them, M trained tokens in all.
#[derive(Debug)]
pub struct MicroBatch<'a> {
    /// The rows.
    pub samples: Vec<&'a TrainingSample>,
    /// Token ids, padded with 0: [B, T] i64.
    pub ids: Tensor,
    /// Flat positions (row · T + t) whose hidden states predict trained tokens: `[M]` i64.
    pub sources: Tensor,
    /// The trained tokens in the same order: `[M]` i64.
    pub targets: Tensor,
    /// Flat positions (row · C + c) of the same tokens in a [B, C] matrix: `[M]` i64.
    pub places: Tensor,
    /// 1 for trained tokens, 0 for padding: [B, C] f32.
    pub mask: Tensor,
}

impl<'a> MicroBatch<'a> {
    /// Lays samples out.
    pub fn new(samples: Vec<&'a TrainingSample>, device: Device) -> Self {
        let n_rows = samples.len();
        let n_time = samples.iter().map(|sample| sample.n_tokens()).max().unwrap_or(0);
        let n_columns = samples.iter().map(|sample| sample.n_trained()).max().unwrap_or(0);
        let mut ids = vec![0i64; n_rows * n_time];
        let (mut sources, mut targets, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (row, sample) in samples.iter().enumerate() {
            ids[row * n_time..][..sample.n_tokens()].copy_from_slice(&sample.tokens);
            let tokens = sample.tokens.iter().zip(&sample.trained).enumerate();
            let trained = tokens.filter(|(_, (_, is_trained))| **is_trained);
            for (column, (t, (&token, _))) in trained.enumerate() {
                sources.push((row * n_time + t) as i64 - 1);
                targets.push(token);
                places.push((row * n_columns + column) as i64);
            }
        }
        let shape = [n_rows as i64, n_columns as i64];
        let places = Tensor::from_slice(&places);
        let mask = Tensor::zeros([shape[0] * shape[1]], (Kind::Float, Device::Cpu))
            .index_fill(0, &places, 1.0)
            .view(shape);
        Self {
            ids: Tensor::from_slice(&ids).view([n_rows as i64, n_time as i64]).to_device(device),
            sources: Tensor::from_slice(&sources).to_device(device),
            targets: Tensor::from_slice(&targets).to_device(device),
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
