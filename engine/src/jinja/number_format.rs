//! Numbers and texts in the forms that `%` and `str.format` share: precision, sign, width.

use super::display;

/// How a value is written and padded.
#[derive(Clone, Debug)]
pub(super) struct NumberStyle {
    pub(super) fill: char,
    /// `<`, `>`, `^`, or `=` for padding after the sign.
    pub(super) align: Option<char>,
    /// `-`, `+` or a blank.
    pub(super) sign: char,
    pub(super) is_alternate: bool,
    pub(super) width: usize,
    /// Separator of thousands.
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
}

impl Default for NumberStyle {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: '-',
            is_alternate: false,
            width: 0,
            grouping: None,
            precision: None,
        }
    }
}

/// An integer in the base of `kind`: d, x, X, o or b.
pub(super) fn integer(value: i128, kind: char, style: &NumberStyle) -> String {
    let magnitude = value.unsigned_abs();
    let (prefix, digits) = match kind {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        'b' => ("0b", format!("{magnitude:b}")),
        _ => ("", magnitude.to_string()),
    };
    let prefix = if style.is_alternate { prefix } else { "" };
    signed(value < 0, prefix, &digits, style)
}

/// A float in the form of `kind`: e, f, g, their capitals, or %.
pub(super) fn float(value: f64, kind: char, style: &NumberStyle) -> String {
    let digits = match kind.to_ascii_lowercase() {
        _ if value.is_nan() => "nan".to_owned(),
        _ if value.is_infinite() => "inf".to_owned(),
        'e' => exponent(value.abs(), style.precision.unwrap_or(6)),
        'g' => general(value.abs(), style.precision.unwrap_or(6), style.is_alternate),
        '%' => format!("{:.*}%", style.precision.unwrap_or(6), value.abs() * 100.0),
        'r' => display::float(value.abs()),
        _ => format!("{:.*}", style.precision.unwrap_or(6), value.abs()),
    };
    let digits = if kind.is_ascii_uppercase() { digits.to_uppercase() } else { digits };
    signed(value.is_sign_negative() && !value.is_nan(), "", &digits, style)
}

/// A number of `digits` significant digits without trailing zeros, as `%g` writes it.
pub(super) fn general(value: f64, n_digits: usize, keeps_zeros: bool) -> String {
    let n_digits = n_digits.max(1);
    let scientific = format!("{value:.*e}", n_digits - 1);
    let power: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keeps_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= n_digits as i32 {
        let text = exponent(value, n_digits - 1);
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{power}", trim(mantissa));
    }
    trim(&format!("{value:.*}", (n_digits as i32 - 1 - power).max(0) as usize))
}

/// `d.ddde+dd`
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", power.abs())
}

/// Sign, prefix and digits, padded.
fn signed(is_negative: bool, prefix: &str, digits: &str, style: &NumberStyle) -> String {
    let sign = match (is_negative, style.sign) {
        (true, _) => "-",
        (false, '+') => "+",
        (false, ' ') => " ",
        _ => "",
    };
    let head = format!("{sign}{prefix}");
    let body = match style.grouping {
        Some(separator) => grouped(digits, separator),
        None => digits.to_owned(),
    };
    if style.align.unwrap_or('>') == '=' {
        let n = style.width.saturating_sub(head.chars().count() + body.chars().count());
        let fill = style.fill.to_string().repeat(n);
        return format!("{head}{fill}{body}");
    }
    padded(&format!("{head}{body}"), '>', style)
}

/// Digits before the point in groups of three.
fn grouped(digits: &str, separator: char) -> String {
    let n_whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let mut out = String::new();
    for (idx, c) in digits[..n_whole].chars().enumerate() {
        if idx > 0 && (n_whole - idx) % 3 == 0 {
            out.push(separator);
        }
        out.push(c);
    }
    out + &digits[n_whole..]
}

/// Text with fill characters around it.
pub(super) fn padded(text: &str, default_align: char, style: &NumberStyle) -> String {
    let missing = style.width.saturating_sub(text.chars().count());
    let (before, after) = match style.align.unwrap_or(default_align) {
        '<' => (0, missing),
        '^' => (missing / 2, missing - missing / 2),
        _ => (missing, 0),
    };
    let fill = |n: usize| style.fill.to_string().repeat(n);
    format!("{}{text}{}", fill(before), fill(after))
}
