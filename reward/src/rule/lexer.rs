//! Splits an answer, in LaTeX or plain text, into tokens.
//!
//! Spacing, styles and currency signs are dropped, spellings of one symbol become one token. It
//! does not know what a sequence of tokens means.

use super::latex::{DROPPED, SPACES, TEXTS};
use super::signs::{fraction, greek, superscript};
use super::token::{NotUnderstood, Relation, Spaced, Token};
use super::units;

/// Plain words that mean what the command of their name means.
const WORDS: [&str; 10] =
    ["sqrt", "pi", "sin", "cos", "tan", "log", "ln", "exp", "inf", "infinity"];

/// Splits an answer into tokens.
///
/// # Errors
/// [`NotUnderstood`] at a character that has no meaning here.
pub(super) fn tokens(text: &str) -> Result<Vec<Spaced>, NotUnderstood> {
    let mut lexer = AnswerLexer { text, rest: text, has_space: false, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.next()?;
    }
    Ok(lexer.tokens)
}

struct AnswerLexer<'a> {
    text: &'a str,
    rest: &'a str,
    has_space: bool,
    tokens: Vec<Spaced>,
}

impl<'a> AnswerLexer<'a> {
    fn push(&mut self, token: Token) {
        self.tokens.push(Spaced { token, has_space: std::mem::take(&mut self.has_space) });
    }

