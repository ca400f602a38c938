//! Losses of preference pairs: direct preference optimisation and its relatives.
//!
//! Pure functions of log-probabilities. With c and r = how much more probable the chosen and the
//! rejected completion are under the policy than under the reference (log-ratios of whole
//! completions), Δ = c − r and σ = the logistic function. The losses are those of TRL 1.16's
//! `DPOTrainer._compute_loss`, label smoothing of `sigmoid` is that of OpenRLHF 0.11.2; tests hold
//! values and gradients of both (`tests/golden/make_dpo.py`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The loss of a pair, under TRL's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLoss {
    /// −log σ(β·Δ) (DPO, arXiv 2305.18290). With label smoothing ε:
    /// −(1 − ε)·log σ(β·Δ) − ε·log σ(−β·Δ) (conservative DPO).
    #[default]
    Sigmoid,
    /// `sigmoid` on log-ratios per token: each completion's is divided by its number of tokens.
    SigmoidNorm,
    /// max(0, 1 − β·Δ) (SLiC, arXiv 2305.10425).
    Hinge,
    /// (Δ − 1/(2β))² on log-ratios per token (IPO, arXiv 2310.12036).
    Ipo,
    /// `sigmoid` without the bias of labels of which a share ε (`label_smoothing`) is wrong (robust
    /// DPO, arXiv 2403.00409).
    Robust,
    /// Divergence of σ(β·Δ) from labels of which a share ε (`label_smoothing`, above 0) is wrong
    /// (EXO, arXiv 2402.00856).
    ExoPair,
    /// −log σ(β·c) − ½·log σ(−β·c) − ½·log σ(−β·r) (NCA, arXiv 2402.05369).
    NcaPair,
    /// −log σ(β·c) − log σ(−β·r) (BCO, arXiv 2404.04656, for pairs and without its shift).
    BcoPair,
    /// (c − 1/(2β))² + (r + 1/(2β))² (SPPO, arXiv 2405.00675).
    SppoHard,
    /// 1 − σ(β·c) + σ(β·r) (APO, arXiv 2408.06266): for chosen completions that are better than the
    /// model.
    ApoZero,
    /// σ(β·c) + 1 − σ(β·Δ) (APO): for chosen completions that are worse than the model.
    ApoDown,
    /// −(1 − m)·log σ(β·Δ) + m·exp(−β·Δ), m = σ(β·Δ/0.05) (DiscoPOP, arXiv 2406.08414).
    Discopop,
}

/// Temperature of DiscoPOP's mixture.
const DISCOPOP_TAU: f64 = 0.05;

/// Log-probabilities of whole completions: `[P]` each, of P pairs.
pub struct PairTerms<'a> {
    /// Log-ratios of the chosen completions, policy against reference, with gradients.
    pub chosen: &'a Tensor,
    /// Those of the rejected completions.
    pub rejected: &'a Tensor,
    /// Number of tokens of the chosen completions.
    pub chosen_lengths: &'a Tensor,
    /// Number of tokens of the rejected completions.
    pub rejected_lengths: &'a Tensor,
}

impl PreferenceLoss {
    /// Whether the loss allows for labels that are wrong.
    pub fn has_label_smoothing(self) -> bool {
        matches!(self, Self::Sigmoid | Self::SigmoidNorm | Self::Robust | Self::ExoPair)
    }

    /// The loss of each pair: `[P]`. `beta` is above 0, `label_smoothing` at least 0 and below 0.5.
    pub fn per_pair(self, terms: &PairTerms<'_>, beta: f64, label_smoothing: f64) -> Tensor {
        let PairTerms { chosen, rejected, chosen_lengths, rejected_lengths } = terms;
        let difference = || -> Tensor { *chosen - *rejected };
        let difference_per_token =
            || -> Tensor { *chosen / *chosen_lengths - *rejected / *rejected_lengths };
        match self {
            Self::Sigmoid => smoothed(&(difference() * beta), label_smoothing),
            Self::SigmoidNorm => smoothed(&(difference_per_token() * beta), label_smoothing),
            Self::Hinge => (difference() * -beta + 1.0).relu(),
            Self::Ipo => (difference_per_token() - 1.0 / (2.0 * beta)).square(),
            Self::Robust => {
                let logits = difference() * beta;
                let clean = logits.log_sigmoid() * (1.0 - label_smoothing);
                let flipped = (-logits).log_sigmoid() * label_smoothing;
                (flipped - clean) / (1.0 - 2.0 * label_smoothing)
            }
            Self::ExoPair => {
                let logits = difference() * beta;
                let part = |logits: &Tensor, share: f64| {
                    logits.sigmoid() * (logits.log_sigmoid() - share.ln())
                };
                part(&logits, 1.0 - label_smoothing) + part(&(-&logits), label_smoothing)
            }
            Self::NcaPair => {
                let (chosen, rejected) = (*chosen * beta, *rejected * beta);
                let pushed = (-&chosen).log_sigmoid() + (-rejected).log_sigmoid();
                -chosen.log_sigmoid() - pushed * 0.5
            }
            Self::BcoPair => -(*chosen * beta).log_sigmoid() - (*rejected * -beta).log_sigmoid(),
            Self::SppoHard => {
                let wanted = 0.5 / beta;
                (*chosen - wanted).square() + (*rejected + wanted).square()
            }
            Self::ApoZero => 1.0 - (*chosen * beta).sigmoid() + (*rejected * beta).sigmoid(),
            Self::ApoDown => (*chosen * beta).sigmoid() + 1.0 - (difference() * beta).sigmoid(),
            Self::Discopop => {
                let logits = difference() * beta;
                let mixture = (&logits / DISCOPOP_TAU).sigmoid();
                (-&logits).exp() * &mixture - logits.log_sigmoid() * (1.0 - mixture)
            }
        }
    }
}

