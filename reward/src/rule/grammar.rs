//! Expressions as they are written: sums, products, powers, numbers and symbols.
//!
//! It does not know commands (`commands`), nor lists, sets and relations (`parse`).

use num_bigint::BigInt;
use num_traits::{Pow as _, ToPrimitive as _};

use super::cursor::{Cursor, Parsed};
use super::expression::{Expr, Function};
use super::number::{Rational, parse_decimal};
use super::token::{NotUnderstood, Token};

impl Cursor<'_> {
    /// Reads an expression, up to the first token that cannot continue it.
    ///
    /// # Errors
    /// [`NotUnderstood`]
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        let mut sum = self.term()?;
        loop {
            match self.peek() {
                Some(Token::Plus) => {
                    self.advance();
                    sum = Expr::Add(sum.into(), self.term()?.into());
                }
                Some(Token::Minus) => {
                    self.advance();
                    sum = Expr::Add(sum.into(), Expr::Neg(self.term()?.into()).into());
                }
                _ => return Ok(sum),
            }
        }
    }

    /// An expression, perhaps over another one: `3 \over 4`, `n \choose k`.
    ///
    /// # Errors
    /// [`NotUnderstood`]
    pub(super) fn expression_over(&mut self) -> Parsed<Expr> {
        let above = self.expression()?;
        let of: fn(Box<Expr>, Box<Expr>) -> Expr = match self.peek() {
            Some(Token::Command(name)) if name == "over" => Expr::Div,
            Some(Token::Command(name)) if name == "choose" => Expr::Binomial,
            _ => return Ok(above),
        };
        self.advance();
        Ok(of(above.into(), self.expression()?.into()))
    }

    fn term(&mut self) -> Parsed<Expr> {
        let mut is_negative = false;
        while let Some(sign @ (Token::Plus | Token::Minus)) = self.peek() {
            is_negative ^= *sign == Token::Minus;
            self.advance();
        }
        let mut product = self.factors()?;
        // a sign belongs to the number itself: -1\frac34 is -(1 + 3/4)
        if is_negative {
            product = Expr::Neg(product.into());
        }
        loop {
            match self.peek() {
                Some(Token::Times) => {
                    self.advance();
                    product = Expr::Mul(product.into(), self.signed_factors()?.into());
                }
                Some(Token::Divide | Token::Colon) => {
                    self.advance();
                    product = Expr::Div(product.into(), self.signed_factors()?.into());
                }
                Some(Token::Command(name)) if matches!(name.as_str(), "bmod" | "mod") => {
                    self.advance();
                    product = Expr::Mod(product.into(), self.signed_factors()?.into());
                }
                _ => return Ok(product),
            }
        }
    }

    fn signed_factors(&mut self) -> Parsed<Expr> {
        let mut is_negative = false;
        while let Some(sign @ (Token::Plus | Token::Minus)) = self.peek() {
            is_negative ^= *sign == Token::Minus;
            self.advance();
        }
        let product = self.factors()?;
        Ok(if is_negative { Expr::Neg(product.into()) } else { product })
    }

    /// Factors beside each other; an integer beside a fraction is a mixed number.
    fn factors(&mut self) -> Parsed<Expr> {
        let first = self.factor()?;
        if is_plain_integer(&first) {
            if let Some(fraction) = self.written_fraction()? {
                return Ok(Expr::Add(first.into(), fraction.into()));
            }
            if matches!(self.peek(), Some(Token::Number { .. })) {
                return Err(NotUnderstood);
            }
        }
        let mut product = first;
        while self.starts_factor() {
            if product.float().is_some() {
                // what is left may be the number's unit
                let start = self.at;
                self.skip_unit(&product);
                if self.at > start {
                    return Ok(product);
                }
            }
            // a number is no factor (`x2`, `5 6`), unless the one before has its own end
            let has_end = matches!(self.previous(), Some(Token::Bang | Token::Close(_)));
            if !has_end && matches!(self.peek(), Some(Token::Number { .. })) {
                return Err(NotUnderstood);
            }
            product = Expr::Mul(product.into(), self.nested(Self::factor)?.into());
        }
        Ok(product)
    }

    /// The fraction of a mixed number: `\frac{1}{2}` of integers, or ` 1/2`.
    fn written_fraction(&mut self) -> Parsed<Option<Expr>> {
        match (self.peek(), self.peek_at(1), self.peek_at(2)) {
            (Some(Token::Command(name)), ..) if name == "frac" => {
                let start = self.at;
                let fraction = self.nested(Self::factor)?;
                let is_fraction = matches!(&fraction, Expr::Div(a, b)
                    if is_plain_integer(a) && is_plain_integer(b));
                if !is_fraction || matches!(self.peek(), Some(Token::Caret)) {
                    self.at = start;
                    return Ok(None);
                }
                Ok(Some(fraction))
            }
            (Some(Token::Number { .. }), Some(Token::Divide), Some(Token::Number { .. }))
                if self.has_space() =>
            {
                let numerator = self.nested(Self::factor)?;
                self.advance();
                let denominator = self.nested(Self::factor)?;
                match is_plain_integer(&numerator) && is_plain_integer(&denominator) {
                    true => Ok(Some(Expr::Div(numerator.into(), denominator.into()))),
                    false => Err(NotUnderstood),
                }
            }
            _ => Ok(None),
        }
    }

    pub(super) fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Token::Letters(_) | Token::Open('(' | '[' | '{') | Token::Number { .. }) => true,
            Some(Token::Text(_)) => true,
            Some(Token::Command(name)) => {
                const ENDS: [&str; 7] =
                    ["rfloor", "rceil", "bmod", "mod", "pmod", "over", "choose"];
                !ENDS.contains(&name.as_str())
                    && !name.starts_with("begin ")
                    && !name.starts_with("end ")
                    && !name.starts_with("mathbb ")
            }
            Some(Token::Bar) => self.n_bars == 0,
            _ => false,
        }
    }

    /// A factor with what follows it: power, factorial, percent, degrees.
    pub(super) fn factor(&mut self) -> Parsed<Expr> {
        let start = self.at;
        let mut base = self.primary()?;
        loop {
            match self.peek() {
                Some(Token::Caret) => {
                    self.advance();
                    if self.is_mark() {
                        continue;
                    }
                    let exponent = self.nested(Self::argument)?;
                    base = Expr::Pow(base.into(), exponent.into());
                }
                Some(Token::Underscore) if matches!(base, Expr::Number { .. }) => {
                    // the digits are compared as they are written, and the base if both have one
                    self.advance();
                    let written_in = self.nested(Self::argument)?.exact().ok_or(NotUnderstood)?;
                    let is_base = |base: &u32| (2..=36).contains(base);
                    let written_in =
                        written_in.is_integer().then(|| written_in.to_integer().to_u32());
                    let written_in = written_in.flatten().filter(is_base).ok_or(NotUnderstood)?;
                    self.counted = Some(format!("base {written_in}"));
                }
                // `5 million`; of `1/2 million` nobody knows what is below the line
                Some(Token::Scale(scale)) => {
                    let is_below = start > 0 && self.tokens[start - 1].token == Token::Divide;
                    if is_below || !matches!(base, Expr::Number { .. }) {
                        return Err(NotUnderstood);
                    }
                    self.advance();
                    let value = Rational::from_integer(BigInt::from(*scale));
                    let scale = Expr::Number { value, is_decimal: false };
                    base = Expr::Mul(base.into(), scale.into());
                }
                Some(Token::Bang) if self.peek_at(1) == Some(&Token::Bang) => {
                    return Err(NotUnderstood);
                }
                Some(Token::Bang) => {
                    // after a number at the end of a sentence it is a factorial too
                    self.advance();
                    base = Expr::Factorial(base.into());
                }
                Some(Token::Percent) => {
                    self.advance();
                    base = Expr::Percent(base.into());
                }
                Some(Token::Degree) => self.advance(),
                _ => return Ok(base),
            }
        }
    }

    /// Whether the exponent here is no number but a mark: `^\circ`, `^{\text{th}}`; it is skipped.
    fn is_mark(&mut self) -> bool {
        let in_group = self.peek() == Some(&Token::Open('{'));
        let ahead = usize::from(in_group);
        let is_mark = match self.peek_at(ahead) {
            Some(Token::Command(name)) => name == "circ",
            Some(Token::Text(text)) => matches!(text.as_str(), "th" | "st" | "nd" | "rd" | "o"),
            Some(Token::Degree) => true,
            _ => false,
        };
        let is_closed = !in_group || self.peek_at(2) == Some(&Token::Close('}'));
        if is_mark && is_closed {
            self.at += 1 + 2 * ahead;
        }
        is_mark && is_closed
    }

    /// An argument of a command or an exponent: a group, or one character.
    pub(super) fn argument(&mut self) -> Parsed<Expr> {
        match self.peek() {
            Some(Token::Open('{')) => {
                self.advance();
                let inner = self.expression_over()?;
                self.skip_unit(&inner);
                self.expect(&Token::Close('}'))?;
                Ok(inner)
            }
            Some(Token::Minus) => {
                self.advance();
                Ok(Expr::Neg(self.argument()?.into()))
            }
            _ => self.primary(),
        }
    }

    pub(super) fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek().ok_or(NotUnderstood)?;
        self.advance();
        match token {
            Token::Number { text, repetend } => number(text, repetend),
            Token::Letters(letters) => self.symbols(letters),
            Token::Text(text) => of_text(text),
            Token::Open(open @ ('(' | '[' | '{')) => self.nested(|cursor| {
                let n_bars = std::mem::take(&mut cursor.n_bars);
                let inner = cursor.expression_over()?;
                cursor.skip_unit(&inner);
                cursor.n_bars = n_bars;
                let close = match open {
                    '(' => ')',
                    '[' => ']',
                    _ => '}',
                };
                cursor.expect(&Token::Close(close))?;
                Ok(inner)
            }),
            Token::Bar => self.nested(|cursor| {
                cursor.n_bars += 1;
                let inner = cursor.expression();
                cursor.n_bars -= 1;
                cursor.expect(&Token::Bar)?;
                Ok(Expr::Call(Function::Abs, inner?.into()))
            }),
            Token::Command(name) => self.nested(|cursor| cursor.command(name)),
            _ => Err(NotUnderstood),
        }
    }

    /// Letters beside each other are symbols multiplied; `e` is Euler's number.
    fn symbols(&mut self, letters: &str) -> Parsed<Expr> {
        let mut product: Option<Expr> = None;
        let n_letters = letters.len();
        for (idx, letter) in letters.chars().enumerate() {
            let mut symbol = match letter {
                'e' | 'E' => Expr::Euler,
                _ => Expr::Symbol(letter.to_lowercase().to_string()),
            };
            if idx + 1 == n_letters {
                symbol = self.with_subscript(symbol)?;
                let is_function = matches!(letter, 'f' | 'g' | 'h');
                if n_letters == 1 && is_function && self.peek() == Some(&Token::Open('(')) {
                    let name = match symbol {
                        Expr::Symbol(name) => name,
                        _ => letter.to_string(),
                    };
                    let inner = self.nested(Self::argument)?;
                    return Ok(Expr::Unknown(name, inner.into()));
                }
                // a power binds to the last letter alone
                if n_letters > 1 && self.peek() == Some(&Token::Caret) {
                    self.advance();
                    let exponent = self.nested(Self::argument)?;
                    symbol = Expr::Pow(symbol.into(), exponent.into());
                }
            }
            product = Some(match product {
                None => symbol,
                Some(product) => Expr::Mul(product.into(), symbol.into()),
            });
        }
        product.ok_or(NotUnderstood)
    }

    pub(super) fn with_subscript(&mut self, symbol: Expr) -> Parsed<Expr> {
        let mut name = self.primes();
        if self.take(&Token::Underscore) {
            let written = self.written(Self::argument)?;
            name += &format!("_{written}");
            name.insert_str(0, &self.primes());
        }
        Ok(match (name.as_str(), symbol) {
            ("", symbol) => symbol,
            (name, Expr::Symbol(letter)) => Expr::Symbol(letter + name),
            (name, _) => Expr::Symbol(format!("e{name}")),
        })
    }

    /// The primes here, `'` or `^{\prime}`: part of the name of the symbol before them.
    fn primes(&mut self) -> String {
        let mut primes = String::new();
        loop {
            let is_prime = |token: Option<&Token>| {
                matches!(token, Some(Token::Prime))
                    || matches!(token, Some(Token::Command(name)) if name == "prime")
            };
            let start = self.at;
            let is_raised = self.take(&Token::Caret);
            let in_group = is_raised && self.take(&Token::Open('{'));
            let n_before = primes.len();
            while is_prime(self.peek()) && (in_group || primes.len() == n_before) {
                self.advance();
                primes.push('\'');
            }
            let is_closed = !in_group || self.take(&Token::Close('}'));
            if primes.len() == n_before || !is_closed {
                primes.truncate(n_before);
                self.at = start;
                return primes;
            }
        }
    }

    /// What `parse` reads, as text.
    pub(super) fn written(&mut self, parse: fn(&mut Self) -> Parsed<Expr>) -> Parsed<String> {
        let start = self.at;
        self.nested(parse)?;
        let written: Vec<String> = self.tokens[start..self.at]
            .iter()
            .filter(|spaced| !matches!(spaced.token, Token::Open('{') | Token::Close('}')))
            .map(|spaced| match &spaced.token {
                Token::Number { text, .. } | Token::Text(text) | Token::Letters(text) => {
                    text.clone()
                }
                other => format!("{other:?}"),
            })
            .collect();
        Ok(written.concat().to_lowercase())
    }
}

