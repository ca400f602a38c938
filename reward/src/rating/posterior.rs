//! The log posterior of strengths and of one coefficient that all groups share, and its maximum.
//!
//! It does not know what the coefficient means, a position bias or a slope on lengths, and no
//! settings.

use super::curvature::{Curvature, WeightedPair};
use super::scale::sigmoid;
use super::votes::{GroupVotes, VoteCounts};

/// Newton steps before giving up. The objective is strictly concave and needs about ten.
const MAX_ITERATIONS: usize = 200;
/// The largest step, in logits, at which the fit has converged.
const STEP_TOLERANCE: f64 = 1e-11;
/// The smallest fraction of a Newton step that is tried.
const MIN_STEP_FRACTION: f64 = 1e-9;

/// The coefficient that all groups share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shared {
    /// It is this many logits.
    Fixed(f64),
    /// It is fitted with a Gaussian prior around 0 of this precision, 1 / sd^2.
    Fitted { precision: f64 },
}

/// What is added to the difference of two strengths in the logit of a vote for a.
#[derive(Clone, Copy, Debug)]
pub(super) struct VoteTerm {
    /// Logits that are known.
    pub(super) offset: f64,
    /// Factor of the shared coefficient.
    pub(super) covariate: f64,
}

/// The votes of a match: per presentation order their term and their counts.
struct PairVotes {
    a: usize,
    b: usize,
    orders: [(VoteTerm, VoteCounts); 2],
}

/// The votes of a group with their terms.
pub(super) struct GroupTerms {
    n: usize,
    pairs: Vec<PairVotes>,
}

impl GroupTerms {
    /// The votes of a group. `term` gives the term of a vote of players a and b, by a sign that is
    /// 1 if a was shown first and -1 if b was.
    pub(super) fn new(
        group: &GroupVotes<'_>,
        term: impl Fn(usize, usize, f64) -> VoteTerm,
    ) -> Self {
        let pairs = group.matches.iter().map(|pair| {
            let (a, b) = (pair.a, pair.b);
            let orders = [(term(a, b, 1.0), pair.a_first), (term(a, b, -1.0), pair.b_first)];
            PairVotes { a, b, orders }
        });
        Self { n: group.n, pairs: pairs.collect() }
    }
}

/// The log posterior of all groups, up to a constant.
pub(super) struct Posterior {
    pub(super) groups: Vec<GroupTerms>,
    /// 1 / sd^2 of each strength.
    pub(super) precision: f64,
    pub(super) shared: Shared,
}

/// A point: the strengths of each group, and the shared coefficient.
#[derive(Clone)]
pub(super) struct Point {
    pub(super) thetas: Vec<Vec<f64>>,
    pub(super) shared: f64,
}

/// The maximum of a posterior.
pub(super) struct Maximum {
    pub(super) at: Point,
    /// Variance of the shared coefficient; 0 if it is fixed.
    pub(super) shared_variance: f64,
    /// Newton steps taken.
    pub(super) iterations: usize,
}

/// Derivatives of one group's posterior at a point, with the curvatures negated.
pub(super) struct GroupSlopes {
    by_theta: Vec<f64>,
    by_shared: f64,
    pub(super) curvature: Curvature,
    /// Mixed curvature of strengths and shared coefficient.
    pub(super) mixed: Vec<f64>,
    /// Curvature of the shared coefficient, without its prior.
    of_shared: f64,
}

impl Posterior {
    /// The maximum, by Newton's method on the strictly concave objective, each step halved until it
    /// does not lose. The groups only share the coefficient: each is solved on its own, and the
    /// coefficient from what they leave of its gradient and curvature (a Schur complement).
    pub(super) fn maximum(&self) -> Maximum {
        self.maximum_from(self.groups.iter().map(|group| vec![0.0; group.n]).collect())
    }

