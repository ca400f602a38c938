//! Text of a template to tokens, with the white space that tags remove around them.
//!
//! As transformers configures Jinja: the newline after a block or a comment is removed
//! (`trim_blocks`), and so are blanks between the beginning of a line and a block
//! (`lstrip_blocks`). All newlines become `\n`, and one at the end of the template is removed.

use std::cell::Cell;

use super::failure::{TemplateFailure, failure};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TemplateToken {
    /// Text between tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    /// An operator or a bracket.
    Operator(&'static str),
}

/// Operators, longer ones first.
const OPERATORS: [&str; 25] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",",
];

/// Tokens of a template, each with its line.
pub(super) fn tokens(source: &str) -> Result<Vec<(TemplateToken, usize)>, TemplateFailure> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let counted = (0, 1).into();
    let mut lexer =
        Lexer { rest: source, source, counted, tokens: Vec::new(), is_line_start: true };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    rest: &'a str,
    /// A position, and its line.
    counted: Cell<(usize, usize)>,
    tokens: Vec<(TemplateToken, usize)>,
    /// Whether the last tag took its line's end with it.
    is_line_start: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tag {
    Block,
    Print,
    Comment,
}

impl<'a> Lexer<'a> {
    fn line(&self) -> usize {
        let at = self.source.len() - self.rest.len();
        let (counted, line) = self.counted.get();
        // positions only grow
        let line = line + self.source[counted..at].matches('\n').count();
        self.counted.set((at, line));
        line
    }

    fn push(&mut self, token: TemplateToken) {
        let line = self.line();
        self.tokens.push((token, line));
    }

    fn fail<T>(&self, reason: &str) -> Result<T, TemplateFailure> {
        failure(format!("line {}: {reason}", self.line()))
    }

    fn take(&mut self, n_bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(n_bytes);
        self.rest = rest;
        taken
    }

    fn run(&mut self) -> Result<(), TemplateFailure> {
        while !self.rest.is_empty() {
            let Some((at, tag)) = next_tag(self.rest) else {
                let text = self.take(self.rest.len());
                self.push_data(text);
                break;
            };
            let text = self.take(at);
            self.take(2);
            let sign = self.sign();
            let text = self.before_tag(text, sign, tag != Tag::Print);
            self.push_data(text);
            self.is_line_start = false;
            match tag {
                Tag::Comment => self.comment()?,
                Tag::Block if self.raw_begin() => self.raw()?,
                Tag::Block => {
                    self.push(TemplateToken::BlockBegin);
                    self.inside("%}", TemplateToken::BlockEnd)?;
                }
                Tag::Print => {
                    self.push(TemplateToken::PrintBegin);
                    self.inside("}}", TemplateToken::PrintEnd)?;
                }
            }
        }
        Ok(())
    }

