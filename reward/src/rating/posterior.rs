//! The log posterior of strengths and position bias, of one group or of several with a common bias,
//! and its maximum.
//!
//! It knows votes by presentation order, and no settings.

use super::curvature::{Curvature, WeightedPair};
use super::scale::sigmoid;
use super::votes::{GroupVotes, MatchVotes, VoteCounts};

/// Newton steps before giving up. The objective is strictly concave and needs about ten.
const MAX_ITERATIONS: usize = 200;
/// The largest step, in logits, at which the fit has converged.
const STEP_TOLERANCE: f64 = 1e-11;
/// The smallest fraction of a Newton step that is tried.
const MIN_STEP_FRACTION: f64 = 1e-9;

/// The term for the answer that is shown first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BiasTerm {
    /// It is this many logits.
    Fixed(f64),
    /// It is fitted with a Gaussian prior around 0 of this precision, 1 / sd^2.
    Fitted { precision: f64 },
}

/// The log posterior of all groups, up to a constant.
pub(super) struct Posterior<'a> {
    pub(super) groups: &'a [GroupVotes<'a>],
    /// 1 / sd^2 of each strength.
    pub(super) precision: f64,
    pub(super) bias: BiasTerm,
}

/// A point: the strengths of each group, and the bias.
#[derive(Clone)]
pub(super) struct Point {
    pub(super) thetas: Vec<Vec<f64>>,
    pub(super) beta: f64,
}

/// The maximum of a posterior.
pub(super) struct Maximum {
    pub(super) at: Point,
    /// Variance of the bias; 0 if it is fixed.
    pub(super) bias_variance: f64,
    /// Newton steps taken.
    pub(super) iterations: usize,
}

/// The two presentation orders of a match with the sign that beta has in a's logit.
fn orders(pair: &MatchVotes) -> [(f64, VoteCounts); 2] {
    [(1.0, pair.a_first), (-1.0, pair.b_first)]
}

/// Derivatives of one group's posterior at a point, with the curvatures negated.
pub(super) struct GroupSlopes {
    by_theta: Vec<f64>,
    by_beta: f64,
    pub(super) curvature: Curvature,
    /// Mixed curvature of strengths and bias.
    pub(super) mixed: Vec<f64>,
    /// Curvature of the bias, without its prior.
    of_beta: f64,
}

