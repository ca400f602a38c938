//! The negative Hessian of a group's strengths: a multiple of the identity, from the prior, plus
//! the Laplacian of the graph of matches.
//!
//! It solves systems with it: small groups by Cholesky's method, large ones, in which a player
//! meets few others, by conjugate gradients. It does not know votes.

use super::cholesky::{Cholesky, dot};

/// Maximum number of players of a group whose matrix is factored for every solution.
const MAX_FACTORED: usize = 128;

/// Iterations of the conjugate gradients before the matrix is factored after all. The prior bounds
/// the condition number, and groups with the usual prior need about thirty.
const MAX_CG_ITERATIONS: usize = 400;
/// The residual, relative to the right-hand side, of a solution by conjugate gradients.
const CG_TOLERANCE: f64 = 1e-14;

/// An edge of the graph: two players that met, and the weight of their votes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightedPair {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) weight: f64,
}

/// `precision * I + L`, with the Laplacian L of `pairs`.
pub(super) struct Curvature {
    n: usize,
    precision: f64,
    pairs: Vec<WeightedPair>,
    diagonal: Vec<f64>,
    factor: Option<Cholesky>,
}

impl Curvature {
    pub(super) fn new(n: usize, precision: f64, pairs: Vec<WeightedPair>) -> Self {
        let mut diagonal = vec![precision; n];
        for &WeightedPair { a, b, weight } in &pairs {
            diagonal[a] += weight;
            diagonal[b] += weight;
        }
        let mut curvature = Self { n, precision, pairs, diagonal, factor: None };
        if n <= MAX_FACTORED {
            curvature.factor = Some(curvature.factored(0.0));
        }
        curvature
    }

    /// The factors of the matrix plus `level` / n in every entry.
    fn factored(&self, level: f64) -> Cholesky {
        let n = self.n;
        let mut matrix = vec![level / n as f64; n * n];
        for (player, value) in self.diagonal.iter().enumerate() {
            matrix[player * n + player] += value;
        }
        for &WeightedPair { a, b, weight } in &self.pairs {
            matrix[a.max(b) * n + a.min(b)] -= weight;
        }
        Cholesky::new(n, matrix)
            .expect("A prior makes the curvature positive definite. This is a bug.")
    }

    /// The solution x of A x = b.
    pub(super) fn solve(&self, b: &[f64]) -> Vec<f64> {
        let by_factors = |factor: &Cholesky| {
            let mut solution = b.to_vec();
            factor.solve(&mut solution);
            solution
        };
        match &self.factor {
            Some(factor) => by_factors(factor),
            None => self.iterated(b).unwrap_or_else(|| by_factors(&self.factored(0.0))),
        }
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        let mut product: Vec<f64> = self.diagonal.iter().zip(x).map(|(d, x)| d * x).collect();
        for &WeightedPair { a, b, weight } in &self.pairs {
            product[a] -= weight * x[b];
            product[b] -= weight * x[a];
        }
        product
    }

    /// The solution by conjugate gradients, preconditioned by the diagonal; `None` if it does not
    /// converge.
    fn iterated(&self, b: &[f64]) -> Option<Vec<f64>> {
        let scaled = |residual: &[f64]| -> Vec<f64> {
            residual.iter().zip(&self.diagonal).map(|(r, d)| r / d).collect()
        };
        let enough = CG_TOLERANCE * dot(b, b).sqrt();
        let mut x = vec![0.0; self.n];
        let mut residual = b.to_vec();
        let mut direction = scaled(&residual);
        let mut energy = dot(&residual, &direction);
        for _ in 0..MAX_CG_ITERATIONS {
            if dot(&residual, &residual).sqrt() <= enough {
                return Some(x);
            }
            let image = self.times(&direction);
            let length = energy / dot(&direction, &image);
            for player in 0..self.n {
                x[player] += length * direction[player];
                residual[player] -= length * image[player];
            }
            let preconditioned = scaled(&residual);
            let next = dot(&residual, &preconditioned);
            let share = next / energy;
            for (old, new) in direction.iter_mut().zip(preconditioned) {
                *old = new + share * *old;
            }
            energy = next;
        }
        None
    }

    /// Per player the variance e^T A^-1 e, with e = unit_i - 1/n: what is known of its strength
    /// within the group.
    pub(super) fn centred_variances(&self) -> Vec<f64> {
        let n = self.n;
        if let Some(factor) = &self.factor {
            let of_player = |player: usize| {
                let mut contrast = vec![-1.0 / n as f64; n];
                contrast[player] += 1.0;
                factor.inverse_quadratic_form(&contrast)
            };
            return (0..n).map(of_player).collect();
        }
        // A and its inverse scale the vector of ones. With A + 1/n in every entry, which leaves all
        // contrasts as they are, that scale is precision + 1, and nothing large is subtracted
        let of_ones = 1.0 / (n as f64 * (self.precision + 1.0));
        let diagonal = self.factored(1.0).inverse_diagonal();
        diagonal.into_iter().map(|value| value - of_ones).collect()
    }
}

#[cfg(test)]
mod tests {
    use joust_schema::seed::Seed;

    use super::*;

    /// A group in which every player meets `n_met` others.
    fn ring(n: usize, n_met: usize, precision: f64) -> Curvature {
        let draw = |a: usize, b: usize| Seed::new(a as u64).child("weight", b as u64).unit();
        let pairs = (0..n).flat_map(|a| {
            (1..=n_met / 2).map(move |step| {
                let b = (a + step * step) % n;
                WeightedPair { a, b, weight: draw(a, b) }
            })
        });
        Curvature::new(n, precision, pairs.collect())
    }

    #[test]
    fn large_groups_have_the_numbers_of_factored_ones() {
        for precision in [0.44, 1e-3, 10.0] {
            let curvature = ring(200, 10, precision);
            assert!(curvature.factor.is_none());
            let factor = curvature.factored(0.0);
            let b: Vec<f64> = (0..200).map(|i| Seed::new(i).unit() - 0.5).collect();
            let mut wanted = b.clone();
            factor.solve(&mut wanted);
            let seen = curvature.iterated(&b).expect("it converges");
            for (seen, wanted) in seen.iter().zip(&wanted) {
                assert!((seen - wanted).abs() < 1e-11 / precision, "{seen} {wanted}");
            }
            let variances = curvature.centred_variances();
            for player in [0, 1, 57, 199] {
                let mut contrast = vec![-1.0 / 200.0; 200];
                contrast[player] += 1.0;
                let wanted = factor.inverse_quadratic_form(&contrast);
                assert!((variances[player] - wanted).abs() < 1e-12 / precision);
            }
        }
    }

    #[test]
    fn system_that_conjugate_gradients_do_not_solve_is_factored() {
        // a chain, almost without a prior: each iteration reaches one player further from either
        // end, so the allowed iterations do not reach the middle
        let pairs = (0..999).map(|a| WeightedPair { a, b: a + 1, weight: 1.0 });
        let curvature = Curvature::new(1_000, 1e-8, pairs.collect());
        let mut b = vec![0.0; 1_000];
        (b[0], b[999]) = (1.0, -1.0);
        assert!(curvature.iterated(&b).is_none());
        let back = curvature.times(&curvature.solve(&b));
        for (back, wanted) in back.iter().zip(&b) {
            assert!((back - wanted).abs() < 1e-6, "{back} {wanted}");
        }
    }
}
