//! Bradley-Terry strengths of a group with standard errors, and the judge's position bias, from
//! vote counts.
//!
//! Knows votes by presentation order. It does not depend on the order of matches or votes. Every
//! player gets a rating: a player without a match has strength 0 and the error of the prior, and
//! the caller decides whether that counts.

use std::sync::LazyLock;

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cholesky::Cholesky;
use super::scale::sigmoid;
use super::votes::{MatchVotes, VoteCounts};

/// Prior standard deviation of the position bias, in logits.
///
/// Weakly informative: public judge logs prefer the first position in 56 to 63 of 100 votes (0.2 to
/// 0.5 logits), and a bias beyond 2 logits would leave the judge useless.
pub const POSITION_BIAS_PRIOR_SD: f64 = 1.0;

/// Newton steps before giving up. The objective is strictly concave and needs about ten.
const MAX_ITERATIONS: usize = 200;
/// The largest step, in logits, at which the fit has converged.
const STEP_TOLERANCE: f64 = 1e-11;
/// The smallest fraction of a Newton step that is tried.
const MIN_STEP_FRACTION: f64 = 1e-9;

/// How the strengths are fitted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BradleyTerryConfig {
    /// Standard deviation of the Gaussian prior on each strength, in logits. A smaller value pulls
    /// completions with few votes closer together.
    // beyond, the curvature is singular in floating point
    #[schemars(range(min = 1e-3, max = 1e4))]
    pub prior_sd: f64,
    /// Whether a term for the judge's preference for the answer that is shown first is fitted.
    pub position_bias: bool,
}

impl Default for BradleyTerryConfig {
    /// A spread of 1.5 logits is that of the simulated groups by which the number of Swiss rounds
    /// was chosen.
    fn default() -> Self {
        Self { prior_sd: 1.5, position_bias: true }
    }
}

impl BradleyTerryConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        // read for every group
        static KEYS: LazyLock<ConfigKeys> = LazyLock::new(ConfigKeys::of::<BradleyTerryConfig>);
        validate(self, &KEYS)
    }
}

/// A player's strength within its group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strength {
    /// Strength in logits; the group's mean is 0.
    pub theta: f64,
    /// Standard error of `theta`, in logits.
    pub stderr: f64,
    /// Expected share of wins against the rest of the group without position bias; 0.5 in a group
    /// of one.
    pub win_rate: f64,
}

/// A fitted group.
#[derive(Clone, Debug, PartialEq)]
pub struct BradleyTerry {
    /// One strength per player.
    pub ratings: Vec<Strength>,
    /// Logits by which the judge prefers the answer shown first; 0 if it was not fitted.
    pub position_bias: f64,
    /// Standard error of `position_bias`, in logits; 0 if it was not fitted.
    pub position_bias_stderr: f64,
    /// Newton steps taken.
    pub iterations: usize,
}

/// Fits strengths and position bias to the votes of a group (maximum a posteriori).
///
/// ```text
/// logit P(a wins | a shown first) = theta_a - theta_b + beta
/// logit P(a wins | b shown first) = theta_a - theta_b - beta
/// maximised: sum over votes of log P(vote)
///            - sum_i theta_i^2 / (2 prior_sd^2) - beta^2 / (2 sd_beta^2)
/// stderr_i^2 = e^T H^-1 e, with e = unit_i - 1/n on the strengths
/// win_rate_i = mean over j != i of sigmoid(theta_i - theta_j)
/// ```
///
/// sd_beta is [`POSITION_BIAS_PRIOR_SD`]. The prior keeps the fit finite if a player won or lost
/// everything, the usual case in a small group; at the maximum the strengths add up to 0. H is the
/// negative Hessian there; its inverse is projected on strengths of mean 0, since the group's
/// common level is no finding. Newton's method on the strictly concave objective, each step halved
/// until it does not lose.
///
/// A judge that always names the answer shown first gives equal strengths if both orders of each
/// match had the same number of votes; otherwise beta explains what it can and the rest stays in
/// the strengths.
///
/// Source: Bradley and Terry, "Rank Analysis of Incomplete Block Designs", 1952; the order term is
/// that of Davidson and Beaver, "On Extending the Bradley-Terry Model to Incorporate Within-Pair
/// Order Effects", 1977.
///
/// # Panics
/// If a match names a player outside `0..n` or one player twice, or if the config does not
/// validate.
pub fn bradley_terry(
    n: usize,
    matches: &[MatchVotes],
    config: &BradleyTerryConfig,
) -> BradleyTerry {
    for pair in matches {
        let fits = pair.a != pair.b && pair.a < n && pair.b < n;
        assert!(fits, "match {} against {} in a group of {n}. This is a bug.", pair.a, pair.b);
    }
    let problems = config.validate();
    assert!(problems.is_empty(), "{problems:?}. This is a bug.");

    let posterior = Posterior::new(n, matches, config);
    let mut at = vec![0.0; n + 1];
    let mut value = posterior.log_density(&at);
    let mut iterations = 0;
    while iterations < MAX_ITERATIONS {
        let (mut step, curvature) = posterior.gradient_and_curvature(&at);
        factor(n + 1, curvature).solve(&mut step);
        iterations += 1;
        let largest = step.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        let mut fraction = 1.0;
        let (next, next_value) = loop {
            let next: Vec<f64> = at.iter().zip(&step).map(|(x, s)| x + fraction * s).collect();
            let next_value = posterior.log_density(&next);
            // Near the maximum, rounding hides the gain of a good step: it is taken in full.
            if next_value >= value || largest < 1e-6 || fraction < MIN_STEP_FRACTION {
                break (next, next_value);
            }
            fraction /= 2.0;
        };
        (at, value) = (next, next_value);
        if largest < STEP_TOLERANCE {
            break;
        }
    }
    posterior.summarise(at, iterations)
}

