//! Expressions in which `i` is the imaginary unit: `(1+i)^2` is `2i`.
//!
//! It knows sums, products, quotients and whole powers of rational numbers; it does not know
//! whether a letter `i` was meant as the unit.

use num_traits::{One as _, ToPrimitive as _, Zero as _};

use super::expression::Expr;
use super::number::Rational;

/// Maximum number of bits of a power; larger ones are not computed.
const MAX_POWER_BITS: u64 = 1 << 12;

/// Whether two expressions, at least one with `i` and none with another symbol, have the same
/// complex value.
pub(super) fn same(a: &Expr, b: &Expr) -> bool {
    if !a.has_symbols() && !b.has_symbols() {
        return false;
    }
    match (Complex::of(a), Complex::of(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

/// A complex number with rational parts.
#[derive(Clone, PartialEq)]
struct Complex {
    re: Rational,
    im: Rational,
}

impl Complex {
    fn of(expr: &Expr) -> Option<Self> {
        let zero = Rational::zero;
        Some(match expr {
            Expr::Symbol(name) if name == "i" => Self { re: zero(), im: Rational::one() },
            Expr::Neg(a) => Self { re: zero(), im: zero() }.minus(Self::of(a)?),
            Expr::Add(a, b) => {
                let (a, b) = (Self::of(a)?, Self::of(b)?);
                Self { re: a.re + b.re, im: a.im + b.im }
            }
            Expr::Mul(a, b) => Self::of(a)?.times(&Self::of(b)?),
            Expr::Div(a, b) => Self::of(a)?.times(&Self::of(b)?.reciprocal()?),
            Expr::Pow(base, exponent) => {
                let base = Self::of(base)?;
                let exponent = exponent.exact().filter(|exponent| exponent.is_integer())?;
                let exponent = exponent.to_integer().to_i64()?;
                let n = exponent.unsigned_abs();
                if base.bits().saturating_mul(n) > MAX_POWER_BITS {
                    return None;
                }
                let one = Self { re: Rational::one(), im: zero() };
                let power = (0..n).fold(one, |power, _| power.times(&base));
                return if exponent < 0 { power.reciprocal() } else { Some(power) };
            }
            constant => Self { re: constant.exact()?, im: zero() },
        })
    }

    /// The size of its largest part, at least 1.
    fn bits(&self) -> u64 {
        let parts = [&self.re, &self.im].map(|part| part.numer().bits().max(part.denom().bits()));
        parts[0].max(parts[1]).max(1)
    }

    fn minus(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }

    fn times(&self, other: &Self) -> Self {
        Self {
            re: &self.re * &other.re - &self.im * &other.im,
            im: &self.re * &other.im + &self.im * &other.re,
        }
    }

    fn reciprocal(&self) -> Option<Self> {
        let norm = &self.re * &self.re + &self.im * &self.im;
        (!norm.is_zero()).then(|| Self { re: &self.re / &norm, im: -&self.im / &norm })
    }
}