    /// The maximum, by steps that begin at these strengths.
    pub(super) fn maximum_from(&self, thetas: Vec<Vec<f64>>) -> Maximum {
        let shared = match self.shared {
            Shared::Fixed(shared) => shared,
            Shared::Fitted { .. } => 0.0,
        };
        let mut at = Point { thetas, shared };
        let mut value = self.log_density(&at);
        let mut iterations = 0;
        let mut shared_variance = 0.0;
        while iterations < MAX_ITERATIONS {
            let (step, variance) = self.newton_step(&at);
            shared_variance = variance;
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
        Maximum { at, shared_variance, iterations }
    }

    fn log_density(&self, at: &Point) -> f64 {
        let of_shared = match self.shared {
            Shared::Fixed(_) => 0.0,
            Shared::Fitted { precision } => -0.5 * precision * at.shared * at.shared,
        };
        let groups = self.groups.iter().zip(&at.thetas);
        of_shared + groups.map(|(group, theta)| self.of_group(group, theta, at.shared)).sum::<f64>()
    }

    fn of_group(&self, group: &GroupTerms, theta: &[f64], shared: f64) -> f64 {
        let prior: f64 = theta.iter().map(|x| -0.5 * self.precision * x * x).sum();
        let of_match = |pair: &PairVotes| -> f64 {
            let of_order = |(term, votes): &(VoteTerm, VoteCounts)| {
                let logit = pair.logit(term, theta, shared);
                f64::from(votes.a) * log_sigmoid(logit) + f64::from(votes.b) * log_sigmoid(-logit)
            };
            pair.orders.iter().map(of_order).sum()
        };
        prior + group.pairs.iter().map(of_match).sum::<f64>()
    }

    /// The slopes of a group.
    pub(super) fn slopes(&self, group: &GroupTerms, theta: &[f64], shared: f64) -> GroupSlopes {
        let mut by_theta: Vec<f64> = theta.iter().map(|x| -self.precision * x).collect();
        let mut mixed = vec![0.0; group.n];
        let (mut by_shared, mut of_shared) = (0.0, 0.0);
        let mut pairs = Vec::with_capacity(group.pairs.len());
        for pair in &group.pairs {
            let mut weight_of_pair = 0.0;
            for (term, votes) in &pair.orders {
                let logit = pair.logit(term, theta, shared);
                let (p_a, p_b) = (sigmoid(logit), sigmoid(-logit));
                let (votes_a, votes_b) = (f64::from(votes.a), f64::from(votes.b));
                let slope = votes_a * p_b - votes_b * p_a;
                let weight = (votes_a + votes_b) * p_a * p_b;
                let mixed_weight = term.covariate * weight;
                by_theta[pair.a] += slope;
                by_theta[pair.b] -= slope;
                by_shared += term.covariate * slope;
                mixed[pair.a] += mixed_weight;
                mixed[pair.b] -= mixed_weight;
                of_shared += term.covariate * mixed_weight;
                weight_of_pair += weight;
            }
            pairs.push(WeightedPair { a: pair.a, b: pair.b, weight: weight_of_pair });
        }
        let curvature = Curvature::new(group.n, self.precision, pairs);
        GroupSlopes { by_theta, by_shared, curvature, mixed, of_shared }
    }

    /// The Newton step at a point, and the variance of the shared coefficient there.
    fn newton_step(&self, at: &Point) -> (Point, f64) {
        let Shared::Fitted { precision } = self.shared else {
            let of_group = |(group, theta): (&GroupTerms, &Vec<f64>)| {
                let slopes = self.slopes(group, theta, at.shared);
                slopes.curvature.solve(&slopes.by_theta)
            };
            let thetas = self.groups.iter().zip(&at.thetas).map(of_group).collect();
            return (Point { thetas, shared: 0.0 }, 0.0);
        };
        let (mut slope, mut curvature) = (-precision * at.shared, precision);
        let mut solved = Vec::with_capacity(self.groups.len());
        for (group, theta) in self.groups.iter().zip(&at.thetas) {
            let slopes = self.slopes(group, theta, at.shared);
            let alone = slopes.curvature.solve(&slopes.by_theta);
            let per_shared = slopes.curvature.solve(&slopes.mixed);
            let along = |x: &[f64]| slopes.mixed.iter().zip(x).map(|(m, x)| m * x).sum::<f64>();
            slope += slopes.by_shared - along(&alone);
            curvature += slopes.of_shared - along(&per_shared);
            solved.push((alone, per_shared));
        }
        let shared = slope / curvature;
        let of_group = |(alone, per_shared): (Vec<f64>, Vec<f64>)| {
            alone.iter().zip(&per_shared).map(|(alone, per)| alone - per * shared).collect()
        };
        (Point { thetas: solved.into_iter().map(of_group).collect(), shared }, 1.0 / curvature)
    }
}

impl PairVotes {
    /// The logit of a vote for a.
    fn logit(&self, term: &VoteTerm, theta: &[f64], shared: f64) -> f64 {
        theta[self.a] - theta[self.b] + term.offset + term.covariate * shared
    }
}

impl Point {
    fn largest(&self) -> f64 {
        let steps = self.thetas.iter().flatten().chain([&self.shared]);
        steps.fold(0.0_f64, |most, x| most.max(x.abs()))
    }

    fn moved(&self, step: &Self, fraction: f64) -> Self {
        let moved = |(x, s): (&f64, &f64)| x + fraction * s;
        let of_group =
            |(at, step): (&Vec<f64>, &Vec<f64>)| at.iter().zip(step).map(moved).collect();
        Self {
            thetas: self.thetas.iter().zip(&step.thetas).map(of_group).collect(),
            shared: self.shared + fraction * step.shared,
        }
    }
}

/// log sigmoid(x) without overflow or cancellation.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
