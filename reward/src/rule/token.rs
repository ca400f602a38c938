//! Tokens of a mathematical answer, and the error of an answer that is not understood.
//!
//! It does not know how they are written, nor what a sequence of them means.

/// An answer that the rule cannot read.
#[derive(Debug)]
pub(super) struct NotUnderstood;

/// A relation between two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Approximately,
}

impl Relation {
    /// The relation from right to left.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            other => other,
        }
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A number without sign, with the digits that repeat for ever after its own.
    Number {
        text: String,
        repetend: String,
    },
    /// Adjacent letters.
    Letters(String),
    /// A command without its backslash.
    Command(String),
    /// The content of `\text{…}` and its like.
    Text(String),
    /// `(`, `[`, `{`, or `S` for the brace of a set.
    Open(char),
    Close(char),
    Bar,
    Comma,
    /// `;`, `and`.
    Semicolon,
    Or,
    Plus,
    Minus,
    PlusMinus,
    MinusPlus,
    Times,
    Divide,
    Colon,
    Caret,
    Underscore,
    Percent,
    Bang,
    Degree,
    /// The mark of a derivative, or of another quantity of the same letter.
    Prime,
    /// A word that multiplies the number before it: `million`.
    Scale(u64),
    Union,
    Intersection,
    SetMinus,
    Relation(Relation),
    RowEnd,
    Ampersand,
}

/// A token, and whether there was space before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spaced {
    pub(super) token: Token,
    pub(super) has_space: bool,
}
