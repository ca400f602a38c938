//! AdamW with gradient clipping and a learning-rate schedule.
//!
//! Parameters and gradients are flat tensors; the model is not known here. AdamW as in
//! Loshchilov & Hutter, arXiv 1711.05101, in the order of operations of `torch.optim.AdamW`:
//! p ← p·(1 − lr·λ);  m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).  Norms and biases do not decay.

mod schedule;

use joust_engine::model::PieceOfPart;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

pub use schedule::{Schedule, ScheduleConfig};

/// Settings of the optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// Learning rate at the peak of the schedule.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub lr: f64,
    /// Decay of the running mean of the gradient.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// Decay of the running mean of the squared gradient.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub beta2: f64,
    /// Constant that is added to the root of the mean squared gradient (AdamW's ε).
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub eps: f64,
    /// Weight decay (AdamW's λ): each update subtracts the learning rate × λ × the weight. Norms
    /// and biases do not decay.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub weight_decay: f64,
    /// Maximum norm of the gradient over all parameters; a larger gradient is scaled down to it.
    /// 0: no limit.
    #[schemars(range(min = 0.0))]
    pub max_grad_norm: f64,
    /// Schedule of the learning rate.
    pub schedule: ScheduleConfig,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: ScheduleConfig::default(),
        }
    }
}

/// A flat tensor of parameters with their gradients.
#[derive(Debug)]
pub struct Parameters {
    /// Where each parameter, or the part of one that is here, lies.
    pub pieces: Vec<PieceOfPart>,
    /// The parameters.
    pub values: Tensor,
    /// Their gradients, of the same length.
    pub gradients: Tensor,
}

/// Parameters with their running means.
struct ParameterState {
    parameters: Parameters,
    mean: Tensor,
    square: Tensor,
}

/// Number of values that are updated at once: on a CPU so few that all intermediate results stay in
/// the cache, on a GPU so many that few kernels are launched. Results do not depend on it.
const CHUNK_ON_CPU: i64 = 1 << 17;
const CHUNK_ON_GPU: i64 = 1 << 26;

/// Views of contiguous tensors of one shape, chunk by chunk.
fn chunks<const N: usize>(tensors: [&Tensor; N]) -> impl Iterator<Item = [Tensor; N]> {
    let flat = tensors.map(|tensor| tensor.view([-1]));
    let n_values = tensors[0].numel() as i64;
    let most = if tensors[0].device().is_cuda() { CHUNK_ON_GPU } else { CHUNK_ON_CPU };
    (0..n_values).step_by(most as usize).map(move |start| {
        flat.each_ref().map(|flat| flat.narrow(0, start, most.min(n_values - start)))
    })
}

/// AdamW over a model's parameters.
pub struct AdamW {
    buckets: Vec<ParameterState>,
    config: OptimConfig,
    n_updates: u64,
}

impl ParameterState {
    /// The parameters, each as flat views of its values, gradient and running means.
    fn pieces(&self) -> impl Iterator<Item = (&PieceOfPart, [Tensor; 4])> {
        let Parameters { pieces, values, gradients } = &self.parameters;
        let all = [values, gradients, &self.mean, &self.square];
        pieces.iter().map(move |piece| {
            let (start, n_values) = (piece.start as i64, piece.n_values as i64);
            (piece, all.map(|flat| flat.narrow(0, start, n_values)))
        })
    }
}

impl AdamW {
    /// Starts with running means of zero. One-dimensional parameters (norms, biases) do not decay.
    pub fn new(parameters: Vec<Parameters>, config: &OptimConfig) -> Self {
        let state = |parameters: Parameters| {
            let zeros = || parameters.values.zeros_like();
            ParameterState { mean: zeros(), square: zeros(), parameters }
        };
        let buckets = parameters.into_iter().map(state).collect();
        Self { buckets, config: config.clone(), n_updates: 0 }
    }

    /// Number of updates made so far.
    pub fn n_updates(&self) -> u64 {
        self.n_updates
    }

    /// Sum of the squares of all gradients.
    pub fn grad_square(&self) -> f64 {
        let _guard = tch::no_grad_guard();
        let square = |[grad]: [Tensor; 1]| grad.square().sum(Kind::Double).double_value(&[]);
        let pieces = self.buckets.iter().flat_map(ParameterState::pieces);
        pieces.map(|(_, [_, grad, ..])| chunks([&grad]).map(square).sum::<f64>()).sum::<f64>()
    }

    /// Clips the gradients of norm `norm`, and makes one update with learning rate `lr`.
    pub fn update(&mut self, lr: f64, norm: f64) {
        let limit = self.config.max_grad_norm;
        // torch.nn.utils.clip_grad_norm_ adds the same 1e-6
        let scale = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.n_updates += 1;
        let OptimConfig { beta1, beta2, eps, weight_decay, .. } = self.config;
        let t = self.n_updates as f64;
        let (correction1, correction2) = (1.0 - beta1.powf(t), 1.0 - beta2.powf(t));
        let _guard = tch::no_grad_guard();
        for (piece, [values, grad, mean, square]) in
            self.buckets.iter().flat_map(ParameterState::pieces)
        {
            let decays = piece.is_matrix && weight_decay > 0.0;
            for [mut values, grad, mut mean, mut square] in chunks([&values, &grad, &mean, &square])
            {
                let grad = if scale < 1.0 { grad * scale } else { grad };
                if decays {
                    let _ = values.g_mul_scalar_(1.0 - lr * weight_decay);
                }
                let _ = mean.g_mul_scalar_(beta1).g_add_(&(&grad * (1.0 - beta1)));
                let _ = square.g_mul_scalar_(beta2).g_add_(&(grad.square() * (1.0 - beta2)));
                let denominator = square.sqrt() / correction2.sqrt() + eps;
                let _ = values.g_sub_(&(&mean / denominator * (lr / correction1)));
            }
        }
    }

    /// Whether all parameters are finite numbers.
    pub fn is_finite(&self) -> bool {
        let _guard = tch::no_grad_guard();
        // NaN and infinities reach the largest or the smallest value; one wait for all tensors
        let ends = self.buckets.iter().flat_map(|bucket| {
            let values = &bucket.parameters.values;
            [values.max().to_kind(Kind::Double), values.min().to_kind(Kind::Double)]
        });
        let ends: Vec<Tensor> = ends.collect();
        ends.is_empty() || Tensor::stack(&ends, 0).isfinite().all().int64_value(&[]) == 1
    }

    /// The running means of each flat tensor: `exp_avg` and `exp_avg_sq`. They share memory with
    /// the optimiser, so that updates change them, and a change of them is one of its state.
    pub fn means(&self) -> impl Iterator<Item = [(&'static str, Tensor); 2]> {
        self.buckets.iter().map(|bucket| {
            let means = [("exp_avg", &bucket.mean), ("exp_avg_sq", &bucket.square)];
            means.map(|(name, flat)| (name, flat.shallow_clone()))
        })
    }

    /// Sets the number of updates made, of a state that is restored.
    pub fn set_n_updates(&mut self, n_updates: u64) {
        self.n_updates = n_updates;
    }
}

#[cfg(test)]
mod tests;
