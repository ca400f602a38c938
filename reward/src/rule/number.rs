//! Exact numbers of any size, and the rounding of decimals.
//!
//! It does not know expressions.

use num_bigint::{BigInt, BigUint};
use num_rational::Ratio;
use num_traits::{One as _, Pow as _, Signed as _, ToPrimitive as _, Zero as _};

/// A fraction of integers of any size.
pub(super) type Rational = Ratio<BigInt>;

/// Number of decimal places at which a decimal equals a number that it was rounded from.
const ROUNDING_PLACES: i32 = 6;

/// Maximum number of bits of a power; larger ones are not computed.
const MAX_POWER_BITS: u64 = 1 << 17;

/// Maximum number of digits of a number that is read.
const MAX_DIGITS: usize = 4096;

/// The largest number whose factorial is computed: years are in the answers of competitions.
const MAX_FACTORIAL: u32 = 3000;

/// The largest `k` of `n` over `k` where `n` is no small integer.
const MAX_SYMBOLIC_CHOICE: u32 = 20;

/// Reads `12`, `1.50`, `.5`, `2e3`, `1.5E-7`; `None` for anything else, or a number too long.
pub(super) fn parse_decimal(text: &str) -> Option<Rational> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if !is_number || digits.len() > MAX_DIGITS || places.unsigned_abs() as usize > MAX_DIGITS {
        return None;
    }
    let value = Rational::from_integer(digits.parse().ok()?);
    let scale = Rational::from_integer(BigInt::from(10).pow(places.unsigned_abs()));
    Some(if places > 0 { value / scale } else { value * scale })
}

/// `base` to a rational power, where that is a rational number that can be computed.
pub(super) fn pow(base: &Rational, exponent: &Rational) -> Option<Rational> {
    let root = exponent.denom().to_u32().filter(|root| *root <= 64)?;
    let base = if root == 1 { base.clone() } else { nth_root(base, root)? };
    let power = exponent.numer().to_i64()?;
    let n = u32::try_from(power.unsigned_abs()).ok()?;
    let bits = base.numer().bits().max(base.denom().bits());
    let is_unit = base.denom().is_one() && base.numer().bits() <= 1;
    if !is_unit && bits.saturating_mul(u64::from(n)) > MAX_POWER_BITS {
        return None;
    }
    if power < 0 && base.is_zero() {
        return None;
    }
    // numerator and denominator have no common factor, and neither have their powers
    let (numer, denom) = match is_unit {
        true if base.is_negative() && n.is_multiple_of(2) => (BigInt::one(), BigInt::one()),
        true if n == 0 => (BigInt::one(), BigInt::one()),
        true => (base.numer().clone(), BigInt::one()),
        false => (base.numer().pow(n), base.denom().pow(n)),
    };
    Some(if power < 0 { Rational::new(denom, numer) } else { Rational::new(numer, denom) })
}

/// The exact root of a number that is not negative; `None` if it is irrational.
pub(super) fn nth_root(value: &Rational, root: u32) -> Option<Rational> {
    if value.is_negative() || root == 0 {
        return None;
    }
    let exact = |part: &BigInt| {
        let found = part.nth_root(root);
        (BigInt::pow(&found, root) == *part).then_some(found)
    };
    Some(Rational::new(exact(value.numer())?, exact(value.denom())?))
}

/// `n!` of a small integer that is not negative.
pub(super) fn factorial(value: &Rational) -> Option<Rational> {
    let n = small_integer(value)?;
    let product = (2..=n).fold(BigUint::one(), |product, factor| product * factor);
    Some(Rational::from_integer(product.into()))
}

/// `n` over `k`, for a small integer `k` that is not negative.
pub(super) fn binomial(n: &Rational, k: &Rational) -> Option<Rational> {
    let k = small_integer(k)?;
    if let Some(n) = small_integer(n) {
        if k > n {
            return Some(Rational::zero());
        }
        let count = (0..k).fold(BigUint::one(), |count, idx| count * (n - idx) / (idx + 1));
        return Some(Rational::from_integer(count.into()));
    }
    // of symbols: n (n - 1) … (n - k + 1) / k!
    let factor = |idx: u32| (n - BigInt::from(idx)) / BigInt::from(idx + 1);
    (k <= MAX_SYMBOLIC_CHOICE).then(|| (0..k).map(factor).fold(Rational::one(), |a, b| a * b))
}

fn small_integer(value: &Rational) -> Option<u32> {
    let n = value.is_integer().then(|| value.to_integer().to_u32())??;
    (n <= MAX_FACTORIAL).then_some(n)
}

/// The gamma function, by the approximation of Lanczos (g = 7, 9 terms; Numerical Recipes 6.1).
pub(super) fn gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    use std::f64::consts::PI;
    if x < 0.5 {
        return PI / ((PI * x).sin() * gamma(1.0 - x));
    }
    let x = x - 1.0;
    let series = TERMS
        .iter()
        .zip(1..)
        .fold(0.999_999_999_999_809_9, |sum, (term, idx)| sum + term / (x + f64::from(idx)));
    let t = x + 7.5;
    (2.0 * PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * series
}

/// Whether two numbers, one of them a decimal, are equal once both are rounded. Two numbers so
/// small that this rounding would leave nothing of them are rounded to as many digits instead.
pub(super) fn round_to_same(a: &Rational, b: &Rational) -> bool {
    let half = Rational::new(BigInt::one(), BigInt::from(2));
    let scale = Rational::from_integer(BigInt::from(10).pow(ROUNDING_PLACES as u32));
    let rounded = |value: &Rational| {
        let magnitude = (value.abs() * &scale + &half).floor().to_integer();
        if value.is_negative() { -magnitude } else { magnitude }
    };
    let (rounded_a, rounded_b) = (rounded(a), rounded(b));
    if (rounded_a.is_zero() || rounded_b.is_zero()) && !(a.is_zero() && b.is_zero()) {
        let larger = if a.abs() > b.abs() { a.abs() } else { b.abs() };
        return (a - b).abs() * scale < larger;
    }
    rounded_a == rounded_b
}

/// [`round_to_same`] where one of the numbers is irrational.
pub(super) fn floats_round_to_same(a: f64, b: f64) -> bool {
    let scale = 10f64.powi(ROUNDING_PLACES);
    if a.abs().max(b.abs()) < 1.0 / scale {
        return (a - b).abs() * scale < a.abs().max(b.abs());
    }
    (a * scale).round() == (b * scale).round()
}

/// The nearest float; infinite where the number is too large.
pub(super) fn to_float(value: &Rational) -> f64 {
    // a quotient of about 80 bits, then scaled by a power of two
    let (numer, denom) = (value.numer(), value.denom());
    let bits = |part: &BigInt| i64::try_from(part.bits()).unwrap_or(i64::MAX);
    let shift = 80 - (bits(numer) - bits(denom));
    let quotient = match shift >= 0 {
        true => (numer << shift.unsigned_abs()) / denom,
        false => numer / (denom << shift.unsigned_abs()),
    };
    let scale = i32::try_from(-shift).map_or(f64::INFINITY, |shift| 2f64.powi(shift));
    quotient.to_f64().unwrap_or(f64::NAN) * scale
}