/// The log posterior of strengths and bias; the parameters are theta_0 .. theta_(n-1), beta.
struct Posterior<'a> {
    n: usize,
    matches: &'a [MatchVotes],
    /// 1 / sd^2 of each parameter.
    precisions: Vec<f64>,
    /// Whether beta may leave 0.
    position_bias: bool,
}

/// The two presentation orders of a match with the sign that beta has in a's logit.
fn orders(pair: &MatchVotes) -> [(f64, VoteCounts); 2] {
    [(1.0, pair.a_first), (-1.0, pair.b_first)]
}

impl<'a> Posterior<'a> {
    fn new(n: usize, matches: &'a [MatchVotes], config: &BradleyTerryConfig) -> Self {
        let mut precisions = vec![config.prior_sd.powi(-2); n];
        precisions.push(POSITION_BIAS_PRIOR_SD.powi(-2));
        Self { n, matches, precisions, position_bias: config.position_bias }
    }

    /// The sign of beta in a's logit, 0 if it is not fitted: beta then stays at its prior mean.
    fn bias_sign(&self, sign: f64) -> f64 {
        if self.position_bias { sign } else { 0.0 }
    }

    fn logit(&self, at: &[f64], pair: &MatchVotes, sign: f64) -> f64 {
        at[pair.a] - at[pair.b] + self.bias_sign(sign) * at[self.n]
    }

    /// The objective, up to a constant.
    fn log_density(&self, at: &[f64]) -> f64 {
        let prior: f64 = at.iter().zip(&self.precisions).map(|(x, p)| -0.5 * p * x * x).sum();
        let votes: f64 = self
            .matches
            .iter()
            .flat_map(|pair| orders(pair).map(|(sign, votes)| (pair, sign, votes)))
            .map(|(pair, sign, votes)| {
                let logit = self.logit(at, pair, sign);
                f64::from(votes.a) * log_sigmoid(logit) + f64::from(votes.b) * log_sigmoid(-logit)
            })
            .sum();
        prior + votes
    }

    /// The gradient, and the negative Hessian row by row.
    fn gradient_and_curvature(&self, at: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n_parameters = self.n + 1;
        let mut gradient: Vec<f64> = at.iter().zip(&self.precisions).map(|(x, p)| -p * x).collect();
        let mut curvature = vec![0.0; n_parameters * n_parameters];
        for (parameter, precision) in self.precisions.iter().enumerate() {
            curvature[parameter * n_parameters + parameter] = *precision;
        }
        for pair in self.matches {
            for (sign, votes) in orders(pair) {
                let logit = self.logit(at, pair, sign);
                let (p_a, p_b) = (sigmoid(logit), sigmoid(-logit));
                let (votes_a, votes_b) = (f64::from(votes.a), f64::from(votes.b));
                let slope = votes_a * p_b - votes_b * p_a;
                let weight = (votes_a + votes_b) * p_a * p_b;
                let row = [(pair.a, 1.0), (pair.b, -1.0), (self.n, self.bias_sign(sign))];
                for (i, x) in row {
                    gradient[i] += slope * x;
                    for (j, y) in row {
                        curvature[i * n_parameters + j] += weight * x * y;
                    }
                }
            }
        }
        (gradient, curvature)
    }

    /// Standard errors and win rates at the maximum.
    fn summarise(&self, mut at: Vec<f64>, iterations: usize) -> BradleyTerry {
        let n = self.n;
        let inverse = factor(n + 1, self.gradient_and_curvature(&at).1);
        let beta = at.pop().unwrap_or_default();
        let mean = at.iter().sum::<f64>() / n.max(1) as f64;
        let thetas: Vec<f64> = at.iter().map(|theta| theta - mean).collect();
        let ratings = thetas
            .iter()
            .enumerate()
            .map(|(player, &theta)| {
                let mut contrast = vec![-1.0 / n as f64; n];
                contrast[player] += 1.0;
                contrast.push(0.0);
                Strength {
                    theta,
                    stderr: inverse.inverse_quadratic_form(&contrast).sqrt(),
                    win_rate: expected_win_rate(&thetas, player),
                }
            })
            .collect();
        let position_bias_stderr = if self.position_bias {
            let mut unit = vec![0.0; n];
            unit.push(1.0);
            inverse.inverse_quadratic_form(&unit).sqrt()
        } else {
            0.0
        };
        BradleyTerry { ratings, position_bias: beta, position_bias_stderr, iterations }
    }
}

/// Mean over the other players of sigmoid(theta_player - theta_other); 0.5 without other players.
fn expected_win_rate(thetas: &[f64], player: usize) -> f64 {
    if thetas.len() < 2 {
        return 0.5;
    }
    let wins = thetas.iter().enumerate().filter(|&(other, _)| other != player);
    wins.map(|(_, theta)| sigmoid(thetas[player] - theta)).sum::<f64>() / (thetas.len() - 1) as f64
}

/// log sigmoid(x) without overflow or cancellation.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

fn factor(n: usize, curvature: Vec<f64>) -> Cholesky {
    Cholesky::new(n, curvature)
        .expect("A prior makes the curvature positive definite. This is a bug.")
}
