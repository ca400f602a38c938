//! A position in the tokens of an answer.
//!
//! Knows brackets and units, which are looked over as a whole, but no expressions: those are read
//! by its methods in `grammar` and `commands`.

use super::expression::Expr;
use super::token::{NotUnderstood, Spaced, Token};
use super::units::{self, UnitPlace};

/// What was read, unless it was not understood.
pub(super) type Parsed<T> = Result<T, NotUnderstood>;

/// Maximum depth of brackets, fractions, roots and powers within each other.
const MAX_DEPTH: usize = 40;

/// A position in a list of tokens.
pub(super) struct Cursor<'a> {
    pub(super) tokens: &'a [Spaced],
    pub(super) at: usize,
    depth: usize,
    /// Number of `|` that are open.
    pub(super) n_bars: usize,
    /// What is counted by the number that was read last: `3 red balls`, or the base it is in.
    pub(super) counted: Option<String>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(tokens: &'a [Spaced]) -> Self {
        Self { tokens, at: 0, depth: 0, n_bars: 0, counted: None }
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<&'a Token> {
        self.tokens.get(self.at + ahead).map(|spaced| &spaced.token)
    }

    pub(super) fn previous(&self) -> Option<&'a Token> {
        self.tokens.get(self.at.checked_sub(1)?).map(|spaced| &spaced.token)
    }

    pub(super) fn has_space(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|spaced| spaced.has_space)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn take(&mut self, token: &Token) -> bool {
        let is_next = self.peek() == Some(token);
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn expect(&mut self, token: &Token) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(NotUnderstood) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Whether a matrix starts at a token ahead.
    pub(super) fn starts_matrix(&self, ahead: usize) -> bool {
        matches!(self.peek_at(ahead), Some(Token::Command(name)) if name.starts_with("begin "))
    }

    /// Parses one level deeper.
    pub(super) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(NotUnderstood);
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Whether the bracket here is closed behind more than one element, or by one of another kind.
    pub(super) fn holds_list(&self) -> bool {
        let (mut depth, mut has_comma) = (0, false);
        let Some(Token::Open(open)) = self.peek() else { return false };
        for spaced in &self.tokens[self.at..] {
            match spaced.token {
                Token::Open(_) => depth += 1,
                Token::Close(close) if depth == 1 => {
                    let matches = matches!((open, close), ('(', ')') | ('[', ']') | ('{', '}'));
                    return has_comma || (!matches && *open != '{');
                }
                Token::Close(_) => depth -= 1,
                Token::Comma | Token::Semicolon | Token::Or if depth == 1 => has_comma = true,
                _ => {}
            }
        }
        false
    }

    /// Skips the unit behind a number, if all that is left of the element is one.
    pub(super) fn skip_unit(&mut self, value: &Expr) {
        if value.float().is_none() {
            return;
        }
        let start = self.at;
        let place = self.unit_place();
        let mut counted = Vec::new();
        let mut is_first = true;
        loop {
            let is_part = match self.peek() {
                Some(Token::Text(text)) => {
                    counted.extend(units::distinct(text));
                    units::is_unit_text(text)
                }
                Some(Token::Degree) => true,
                Some(Token::Letters(letters)) => {
                    counted.extend(units::counted(letters));
                    !is_first || units::is_unit(letters, place)
                }
                Some(Token::Times | Token::Divide) => {
                    !is_first && matches!(self.peek_at(1), Some(Token::Text(_) | Token::Letters(_)))
                }
                Some(Token::Caret) if !is_first => {
                    self.at += 1;
                    self.skip_power()
                }
                _ => false,
            };
            if !is_part {
                break;
            }
            self.at += 1;
            is_first = false;
        }
        let ends = matches!(
            self.peek(),
            None | Some(
                Token::Comma | Token::Semicolon | Token::Or | Token::Close(_) | Token::Relation(_)
            )
        );
        if !ends {
            self.at = start;
        } else if !counted.is_empty() {
            self.counted = Some(counted.join(" "));
        }
    }

    /// What a unit at this position stands behind.
    fn unit_place(&self) -> UnitPlace {
        let is_behind_number = matches!(
            self.previous(),
            Some(
                Token::Number { .. }
                    | Token::Scale(_)
                    | Token::Percent
                    | Token::Degree
                    | Token::Close(')')
                    | Token::Text(_)
            )
        );
        match (self.has_space(), is_behind_number) {
            (true, true) => UnitPlace::BehindNumber,
            (true, false) => UnitPlace::BehindCommand,
            (false, _) => UnitPlace::Adjacent,
        }
    }

    /// Moves to the last token of an exponent: `2`, `-1` or a group of them.
    fn skip_power(&mut self) -> bool {
        if matches!(self.peek(), Some(Token::Number { .. })) {
            return true;
        }
        if self.peek() != Some(&Token::Open('{')) {
            return false;
        }
        while let Some(token) = self.peek() {
            if *token == Token::Close('}') {
                return true;
            }
            self.at += 1;
        }
        false
    }
}
