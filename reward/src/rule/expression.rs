//! Expressions, and their value: exact where it is rational, a float elsewhere.
//!
//! It does not know how expressions are written. Whether two expressions with symbols are the same
//! function is decided by their values at fixed points.

use num_bigint::BigInt;
use num_traits::{Signed as _, Zero as _};

use super::number::{self, Rational};

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Exp,
    Ln,
    Abs,
    Floor,
    Ceil,
}

/// An expression, not simplified.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// A number. One that was written with a point is compared after rounding.
    Number {
        value: Rational,
        is_decimal: bool,
    },
    /// A variable, in lower case.
    Symbol(String),
    Pi,
    Euler,
    Infinity,
    Neg(Box<Expr>),
    Add(Box<Expr>, Box<Expr>),
    Mul(Box<Expr>, Box<Expr>),
    Div(Box<Expr>, Box<Expr>),
    Pow(Box<Expr>, Box<Expr>),
    /// A root of an integer degree.
    Root(u32, Box<Expr>),
    Percent(Box<Expr>),
    Factorial(Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    Mod(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
    /// A function that only has a name.
    Unknown(String, Box<Expr>),
}

/// Numbers for the symbols, each a function of the symbol's name.
#[derive(Clone, Copy)]
struct SamplePoint(u64);

/// Maximum number of bits of both denominators of an exact sum; longer ones are floats.
const MAX_SUM_BITS: u64 = 1 << 13;

/// Number of points near zero, of points of a size of 10 to 16, and of those up to 1000.
const N_NEAR: u64 = 6;
const N_MIDDLE: u64 = 6;
const N_FAR: u64 = 4;

impl SamplePoint {
    fn draw(self, name: &str) -> u64 {
        // FNV-1a, which is the same on every machine
        let start = 0xcbf2_9ce4_8422_2325_u64 ^ self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = name.bytes().fold(start, mix);
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
    }

    /// Between 1/4 and 13/4 at the points near zero, then larger. All symbols are positive at some
    /// points and negative at others; in between their signs differ by the parity of their names,
    /// and then by chance.
    fn value(self, name: &str) -> Rational {
        let draw = self.draw(name);
        let magnitude = match self.0 {
            ..N_NEAR => (1009 + draw % 12_107, 4036 + draw % 7),
            _ if self.is_far() => (300 * 4001 + draw % (700 * 4001), 4001),
            _ => (10 * 4001 + draw % (6 * 4001), 4001),
        };
        let parity = name.bytes().fold(0, |sum, byte| sum + u64::from(byte)) % 2;
        let is_negative = match self.0 {
            0..3 | 6 | 12 => false,
            3 | 7 | 13 => true,
            4 | 8 | 14 => parity == 0,
            5 | 9 | 15 => parity == 1,
            _ => (draw >> 17) & 1 == 1,
        };
        let magnitude = Rational::new(BigInt::from(magnitude.0), BigInt::from(magnitude.1));
        if is_negative { -magnitude } else { magnitude }
    }

    /// Whether floats are too coarse at this point: `sin(x^9)`.
    fn is_far(self) -> bool {
        self.0 >= N_NEAR + N_MIDDLE
    }
}

impl Expr {
    pub(super) fn integer(value: i64) -> Self {
        Self::Number { value: Rational::from_integer(BigInt::from(value)), is_decimal: false }
    }

    pub(super) fn has_symbols(&self) -> bool {
        match self {
            Self::Symbol(_) | Self::Unknown(..) => true,
            Self::Number { .. } | Self::Pi | Self::Euler | Self::Infinity => false,
            Self::Neg(a) | Self::Root(_, a) | Self::Percent(a) | Self::Factorial(a) => {
                a.has_symbols()
            }
            Self::Call(_, a) => a.has_symbols(),
            Self::Add(a, b)
            | Self::Mul(a, b)
            | Self::Div(a, b)
            | Self::Pow(a, b)
            | Self::Mod(a, b)
            | Self::Binomial(a, b) => a.has_symbols() || b.has_symbols(),
        }
    }

    /// Number of different symbols, at most two.
    pub(super) fn has_several_symbols(&self) -> bool {
        let mut names = Vec::new();
        self.collect_symbols(&mut names);
        names.len() > 1
    }

    fn collect_symbols<'a>(&'a self, names: &mut Vec<&'a str>) {
        match self {
            Self::Symbol(name) => {
                if !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
            Self::Number { .. } | Self::Pi | Self::Euler | Self::Infinity => {}
            Self::Neg(a) | Self::Root(_, a) | Self::Percent(a) | Self::Factorial(a) => {
                a.collect_symbols(names);
            }
            Self::Call(_, a) | Self::Unknown(_, a) => a.collect_symbols(names),
            Self::Add(a, b)
            | Self::Mul(a, b)
            | Self::Div(a, b)
            | Self::Pow(a, b)
            | Self::Mod(a, b)
            | Self::Binomial(a, b) => {
                a.collect_symbols(names);
                b.collect_symbols(names);
            }
        }
    }

    /// Whether it has the same value, other than zero, at all points.
    pub(super) fn is_constant_function(&self) -> bool {
        let values: Vec<f64> = (0..N_NEAR).map(|point| self.float_at(SamplePoint(point))).collect();
        let is_same =
            |value: &f64| value.is_finite() && (value - values[0]).abs() <= 1e-9 * values[0].abs();
        values[0] != 0.0 && values.iter().all(is_same)
    }

    /// Whether it stands for a quantity that can be given a value: a symbol, a sum, a product or a
    /// call of symbols.
    pub(super) fn is_only_symbols(&self) -> bool {
        match self {
            Self::Symbol(_) => true,
            Self::Mul(a, b) | Self::Div(a, b) | Self::Add(a, b) => {
                a.is_only_symbols() && b.is_only_symbols()
            }
            Self::Unknown(_, a) => a.is_only_symbols(),
            _ => false,
        }
    }

    /// Whether it is a number written with a point, perhaps with a sign or as a percentage.
    fn is_decimal(&self) -> bool {
        match self {
            Self::Number { is_decimal, .. } => *is_decimal,
            Self::Neg(inner) | Self::Percent(inner) => inner.is_decimal(),
            _ => false,
        }
    }

    /// The integer that is written here, perhaps as a percentage: `9%` gives 9.
    fn integer_or_percentage(&self) -> Option<Rational> {
        match self {
            Self::Number { value, is_decimal: false } if value.is_integer() => Some(value.clone()),
            Self::Percent(inner) => inner.integer_or_percentage(),
            Self::Neg(inner) if matches!(**inner, Self::Number { .. }) => {
                inner.integer_or_percentage().map(|value| -value)
            }
            _ => None,
        }
    }

    /// Infinity with its sign.
    fn infinite_sign(&self) -> Option<bool> {
        match self {
            Self::Infinity => Some(true),
            Self::Neg(inner) => inner.infinite_sign().map(|sign| !sign),
            _ => None,
        }
    }

    /// The rational number that a constant expression is.
    pub(super) fn exact(&self) -> Option<Rational> {
        self.exact_at(SamplePoint(0)).filter(|_| !self.has_symbols())
    }

    /// The number that a constant expression is, if it is real and finite.
    pub(super) fn float(&self) -> Option<f64> {
        match self.infinite_sign() {
            Some(true) => return Some(f64::INFINITY),
            Some(false) => return Some(f64::NEG_INFINITY),
            None => {}
        }
        Some(self.float_at(SamplePoint(0))).filter(|value| !self.has_symbols() && value.is_finite())
    }

    fn exact_at(&self, point: SamplePoint) -> Option<Rational> {
        Some(match self {
            Self::Number { value, .. } => value.clone(),
            Self::Symbol(name) => point.value(name),
            Self::Neg(a) => -a.exact_at(point)?,
            Self::Add(a, b) => {
                let (a, b) = (a.exact_at(point)?, b.exact_at(point)?);
                // the denominators of a long sum grow without end
                if a.denom().bits() + b.denom().bits() > MAX_SUM_BITS {
                    return None;
                }
                a + b
            }
            Self::Mul(a, b) => a.exact_at(point)? * b.exact_at(point)?,
            Self::Div(a, b) => {
                let (a, b) = (a.exact_at(point)?, b.exact_at(point)?);
                return (!b.is_zero()).then(|| a / b);
            }
            Self::Pow(a, b) => number::pow(&a.exact_at(point)?, &b.exact_at(point)?)?,
            Self::Root(degree, a) => {
                let a = a.exact_at(point)?;
                match a.is_negative() && degree % 2 == 1 {
                    true => -number::nth_root(&-a, *degree)?,
                    false => number::nth_root(&a, *degree)?,
                }
            }
            Self::Percent(a) => a.exact_at(point)? / BigInt::from(100),
            Self::Factorial(a) => number::factorial(&a.exact_at(point)?)?,
            Self::Binomial(a, b) => number::binomial(&a.exact_at(point)?, &b.exact_at(point)?)?,
            Self::Mod(a, b) => {
                let (a, b) = (a.exact_at(point)?, b.exact_at(point)?);
                if b.is_zero() {
                    return None;
                }
                let times = (&a / &b).floor();
                a - b * times
            }
            Self::Call(Function::Abs, a) => a.exact_at(point)?.abs(),
            Self::Call(Function::Floor, a) => a.exact_at(point)?.floor(),
            Self::Call(Function::Ceil, a) => a.exact_at(point)?.ceil(),
            Self::Call(..) | Self::Unknown(..) | Self::Pi | Self::Euler | Self::Infinity => {
                return None;
            }
        })
    }

    /// The size of the largest term of the sums in it; zero if it has none.
    fn largest_term(&self, point: SamplePoint) -> f64 {
        let of = |part: &Self| part.largest_term(point);
        match self {
            Self::Add(a, b) => {
                let terms = a.float_at(point).abs().max(b.float_at(point).abs());
                let terms = if terms.is_finite() { terms } else { 0.0 };
                terms.max(of(a)).max(of(b))
            }
            Self::Neg(a) | Self::Root(_, a) | Self::Percent(a) | Self::Factorial(a) => of(a),
            Self::Call(_, a) | Self::Unknown(_, a) => of(a),
            Self::Mul(a, b) | Self::Div(a, b) | Self::Pow(a, b) => of(a).max(of(b)),
            Self::Mod(a, b) | Self::Binomial(a, b) => of(a).max(of(b)),
            Self::Symbol(_) | Self::Number { .. } => 0.0,
            Self::Pi | Self::Euler | Self::Infinity => 0.0,
        }
    }

    fn float_at(&self, point: SamplePoint) -> f64 {
        if let Some(value) = self.exact_at(point) {
            return number::to_float(&value);
        }
        match self {
            Self::Number { value, .. } => number::to_float(value),
            Self::Symbol(name) => number::to_float(&point.value(name)),
            Self::Pi => std::f64::consts::PI,
            Self::Euler => std::f64::consts::E,
            Self::Infinity => f64::INFINITY,
            Self::Neg(a) => -a.float_at(point),
            Self::Add(a, b) => a.float_at(point) + b.float_at(point),
            Self::Mul(a, b) => a.float_at(point) * b.float_at(point),
            Self::Div(a, b) => a.float_at(point) / b.float_at(point),
            Self::Pow(a, b) => a.float_at(point).powf(b.float_at(point)),
            Self::Root(degree, a) => match a.float_at(point) {
                a if a < 0.0 && degree % 2 == 1 => -(-a).powf(1.0 / f64::from(*degree)),
                a if *degree == 2 => a.sqrt(),
                a => a.powf(1.0 / f64::from(*degree)),
            },
            Self::Percent(a) => a.float_at(point) / 100.0,
            Self::Mod(a, b) => a.float_at(point).rem_euclid(b.float_at(point)),
            Self::Factorial(a) => number::gamma(a.float_at(point) + 1.0),
            Self::Binomial(a, b) => {
                let (a, b) = (a.float_at(point), b.float_at(point));
                number::gamma(a + 1.0) / (number::gamma(b + 1.0) * number::gamma(a - b + 1.0))
            }
            Self::Call(function, a) => function.value(a.float_at(point)),
            // another name or another argument gives another number
            Self::Unknown(name, a) => {
                let draw = point.draw(&format!("{name}({:.9e})", a.float_at(point)));
                (draw % 1_000_003) as f64 / 400_000.0
            }
        }
    }
}

impl Function {
    fn value(self, x: f64) -> f64 {
        match self {
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Cot => 1.0 / x.tan(),
            Self::Sec => 1.0 / x.cos(),
            Self::Csc => 1.0 / x.sin(),
            Self::Arcsin => x.asin(),
            Self::Arccos => x.acos(),
            Self::Arctan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Tanh => x.tanh(),
            Self::Exp => x.exp(),
            Self::Ln if x > 0.0 => x.ln(),
            Self::Ln => f64::NAN,
            Self::Abs => x.abs(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
        }
    }
}

/// Whether two expressions have the same value; `None` if that cannot be told.
pub(super) fn same_value(a: &Expr, b: &Expr) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    if a.has_symbols() || b.has_symbols() {
        return same_function(a, b);
    }
    match (a.infinite_sign(), b.infinite_sign()) {
        (None, None) => {}
        (a, b) => return Some(a == b),
    }
    if let (Some(a), Some(b)) = (a.integer_or_percentage(), b.integer_or_percentage())
        && a == b
    {
        return Some(true);
    }
    let has_decimal = a.is_decimal() || b.is_decimal();
    if let (Some(exact_a), Some(exact_b)) = (a.exact(), b.exact()) {
        // a decimal beside an integer was not rounded
        let is_whole = (a.is_decimal() != b.is_decimal())
            && (exact_a.is_integer() && !a.is_decimal() || exact_b.is_integer() && !b.is_decimal());
        return Some(match has_decimal && !is_whole {
            true => number::round_to_same(&exact_a, &exact_b),
            false => exact_a == exact_b,
        });
    }
    let (a, b) = (a.float()?, b.float()?);
    Some(if has_decimal { number::floats_round_to_same(a, b) } else { near(a, b) })
}

/// Whether two floats differ by no more than the error of computing them.
fn near(a: f64, b: f64) -> bool {
    let size = a.abs().max(b.abs());
    (a - b).abs() <= 1e-12 * size || ((a == 0.0 || b == 0.0) && size < 1e-14)
}

fn same_function(a: &Expr, b: &Expr) -> Option<bool> {
    let mut n_compared = 0;
    for point in (0..N_NEAR + N_MIDDLE + N_FAR).map(SamplePoint) {
        if let (Some(a), Some(b)) = (a.exact_at(point), b.exact_at(point)) {
            if a != b {
                return Some(false);
            }
            n_compared += 1;
            continue;
        }
        if point.is_far() {
            continue;
        }
        let (value_a, value_b) = (a.float_at(point), b.float_at(point));
        match (value_a.is_finite(), value_b.is_finite()) {
            // neither is defined there
            (false, false) => {}
            (true, true) => {
                let difference = (value_a - value_b).abs();
                let size = value_a.abs().max(value_b.abs());
                // what is left of terms that cancel has the error of the terms
                let error = 1e-12 * a.largest_term(point).max(b.largest_term(point));
                if difference > 1e-9 * size {
                    if difference > error {
                        return Some(false);
                    }
                    // too coarse to tell, whatever is compared: an answer chooses its own terms
                    if error > 1e-6 * size.max(1e-3) {
                        continue;
                    }
                }
                n_compared += 1;
            }
            // a power too large for a float
            _ if value_a.is_infinite() || value_b.is_infinite() => {}
            _ => return Some(false),
        }
    }
    (n_compared > 0).then_some(true)
}