fn is_plain_integer(expr: &Expr) -> bool {
    matches!(expr, Expr::Number { value, is_decimal: false } if value.is_integer())
}

pub(super) fn digits(text: &str) -> Parsed<Expr> {
    let value = parse_decimal(text).ok_or(NotUnderstood)?;
    Ok(Expr::Number { value, is_decimal: false })
}

fn number(text: &str, repetend: &str) -> Parsed<Expr> {
    let mut value = parse_decimal(text).ok_or(NotUnderstood)?;
    // 0.5 is exact enough to be a half; a repeating decimal is a fraction
    let mut is_decimal = text.contains('.');
    if !repetend.is_empty() {
        let places = text.split('.').nth(1).map_or(0, str::len);
        let period = BigInt::from(10).pow(repetend.len()) - 1;
        let repeating: BigInt = repetend.parse().map_err(|_| NotUnderstood)?;
        let denominator = period * BigInt::from(10).pow(places);
        value += Rational::new(repeating, denominator);
        is_decimal = false;
    }
    Ok(Expr::Number { value, is_decimal })
}

/// A text that stands for a value: a number, or the name of a quantity.
fn of_text(text: &str) -> Parsed<Expr> {
    let text = text.trim_matches(|c: char| matches!(c, '(' | ')' | '.' | ' ' | '$' | '\\'));
    if let Some(value) = parse_decimal(&text.replace(',', "")) {
        return Ok(Expr::Number { value, is_decimal: text.contains('.') });
    }
    let is_name = text.starts_with(char::is_alphabetic)
        && text.chars().all(|c| c.is_alphanumeric() || c == ' ');
    if is_name { Ok(Expr::Symbol(text.to_lowercase())) } else { Err(NotUnderstood) }
}