    fn push_data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(TemplateToken::Data(text.to_owned()));
        }
    }

    /// The sign of white space control.
    fn sign(&mut self) -> Option<char> {
        let sign = self.rest.chars().next().filter(|sign| ['-', '+'].contains(sign));
        self.take(usize::from(sign.is_some()));
        sign
    }

    /// Text before a tag, without the white space that the tag removes.
    fn before_tag<'t>(&self, text: &'t str, sign: Option<char>, is_block: bool) -> &'t str {
        match sign {
            Some('-') => text.trim_end_matches(is_space),
            None if is_block => {
                let start = text.rfind('\n').map_or(0, |at| at + 1);
                let is_at_line_start = start > 0 || self.is_line_start;
                let is_blank = text[start..].chars().all(is_space);
                if is_at_line_start && is_blank { &text[..start] } else { text }
            }
            _ => text,
        }
    }

    /// Takes white space after a tag: all of it after `-`, one newline after a block.
    fn after_tag(&mut self, sign: Option<char>, is_block: bool) {
        let before = self.rest;
        match sign {
            Some('-') => self.rest = self.rest.trim_start_matches(is_space),
            None if is_block => self.rest = self.rest.strip_prefix('\n').unwrap_or(self.rest),
            _ => {}
        }
        self.is_line_start = before[..before.len() - self.rest.len()].ends_with('\n');
    }

    fn comment(&mut self) -> Result<(), TemplateFailure> {
        let Some(end) = self.rest.find("#}") else {
            return self.fail("a comment does not end");
        };
        let sign = self.rest[..end].chars().last().filter(|sign| ['-', '+'].contains(sign));
        self.take(end + 2);
        self.after_tag(sign, true);
        Ok(())
    }

    /// Whether this is the tag `raw`; if so, takes it.
    fn raw_begin(&mut self) -> bool {
        let Some(after) = keyword(self.rest, "raw") else { return false };
        let after = after.trim_start_matches(is_space);
        if let Some(after) = after.strip_prefix("-%}") {
            self.rest = after.trim_start_matches(is_space);
        } else if let Some(after) = after.strip_prefix("%}") {
            self.rest = after;
        } else {
            return false;
        }
        true
    }

    /// Text up to the tag `endraw`.
    fn raw(&mut self) -> Result<(), TemplateFailure> {
        let mut from = 0;
        while let Some(at) = self.rest[from..].find("{%").map(|at| at + from) {
            let after = &self.rest[at + 2..];
            let sign = after.chars().next().filter(|sign| ['-', '+'].contains(sign));
            let after = &after[usize::from(sign.is_some())..];
            let end = keyword(after, "endraw").map(|after| after.trim_start_matches(is_space));
            let end_sign = end.and_then(|end| end.chars().next());
            let end_sign = end_sign.filter(|sign| ['-', '+'].contains(sign));
            let end = end.map(|end| &end[usize::from(end_sign.is_some())..]);
            if let Some(after) = end.and_then(|end| end.strip_prefix("%}")) {
                self.is_line_start = false;
                let text = self.before_tag(&self.rest[..at], sign, true);
                self.push_data(text);
                self.rest = after;
                self.after_tag(end_sign, true);
                return Ok(());
            }
            from = at + 2;
        }
        self.fail("`raw` has no `endraw`")
    }

    /// Tokens of a tag up to its end.
    fn inside(&mut self, end: &str, end_token: TemplateToken) -> Result<(), TemplateFailure> {
        let mut brackets: Vec<&str> = Vec::new();
        loop {
            self.rest = self.rest.trim_start_matches(is_space);
            if brackets.is_empty() {
                let sign = self.rest.chars().next().filter(|sign| {
                    *sign == '-' || *sign == '+' && end_token == TemplateToken::BlockEnd
                });
                let after = &self.rest[usize::from(sign.is_some())..];
                if let Some(after) = after.strip_prefix(end) {
                    self.rest = after;
                    self.push(end_token.clone());
                    self.after_tag(sign, end_token == TemplateToken::BlockEnd);
                    return Ok(());
                }
            }
            let Some(first) = self.rest.chars().next() else {
                return self.fail("a tag does not end");
            };
            if first.is_ascii_digit() {
                self.number()?;
            } else if first == '_' || first.is_alphanumeric() {
                let is_part = |c: char| c == '_' || c.is_alphanumeric();
                let n_bytes = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
                let name = self.take(n_bytes).to_owned();
                self.push(TemplateToken::Name(name));
            } else if first == '\'' || first == '"' {
                self.text(first)?;
            } else {
                let operator = OPERATORS.iter().find(|operator| self.rest.starts_with(**operator));
                let Some(&operator) = operator else {
                    return self.fail(&format!("unexpected character {first:?}"));
                };
                let opening = [("(", ")"), ("[", "]"), ("{", "}")];
                if let Some((_, closing)) = opening.iter().find(|(open, _)| *open == operator) {
                    brackets.push(*closing);
                } else if opening.iter().any(|(_, close)| *close == operator)
                    && brackets.pop() != Some(operator)
                {
                    return self.fail(&format!("unexpected `{operator}`"));
                }
                self.take(operator.len());
                self.push(TemplateToken::Operator(operator));
            }
        }
    }

    fn number(&mut self) -> Result<(), TemplateFailure> {
        let digits = |text: &str| {
            text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len())
        };
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            let start = self.rest.get(..2).unwrap_or_default().to_ascii_lowercase();
            if start == prefix {
                let body = &self.rest[2..];
                let n = body.find(|c: char| !(c.is_digit(radix) || c == '_'));
                let n = n.unwrap_or(body.len());
                let value = i128::from_str_radix(&body[..n].replace('_', ""), radix);
                let Ok(value) = value else { return self.fail("a number that is none") };
                self.take(2 + n);
                self.push(TemplateToken::Int(value));
                return Ok(());
            }
        }
        let mut n = digits(self.rest);
        let mut is_float = false;
        let after = &self.rest[n..];
        let follows_dot = matches!(self.tokens.last(), Some((TemplateToken::Operator("."), _)));
        if !follows_dot
            && after.starts_with('.')
            && after[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            n += 1 + digits(&after[1..]);
            is_float = true;
        }
        let after = &self.rest[n..];
        if !follows_dot && after.starts_with(['e', 'E']) {
            let signed = after[1..].strip_prefix(['+', '-']).unwrap_or(&after[1..]);
            if signed.starts_with(|c: char| c.is_ascii_digit()) {
                n += after.len() - signed.len() + digits(signed);
                is_float = true;
            }
        }
        let text = self.rest[..n].replace('_', "");
        let token = match is_float {
            true => text.parse().ok().map(TemplateToken::Float),
            false => text.parse().ok().map(TemplateToken::Int),
        };
        let Some(token) = token else { return self.fail("a number that is too large") };
        self.take(n);
        self.push(token);
        Ok(())
    }

    /// A text in quotes, with Python's escapes.
    fn text(&mut self, quote: char) -> Result<(), TemplateFailure> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        let mut end = None;
        while let Some((at, c)) = chars.next() {
            if c == quote {
                end = Some(at + 2);
                break;
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((_, escaped)) = chars.next() else { break };
            let mut digits = |n: usize, radix: u32, first: Option<char>| -> Option<char> {
                let mut code = first.and_then(|c| c.to_digit(radix)).unwrap_or(0);
                for _ in 0..n {
                    let next = chars.clone().next().and_then(|(_, c)| c.to_digit(radix));
                    match next {
                        Some(digit) => code = code * radix + digit,
                        None if radix == 8 => break,
                        None => return None,
                    }
                    chars.next();
                }
                char::from_u32(code)
            };
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'a' => text.push('\u{7}'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'v' => text.push('\u{b}'),
                '\n' => {}
                '\\' | '\'' | '"' => text.push(escaped),
                'x' | 'u' | 'U' => {
                    let n = match escaped {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    match digits(n, 16, None) {
                        Some(c) => text.push(c),
                        None => return self.fail(&format!("a broken escape \\{escaped}")),
                    }
                }
                '0'..='7' => text.extend(digits(2, 8, Some(escaped))),
                'N' => return self.fail("an escape \\N, which is not known here"),
                other => text.extend(['\\', other]),
            }
        }
        let Some(end) = end else { return self.fail("a text does not end") };
        self.push(TemplateToken::Text(text));
        self.take(end);
        Ok(())
    }
}

/// Position and kind of the next tag.
fn next_tag(text: &str) -> Option<(usize, Tag)> {
    text.match_indices('{').find_map(|(at, _)| {
        let tag = match text.as_bytes().get(at + 1)? {
            b'%' => Tag::Block,
            b'{' => Tag::Print,
            b'#' => Tag::Comment,
            _ => return None,
        };
        Some((at, tag))
    })
}

/// Text after white space and a whole word.
fn keyword<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let after = text.trim_start_matches(is_space).strip_prefix(word)?;
    let goes_on = after.starts_with(|c: char| c == '_' || c.is_alphanumeric());
    (!goes_on).then_some(after)
}

/// White space of Python's regular expressions.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