/// −(1 − ε)·log σ(x) − ε·log σ(−x).
fn smoothed(logits: &Tensor, label_smoothing: f64) -> Tensor {
    let loss = -logits.log_sigmoid();
    match label_smoothing {
        0.0 => loss,
        epsilon => loss * (1.0 - epsilon) - (-logits).log_sigmoid() * epsilon,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tch::{Kind, Tensor};

    use super::*;
    use crate::golden::golden;

    fn floats(value: &Value) -> Tensor {
        Tensor::from_slice(&serde_json::from_value::<Vec<f64>>(value.clone()).unwrap())
    }

    #[test]
    fn losses_and_gradients_are_those_of_trl_and_openrlhf() {
        let golden = golden("dpo.json");
        let rows: Vec<Vec<f64>> = serde_json::from_value(golden["logprobs"].clone()).unwrap();
        let (n_rows, n_tokens) = (rows.len() as i64, rows[0].len() as i64);
        let lengths = floats(&golden["lengths"]);
        let mask = Tensor::arange(n_tokens, (Kind::Double, tch::Device::Cpu))
            .unsqueeze(0)
            .lt_tensor(&lengths.unsqueeze(1))
            .to_kind(Kind::Double);
        let reference = floats(&golden["reference"]);
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 27);
        let mut seen = Vec::new();
        for case in cases {
            let logprobs = Tensor::from_slice(&rows.concat()).view([n_rows, n_tokens]);
            let logprobs = logprobs.set_requires_grad(true);
            let sums = (&logprobs * &mask).sum_dim_intlist(-1, false, Kind::Double);
            let ratios = (&sums - &reference).chunk(2, 0);
            let of_sides = lengths.chunk(2, 0);
            let terms = PairTerms {
                chosen: &ratios[0],
                rejected: &ratios[1],
                chosen_lengths: &of_sides[0],
                rejected_lengths: &of_sides[1],
            };
            let name = format!("{} {}", case["source"], case["loss"]);
            let number = |key: &str| case[key].as_f64().unwrap();
            let loss: PreferenceLoss = serde_json::from_value(case["loss"].clone()).unwrap();
            let loss =
                loss.per_pair(&terms, number("beta"), number("label_smoothing")).mean(Kind::Double);
            let n_chosen = of_sides[0].sum(Kind::Double);
            let chosen = (&logprobs * &mask).narrow(0, 0, n_rows / 2).sum(Kind::Double);
            let loss = loss - chosen / n_chosen * number("sft_weight");
            loss.backward();
            let close = |seen: f64, wanted: f64, what: &str| {
                assert!((seen - wanted).abs() < 1e-9, "{name} {what}: {seen}, wanted {wanted}");
            };
            close(loss.double_value(&[]), number("value"), "value");
            let gradient: Vec<Vec<f64>> = serde_json::from_value(case["gradient"].clone()).unwrap();
            let gradient = Tensor::from_slice(&gradient.concat()).view([n_rows, n_tokens]);
            let worst = (logprobs.grad() - gradient).abs().max().double_value(&[]);
            close(worst, 0.0, "gradient");
            if let Some(rewards) = case.get("rewards") {
                let mean = |values: Tensor| values.mean(Kind::Double).double_value(&[]);
                let wanted = |name: &str| rewards[format!("rewards/{name}")].as_f64().unwrap();
                close(number("beta") * mean(ratios[0].detach()), wanted("chosen"), "chosen");
                close(number("beta") * mean(ratios[1].detach()), wanted("rejected"), "rejected");
                close(mean(ratios[0].gt_tensor(&ratios[1])), wanted("accuracies"), "accuracies");
            }
            seen.push(case["loss"].as_str().unwrap().to_owned());
        }
        seen.sort();
        seen.dedup();
        // every loss has a recorded value
        assert_eq!(seen.len(), 12);
    }
}