impl Posterior<'_> {
    /// The maximum, by Newton's method on the strictly concave objective, each step halved until it
    /// does not lose. The groups only share the bias: each is solved on its own, and the bias from
    /// what they leave of its gradient and curvature (a Schur complement).
    pub(super) fn maximum(&self) -> Maximum {
        let beta = match self.bias {
            BiasTerm::Fixed(beta) => beta,
            BiasTerm::Fitted { .. } => 0.0,
        };
        let thetas = self.groups.iter().map(|group| vec![0.0; group.n]).collect();
        let mut at = Point { thetas, beta };
        let mut value = self.log_density(&at);
        let mut iterations = 0;
        let mut bias_variance = 0.0;
        while iterations < MAX_ITERATIONS {
            let (step, variance) = self.newton_step(&at);
            bias_variance = variance;
            iterations += 1;
            let largest = step.largest();
            let mut fraction = 1.0;
            let (next, next_value) = loop {
                let next = at.moved(&step, fraction);
                let next_value = self.log_density(&next);
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
        Maximum { at, bias_variance, iterations }
    }

    fn log_density(&self, at: &Point) -> f64 {
        let of_bias = match self.bias {
            BiasTerm::Fixed(_) => 0.0,
            BiasTerm::Fitted { precision } => -0.5 * precision * at.beta * at.beta,
        };
        let groups = self.groups.iter().zip(&at.thetas);
        of_bias + groups.map(|(group, theta)| self.of_group(group, theta, at.beta)).sum::<f64>()
    }

    fn of_group(&self, group: &GroupVotes<'_>, theta: &[f64], beta: f64) -> f64 {
        let prior: f64 = theta.iter().map(|x| -0.5 * self.precision * x * x).sum();
        let of_match = |pair: &MatchVotes| -> f64 {
            let of_order = |(sign, votes): (f64, VoteCounts)| {
                let logit = theta[pair.a] - theta[pair.b] + sign * beta;
                f64::from(votes.a) * log_sigmoid(logit) + f64::from(votes.b) * log_sigmoid(-logit)
            };
            orders(pair).into_iter().map(of_order).sum()
        };
        prior + group.matches.iter().map(of_match).sum::<f64>()
    }

    /// The slopes of a group.
    pub(super) fn slopes(&self, group: &GroupVotes<'_>, theta: &[f64], beta: f64) -> GroupSlopes {
        let mut by_theta: Vec<f64> = theta.iter().map(|x| -self.precision * x).collect();
        let mut mixed = vec![0.0; group.n];
        let (mut by_beta, mut of_beta) = (0.0, 0.0);
        let mut pairs = Vec::with_capacity(group.matches.len());
        for pair in group.matches {
            let mut weight_of_pair = 0.0;
            for (sign, votes) in orders(pair) {
                let logit = theta[pair.a] - theta[pair.b] + sign * beta;
                let (p_a, p_b) = (sigmoid(logit), sigmoid(-logit));
                let (votes_a, votes_b) = (f64::from(votes.a), f64::from(votes.b));
                let slope = votes_a * p_b - votes_b * p_a;
                let weight = (votes_a + votes_b) * p_a * p_b;
                by_theta[pair.a] += slope;
                by_theta[pair.b] -= slope;
                by_beta += sign * slope;
                mixed[pair.a] += sign * weight;
                mixed[pair.b] -= sign * weight;
                of_beta += weight;
                weight_of_pair += weight;
            }
            pairs.push(WeightedPair { a: pair.a, b: pair.b, weight: weight_of_pair });
        }
        let curvature = Curvature::new(group.n, self.precision, pairs);
        GroupSlopes { by_theta, by_beta, curvature, mixed, of_beta }
    }

    /// The Newton step at a point, and the variance of the bias there.
    fn newton_step(&self, at: &Point) -> (Point, f64) {
        let BiasTerm::Fitted { precision } = self.bias else {
            let of_group = |(group, theta): (&GroupVotes<'_>, &Vec<f64>)| {
                let slopes = self.slopes(group, theta, at.beta);
                slopes.curvature.solve(&slopes.by_theta)
            };
            let thetas = self.groups.iter().zip(&at.thetas).map(of_group).collect();
            return (Point { thetas, beta: 0.0 }, 0.0);
        };
        let (mut slope, mut curvature) = (-precision * at.beta, precision);
        let mut solved = Vec::with_capacity(self.groups.len());
        for (group, theta) in self.groups.iter().zip(&at.thetas) {
            let slopes = self.slopes(group, theta, at.beta);
            let alone = slopes.curvature.solve(&slopes.by_theta);
            let per_beta = slopes.curvature.solve(&slopes.mixed);
            let along = |x: &[f64]| slopes.mixed.iter().zip(x).map(|(m, x)| m * x).sum::<f64>();
            slope += slopes.by_beta - along(&alone);
            curvature += slopes.of_beta - along(&per_beta);
            solved.push((alone, per_beta));
        }
        let beta = slope / curvature;
        let of_group = |(alone, per_beta): (Vec<f64>, Vec<f64>)| {
            alone.iter().zip(&per_beta).map(|(alone, per_beta)| alone - per_beta * beta).collect()
        };
        (Point { thetas: solved.into_iter().map(of_group).collect(), beta }, 1.0 / curvature)
    }
}

impl Point {
    fn largest(&self) -> f64 {
        let steps = self.thetas.iter().flatten().chain([&self.beta]);
        steps.fold(0.0_f64, |most, x| most.max(x.abs()))
    }

    fn moved(&self, step: &Self, fraction: f64) -> Self {
        let moved = |(x, s): (&f64, &f64)| x + fraction * s;
        let of_group =
            |(at, step): (&Vec<f64>, &Vec<f64>)| at.iter().zip(step).map(moved).collect();
        Self {
            thetas: self.thetas.iter().zip(&step.thetas).map(of_group).collect(),
            beta: self.beta + fraction * step.beta,
        }
    }
}

/// log sigmoid(x) without overflow or cancellation.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
