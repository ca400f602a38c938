//! Commands of LaTeX in an expression: fractions, roots, functions, Greek letters.
//!
//! It does not know sums and products (`grammar`).

use num_bigint::BigInt;
use num_traits::{ToPrimitive as _, Zero as _};

use super::cursor::{Cursor, Parsed};
use super::expression::{Expr, Function};
use super::grammar::digits;
use super::latex::MARKS;
use super::number::Rational;
use super::token::{NotUnderstood, Token};

impl Cursor<'_> {
    /// The arguments of `\frac` and `\binom`: groups, or single digits as in `\frac12`.
    fn two_arguments(&mut self) -> Parsed<(Expr, Expr)> {
        if let Some(Token::Number { text, repetend }) = self.peek()
            && repetend.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
        {
            self.advance();
            let (first, rest) = text.split_at(1);
            let second = match rest.is_empty() {
                true => self.nested(Self::argument)?,
                false => digits(rest)?,
            };
            return Ok((digits(first)?, second));
        }
        let first = self.nested(Self::argument)?;
        // of `\frac{1}23` the 3 stands beside the fraction
        if let Some(Token::Number { text, .. }) = self.peek()
            && text.len() > 1
        {
            return Err(NotUnderstood);
        }
        Ok((first, self.nested(Self::argument)?))
    }

    pub(super) fn command(&mut self, name: &str) -> Parsed<Expr> {
        match name {
            "frac" => {
                let (a, b) = self.two_arguments()?;
                Ok(Expr::Div(a.into(), b.into()))
            }
            "binom" => {
                let (a, b) = self.two_arguments()?;
                Ok(Expr::Binomial(a.into(), b.into()))
            }
            "sqrt" => {
                let mut degree = 2;
                if self.take(&Token::Open('[')) {
                    let written = self.expression()?;
                    self.expect(&Token::Close(']'))?;
                    if written.has_symbols() {
                        let exponent = Expr::Div(Expr::integer(1).into(), written.into());
                        return Ok(Expr::Pow(self.argument()?.into(), exponent.into()));
                    }
                    let value =
                        written.exact().filter(|value| value.is_integer() && !value.is_zero());
                    degree =
                        value.and_then(|value| value.to_integer().to_u32()).ok_or(NotUnderstood)?;
                    if degree > 64 {
                        return Err(NotUnderstood);
                    }
                }
                // of `\sqrt23` the 3 stands beside the root
                if let Some(Token::Number { text, .. }) = self.peek()
                    && text.len() > 1
                    && text.bytes().all(|byte| byte.is_ascii_digit())
                    && !self.has_space()
                {
                    self.advance();
                    let (first, rest) = text.split_at(1);
                    let root = Expr::Root(degree, digits(first)?.into());
                    return Ok(Expr::Mul(root.into(), digits(rest)?.into()));
                }
                Ok(Expr::Root(degree, self.argument()?.into()))
            }
            "pi" => Ok(Expr::Pi),
            "infty" => Ok(Expr::Infinity),
            "lfloor" | "lceil" => {
                let inner = self.expression()?;
                let (close, function) = match name {
                    "lfloor" => ("rfloor", Function::Floor),
                    _ => ("rceil", Function::Ceil),
                };
                self.expect(&Token::Command(close.to_owned()))?;
                Ok(Expr::Call(function, inner.into()))
            }
            "log" | "ln" | "lg" => self.logarithm(name),
            _ if MARKS.contains(&name) => {
                let marked = self.written(Self::argument)?;
                self.with_subscript(Expr::Symbol(format!("{name} {marked}")))
            }
            _ => match function(name) {
                Some(function) => self.call(function),
                None if is_greek(name) => self.with_subscript(Expr::Symbol(name.to_lowercase())),
                None => Err(NotUnderstood),
            },
        }
    }

    fn logarithm(&mut self, name: &str) -> Parsed<Expr> {
        let mut base = (name != "ln").then(|| Expr::integer(10));
        if self.take(&Token::Underscore) {
            // `\log_28`: one digit is the base
            if let Some(Token::Number { text, .. }) = self.peek()
                && text.len() > 1
            {
                self.advance();
                let (first, rest) = text.split_at(1);
                let of = |digit: Expr| Expr::Call(Function::Ln, digit.into());
                return Ok(Expr::Div(of(digits(rest)?).into(), of(digits(first)?).into()));
            }
            base = Some(self.argument()?);
        }
        let value = self.call(Function::Ln)?;
        Ok(match base {
            None => value,
            Some(base) => Expr::Div(value.into(), Expr::Call(Function::Ln, base.into()).into()),
        })
    }

    /// A function with its argument: `\sin(x)`, `\sin x`, `\sin 2x`, `\sin^2 x`.
    fn call(&mut self, function: Function) -> Parsed<Expr> {
        let mut power = None;
        if self.take(&Token::Caret) {
            power = Some(self.argument()?);
        }
        let is_bracketed = matches!(self.peek(), Some(Token::Open('(')));
        let inner = match is_bracketed {
            true => self.primary()?,
            false => self.call_argument()?,
        };
        match power {
            // an inverse, not a reciprocal
            Some(power) if power.exact() == Some(-Rational::from_integer(BigInt::from(1))) => {
                let inverse = match function {
                    Function::Sin => Function::Arcsin,
                    Function::Cos => Function::Arccos,
                    Function::Tan => Function::Arctan,
                    _ => return Err(NotUnderstood),
                };
                Ok(Expr::Call(inverse, inner.into()))
            }
            Some(power) => Ok(Expr::Pow(Expr::Call(function, inner.into()).into(), power.into())),
            None => Ok(Expr::Call(function, inner.into())),
        }
    }

    fn starts_function(&self) -> bool {
        match self.peek() {
            Some(Token::Command(name)) => {
                function(name).is_some() || matches!(name.as_str(), "log" | "ln" | "lg")
            }
            _ => false,
        }
    }

    /// Factors up to the next function, sum or relation.
    fn call_argument(&mut self) -> Parsed<Expr> {
        let is_negative = self.take(&Token::Minus);
        let mut product = self.factor()?;
        while self.starts_factor() && !self.starts_function() {
            product = Expr::Mul(product.into(), self.factor()?.into());
        }
        Ok(if is_negative { Expr::Neg(product.into()) } else { product })
    }
}

fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "tan" => Function::Tan,
        "cot" => Function::Cot,
        "sec" => Function::Sec,
        "csc" => Function::Csc,
        "arcsin" => Function::Arcsin,
        "arccos" => Function::Arccos,
        "arctan" => Function::Arctan,
        "sinh" => Function::Sinh,
        "cosh" => Function::Cosh,
        "tanh" => Function::Tanh,
        "exp" => Function::Exp,
        _ => return None,
    })
}

fn is_greek(name: &str) -> bool {
    const NAMES: [&str; 34] = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Sigma",
        "Phi",
        "Psi",
        "Omega",
        "ell",
    ];
    NAMES.contains(&name)
}
