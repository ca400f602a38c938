//! Cholesky factors of dense symmetric positive definite matrices.
//!
//! Knows matrices of up to some thousand rows, stored row by row. It does not pivot and does not
//! know sparsity.

/// Number of partial sums of [`dot`], which a processor adds side by side.
const LANES: usize = 8;

/// The sum of products, in a fixed order.
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (chunks_x, chunks_y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f64 = chunks_x.remainder().iter().zip(chunks_y.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in chunks_x.zip(chunks_y) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    rest + sums.iter().sum::<f64>()
}

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
            let (done, own) = matrix.split_at_mut(row * n);
            for column in 0..row {
                let other = &done[column * n..column * n + column + 1];
                let rest = own[column] - dot(&own[..column], &other[..column]);
                own[column] = rest / other[column];
            }
            let rest = own[row] - dot(&own[..row], &own[..row]);
            if !(rest > 0.0 && rest.is_finite()) {
                return None;
            }
            own[row] = rest.sqrt();
        }
        Some(Self { n, lower: matrix })
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.lower[row * self.n..row * self.n + row + 1]
    }

    /// Solves A x = b in place.
    pub(super) fn solve(&self, b: &mut [f64]) {
        for row in 0..self.n {
            let lower = self.row(row);
            b[row] = (b[row] - dot(&lower[..row], &b[..row])) / lower[row];
        }
        for row in (0..self.n).rev() {
            let lower = self.row(row);
            b[row] /= lower[row];
            let solved = b[row];
            for (b, lower) in b[..row].iter_mut().zip(lower) {
                *b -= lower * solved;
            }
        }
    }

    /// Returns x^T A^-1 x.
    pub(super) fn inverse_quadratic_form(&self, x: &[f64]) -> f64 {
        let mut solved = x.to_vec();
        self.solve(&mut solved);
        dot(x, &solved)
    }

    /// The diagonal of A^-1: sums of squares of the columns of L^-1, which is computed row by row.
    pub(super) fn inverse_diagonal(&self) -> Vec<f64> {
        let n = self.n;
        let mut inverse = vec![0.0; n * n];
        let mut diagonal = vec![0.0; n];
        for row in 0..n {
            let lower = self.row(row);
            let (done, own) = inverse.split_at_mut(row * n);
            let own = &mut own[..row + 1];
            own[row] = 1.0;
            for (earlier, factor) in lower[..row].iter().enumerate() {
                let known = &done[earlier * n..earlier * n + earlier + 1];
                for (own, known) in own.iter_mut().zip(known) {
                    *own -= factor * known;
                }
            }
            for (value, sum) in own.iter_mut().zip(&mut diagonal) {
                *value /= lower[row];
                *sum += *value * *value;
            }
        }
        diagonal
    }
}
