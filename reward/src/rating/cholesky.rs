//! Cholesky factors of small dense symmetric positive definite matrices.
//!
//! Knows matrices of a few dozen rows, stored row by row. It does not pivot and does not know
//! sparsity.

/// The lower triangular L with L L^T = A.
pub(super) struct Cholesky {
    n: usize,
    /// Row-major, `n * n`; only the lower triangle is used.
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors a row-major matrix of `n` rows, of which only the lower triangle is read.
    ///
    /// `None` if it is not positive definite in floating point.
    pub(super) fn new(n: usize, mut matrix: Vec<f64>) -> Option<Self> {
        for row in 0..n {
            for column in 0..=row {
                let dot: f64 =
                    (0..column).map(|k| matrix[row * n + k] * matrix[column * n + k]).sum();
                let rest = matrix[row * n + column] - dot;
                matrix[row * n + column] = if column < row {
                    rest / matrix[column * n + column]
                } else if rest > 0.0 && rest.is_finite() {
                    rest.sqrt()
                } else {
                    return None;
                };
            }
        }
        Some(Self { n, lower: matrix })
    }

    /// Solves A x = b in place.
    pub(super) fn solve(&self, b: &mut [f64]) {
        let (n, lower) = (self.n, &self.lower);
        for row in 0..n {
            let dot: f64 = (0..row).map(|k| lower[row * n + k] * b[k]).sum();
            b[row] = (b[row] - dot) / lower[row * n + row];
        }
        for row in (0..n).rev() {
            let dot: f64 = (row + 1..n).map(|k| lower[k * n + row] * b[k]).sum();
            b[row] = (b[row] - dot) / lower[row * n + row];
        }
    }

    /// Returns x^T A^-1 x.
    pub(super) fn inverse_quadratic_form(&self, x: &[f64]) -> f64 {
        let mut solved = x.to_vec();
        self.solve(&mut solved);
        x.iter().zip(&solved).map(|(x, y)| x * y).sum()
    }
}