    fn take(&mut self, n_bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn next(&mut self) -> Result<(), NotUnderstood> {
        let Some(first) = self.rest.chars().next() else { return Ok(()) };
        if first.is_ascii_digit() || (first == '.' && starts_with_digit(&self.rest[1..])) {
            self.number();
            return Ok(());
        }
        if first.is_ascii_alphabetic() {
            self.letters();
            return Ok(());
        }
        if first == '\\' {
            return self.command();
        }
        if self.rest.starts_with("**") {
            self.take(2);
            self.push(Token::Caret);
            return Ok(());
        }
        for (spelling, relation) in [
            ("<=", Relation::LessEqual),
            (">=", Relation::GreaterEqual),
            ("!=", Relation::NotEqual),
            ("==", Relation::Equal),
        ] {
            if self.rest.starts_with(spelling) {
                self.take(spelling.len());
                self.push(Token::Relation(relation));
                return Ok(());
            }
        }
        // a thousands separator that LaTeX sets without space
        if self.rest.starts_with("{,}") {
            self.take(3);
            self.push(Token::Comma);
            return Ok(());
        }
        self.take(first.len_utf8());
        self.sign(first)
    }

    /// A character that is a token, or part of none.
    fn sign(&mut self, sign: char) -> Result<(), NotUnderstood> {
        let token = match sign {
            ' ' | '\t' | '\n' | '\r' | '~' | '\u{a0}' | '\u{202f}' | '\u{2009}' => {
                self.has_space = true;
                return Ok(());
            }
            '\'' | '’' | '′' if self.is_behind_symbol() => Token::Prime,
            '$' | '€' | '£' | '¥' | '₹' | '"' | '\'' => return Ok(()),
            '.' if self.rest.trim_matches(['.', ' ', '*']).is_empty() => return Ok(()),
            '…' => return self.dots(),
            '.' if self.rest.starts_with('.') => return Ok(()),
            '(' | '[' | '{' => Token::Open(sign),
            ')' | ']' | '}' => Token::Close(sign),
            '|' => Token::Bar,
            ',' => Token::Comma,
            ';' => Token::Semicolon,
            '+' => Token::Plus,
            '-' | '\u{2212}' | '\u{2013}' => Token::Minus,
            '±' => Token::PlusMinus,
            '*' | '×' | '·' | '∙' | '⋅' => Token::Times,
            '/' | '÷' | '⁄' => Token::Divide,
            ':' => Token::Colon,
            '^' => Token::Caret,
            '_' => Token::Underscore,
            '%' => Token::Percent,
            '!' => Token::Bang,
            '°' => Token::Degree,
            '∪' => Token::Union,
            '∩' => Token::Intersection,
            '=' => Token::Relation(Relation::Equal),
            '≠' => Token::Relation(Relation::NotEqual),
            '<' => Token::Relation(Relation::Less),
            '>' => Token::Relation(Relation::Greater),
            '≤' => Token::Relation(Relation::LessEqual),
            '≥' => Token::Relation(Relation::GreaterEqual),
            '∈' => Token::Relation(Relation::In),
            '≈' => Token::Relation(Relation::Approximately),
            '&' => Token::Ampersand,
            // its digits are one number, unlike those of `\sqrt23`
            '√' if starts_with_digit(self.rest) => {
                self.push(Token::Command("sqrt".to_owned()));
                self.push(Token::Open('{'));
                self.number();
                Token::Close('}')
            }
            '√' => Token::Command("sqrt".to_owned()),
            '∞' => Token::Command("infty".to_owned()),
            '∅' => Token::Command("emptyset".to_owned()),
            'ℝ' => Token::Command("mathbb R".to_owned()),
            _ if superscript(sign).is_some() => return self.raised(sign),
            _ => match (greek(sign), fraction(sign)) {
                (Some(name), _) => Token::Command(name.to_owned()),
                (None, Some(digits)) => {
                    self.push(Token::Command("frac".to_owned()));
                    Token::Number { text: digits.to_owned(), repetend: String::new() }
                }
                (None, None) => return Err(NotUnderstood),
            },
        };
        self.push(token);
        Ok(())
    }

    /// An exponent in superscript: `10⁻⁸`.
    fn raised(&mut self, first: char) -> Result<(), NotUnderstood> {
        let rest = self.take_while(|c| superscript(c).is_some());
        let exponent: String =
            [first].into_iter().chain(rest.chars()).filter_map(superscript).collect();
        self.push(Token::Caret);
        self.push(Token::Open('{'));
        self.tokens.extend(tokens(&exponent)?);
        self.push(Token::Close('}'));
        Ok(())
    }

    fn is_behind_number(&self) -> bool {
        matches!(self.tokens.last(), Some(Spaced { token: Token::Number { .. }, .. }))
    }

    /// Whether a prime here belongs to a symbol: no quote, no foot.
    fn is_behind_symbol(&self) -> bool {
        let is_quoted = self.text.trim_start().starts_with(['\'', '‘', '’']);
        let is_symbol = match self.tokens.last().map(|last| &last.token) {
            Some(Token::Letters(_) | Token::Command(_) | Token::Prime | Token::Close(_)) => true,
            // of `x_1'`
            Some(Token::Number { .. }) => {
                let before = self.tokens.iter().nth_back(1);
                before.is_some_and(|before| before.token == Token::Underscore)
            }
            _ => false,
        };
        !is_quoted && !self.has_space && is_symbol
    }

    fn number(&mut self) {
        let mut text = self.take_while(|c| c.is_ascii_digit()).to_owned();
        // groups of three digits after thin spaces: 1\,000
        let may_group = (1..=3).contains(&text.len());
        while may_group && let Some(group) = digit_group(self.rest) {
            text.extend(self.take(group).chars().filter(char::is_ascii_digit));
        }
        let is_fraction = |rest: &str| rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if self.rest.starts_with('.')
            && (is_fraction(self.rest) || repetend(&self.rest[1..]).is_some())
        {
            self.take(1);
            text.push('.');
            text += self.take_while(|c| c.is_ascii_digit());
        }
        let mut repeating = String::new();
        if text.contains('.')
            && let Some((digits, n_bytes)) = repetend(self.rest)
        {
            digits.clone_into(&mut repeating);
            self.take(n_bytes);
        }
        if let Some(exponent) = exponent(self.rest) {
            text += self.take(exponent);
        }
        self.push(Token::Number { text, repetend: repeating });
    }

    fn letters(&mut self) {
        let word = self.take_while(|c| c.is_ascii_alphabetic());
        let token = match word {
            "and" => Token::Semicolon,
            "or" => Token::Or,
            "percent" | "percentage" | "pct" | "Percent" => Token::Percent,
            "degrees" | "degree" => Token::Degree,
            "inf" | "infinity" => Token::Command("infty".to_owned()),
            // the cross of `1.5 x 10^3`
            "x" if self.is_behind_number() && starts_power_of_ten(self.rest) => Token::Times,
            _ if WORDS.contains(&word) => Token::Command(word.to_owned()),
            _ => match units::scale(word) {
                Some(scale) => Token::Scale(scale),
                None => Token::Letters(word.to_owned()),
            },
        };
        self.push(token);
    }

    fn command(&mut self) -> Result<(), NotUnderstood> {
        self.take(1);
        let name = self.take_while(|c| c.is_ascii_alphabetic());
        if name.is_empty() {
            let Some(sign) = self.rest.chars().next() else { return Ok(()) };
            self.take(sign.len_utf8());
            match sign {
                ',' | ';' | ':' | ' ' | '\n' => self.has_space = true,
                '!' | '$' | '#' => {}
                '{' => self.push(Token::Open('S')),
                '}' => self.push(Token::Close('S')),
                '%' => self.push(Token::Percent),
                '|' => self.push(Token::Bar),
                '&' => self.push(Token::Ampersand),
                '\\' if self.rest.starts_with(|c: char| c.is_ascii_alphabetic())
                    && !self.tokens.iter().any(|t| is_begin(&t.token)) =>
                {
                    // the doubled backslash of a command
                    let name = self.take_while(|c| c.is_ascii_alphabetic());
                    return self.named(name);
                }
                '\\' => self.push(Token::RowEnd),
                '(' | ')' | '[' | ']' => {}
                _ => return Err(NotUnderstood),
            }
            return Ok(());
        }
        self.named(name)
    }

    fn named(&mut self, name: &str) -> Result<(), NotUnderstood> {
        if SPACES.contains(&name) {
            if matches!(name, "left" | "right") && self.rest.starts_with('.') {
                self.take(1);
            }
            self.has_space |= name.ends_with("quad");
            return Ok(());
        }
        if DROPPED.contains(&name) {
            self.group().ok_or(NotUnderstood)?;
            return Ok(());
        }
        if TEXTS.contains(&name) {
            let content = self.group().ok_or(NotUnderstood)?;
            return self.text(content);
        }
        let token = match name {
            "dfrac" | "tfrac" | "cfrac" => Token::Command("frac".to_owned()),
            "dbinom" | "tbinom" => Token::Command("binom".to_owned()),
            "varnothing" => Token::Command("emptyset".to_owned()),
            "mathbb" | "begin" | "end" => {
                let argument = self.group().ok_or(NotUnderstood)?;
                Token::Command(format!("{name} {}", argument.trim()))
            }
            "ldots" | "dots" | "cdots" | "dotsc" => return self.dots(),
            "lbrace" => Token::Open('S'),
            "rbrace" => Token::Close('S'),
            "lbrack" => Token::Open('['),
            "rbrack" => Token::Close(']'),
            "lparen" | "langle" => Token::Open('('),
            "rparen" | "rangle" => Token::Close(')'),
            "lvert" | "rvert" | "vert" | "mid" => Token::Bar,
            "cdot" | "times" | "ast" => Token::Times,
            "div" => Token::Divide,
            "pm" => Token::PlusMinus,
            "mp" => Token::MinusPlus,
            "le" | "leq" | "leqslant" => Token::Relation(Relation::LessEqual),
            "ge" | "geq" | "geqslant" => Token::Relation(Relation::GreaterEqual),
            "lt" => Token::Relation(Relation::Less),
            "gt" => Token::Relation(Relation::Greater),
            "ne" | "neq" => Token::Relation(Relation::NotEqual),
            "in" => Token::Relation(Relation::In),
            "approx" | "sim" => Token::Relation(Relation::Approximately),
            "cup" => Token::Union,
            "cap" => Token::Intersection,
            "setminus" | "backslash" => Token::SetMinus,
            "degree" => Token::Degree,
            "land" => Token::Semicolon,
            "lor" => Token::Or,
            _ => Token::Command(name.to_owned()),
        };
        self.push(token);
        Ok(())
    }

    /// Dots. They mean nothing at either end, and elsewhere what nobody can read.
    fn dots(&mut self) -> Result<(), NotUnderstood> {
        if !self.tokens.is_empty() && self.rest.contains(char::is_alphanumeric) {
            self.push(Token::Command("dots".to_owned()));
        }
        Ok(())
    }

    /// The content of a text: a separator, a word for a sign, a formula, or text.
    fn text(&mut self, content: &str) -> Result<(), NotUnderstood> {
        let words = content.trim().trim_matches(',').trim();
        match words {
            "" if content.contains(',') => self.push(Token::Comma),
            "" | "." => self.has_space = true,
            "and" => self.push(Token::Semicolon),
            "or" => self.push(Token::Or),
            "percent" | "percentage" | "pct" => self.push(Token::Percent),
            "degrees" | "degree" => self.push(Token::Degree),
            "\\$" | "$" => {}
            _ if is_formula(words) => self.tokens.extend(tokens(words)?),
            _ => {
                self.has_space |= content.starts_with(' ');
                let (first, others) = words.split_once(' ').unwrap_or((words, ""));
                match units::scale(first).filter(|_| self.is_behind_number()) {
                    Some(scale) if others.is_empty() => self.push(Token::Scale(scale)),
                    Some(scale) => {
                        self.push(Token::Scale(scale));
                        self.push(Token::Text(others.trim().to_owned()));
                    }
                    None if words == "x" && starts_power_of_ten(self.rest) => {
                        self.push(Token::Times);
                    }
                    None => self.push(Token::Text(words.to_owned())),
                }
            }
        }
        Ok(())
    }

    /// The content of the braces that follow, or the single character.
    fn group(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with('{') {
            let only = self.rest.chars().next()?;
            return Some(self.take(only.len_utf8()));
        }
        let mut depth = 0;
        for (at, c) in self.rest.char_indices() {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 {
                let whole = self.take(at + 1);
                return Some(&whole[1..at]);
            }
        }
        None
    }
}

/// Whether a text has a command of mathematics in it.
fn is_formula(text: &str) -> bool {
    ["\\frac", "\\dfrac", "\\tfrac", "\\sqrt", "\\pi"].iter().any(|name| text.contains(name))
}

fn is_begin(token: &Token) -> bool {
    matches!(token, Token::Command(name) if name.starts_with("begin "))
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

/// Number of bytes of a thin space, or another mark between thousands, and exactly three digits.
fn digit_group(rest: &str) -> Option<usize> {
    let space = ["\\,", "\\;", "\\ ", " ", "'", "_", "\u{202f}", "\u{2009}", "\u{a0}"];
    let space = space.into_iter().find(|space| rest.starts_with(space))?;
    let digits = rest[space.len()..].bytes().take_while(u8::is_ascii_digit).count();
    (digits == 3).then_some(space.len() + 3)
}

/// The digits of `\overline{…}` or `\bar{…}` at the start, and its length.
fn repetend(rest: &str) -> Option<(&str, usize)> {
    let marks = ["\\overline{", "\\bar{", "\\dot{"];
    let mark = marks.into_iter().find(|mark| rest.starts_with(mark))?;
    let end = rest.find('}')?;
    let digits = &rest[mark.len()..end];
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then_some((digits, end + 1))
}

/// Number of bytes of the exponent of `1e3`.
fn exponent(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix(['e', 'E'])?;
    let digits = after.strip_prefix(['+', '-']).unwrap_or(after);
    let n_digits = digits.bytes().take_while(u8::is_ascii_digit).count();
    let ends = !digits[n_digits..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
    (n_digits > 0 && ends).then_some(rest.len() - digits.len() + n_digits)
}

fn starts_power_of_ten(rest: &str) -> bool {
    rest.trim_start().starts_with("10^") || rest.trim_start().starts_with("10**")
}
