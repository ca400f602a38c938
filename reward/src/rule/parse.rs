//! Answers as they are written: lists, sets, points, intervals and relations.
//!
//! It does not know the inside of an expression (`grammar`), nor when answers are equal.

use num_traits::Signed as _;

use super::answer::{Interval, MathAnswer, WordAnswer};
use super::cursor::{Cursor, Parsed};
use super::expression::Expr;
use super::lexer::tokens;
use super::token::{NotUnderstood, Relation, Spaced, Token};

/// Maximum number of bytes of an answer, and of its tokens.
const MAX_BYTES: usize = 4096;
const MAX_TOKENS: usize = 400;

/// Reads an answer.
///
/// # Errors
/// [`NotUnderstood`]
pub(super) fn parse(text: &str) -> Parsed<MathAnswer> {
    if text.len() > MAX_BYTES {
        return Err(NotUnderstood);
    }
    if let Some(text) = word(text) {
        let expression = expression(&text);
        return Ok(MathAnswer::Word(WordAnswer { text, expression }));
    }
    if is_date(text.trim()) {
        let text = text.trim().to_owned();
        return Ok(MathAnswer::Word(WordAnswer { text, expression: None }));
    }
    let tokens = join_thousands(tokens(text)?);
    if tokens.len() > MAX_TOKENS {
        return Err(NotUnderstood);
    }
    let mut cursor = Cursor::new(&tokens);
    let answer = list(&mut cursor)?;
    if cursor.is_at_end() { Ok(answer) } else { Err(NotUnderstood) }
}

/// A text of two or more letters: no expression, even where all letters could be symbols.
fn word(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('.');
    let is_word = text.chars().filter(|c| c.is_alphabetic()).count() >= 2
        && text.chars().all(|c| c.is_alphabetic() || c == ' ' || c == '-' || c == '\'')
        && text.starts_with(char::is_alphabetic)
        && !matches!(text, "pi" | "inf" | "infinity")
        && !text.split(' ').any(|word| matches!(word, "and" | "or"));
    is_word.then(|| text.to_lowercase())
}

/// What letters are as symbols.
fn expression(text: &str) -> Option<Expr> {
    let tokens = tokens(text).ok().filter(|tokens| tokens.len() <= MAX_TOKENS)?;
    let mut cursor = Cursor::new(&tokens);
    let read = cursor.expression_over().ok()?;
    cursor.is_at_end().then_some(read)
}

/// Whether a text is a date, `2024-05-06` or `5/6/2024`: no difference and no quotient.
fn is_date(text: &str) -> bool {
    let has_sizes = |mark: char, sizes: [&[usize]; 3]| {
        let parts: Vec<&str> = text.split(mark).collect();
        parts.len() == sizes.len()
            && parts.iter().zip(sizes).all(|(part, sizes)| {
                sizes.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    has_sizes('-', [&[4], &[2], &[2]]) || has_sizes('/', [&[1, 2], &[1, 2], &[4]])
}

/// Joins `1,200` to one number where its commas cannot separate elements: where each part of the
/// answer between `;`, `and` and `or` has no other comma outside of brackets.
fn join_thousands(tokens: Vec<Spaced>) -> Vec<Spaced> {
    let mut joined = Vec::with_capacity(tokens.len());
    for part in
        tokens.split_inclusive(|spaced| matches!(spaced.token, Token::Semicolon | Token::Or))
    {
        joined.extend(thousands(part).unwrap_or_else(|| part.to_vec()));
    }
    joined
}

fn thousands(part: &[Spaced]) -> Option<Vec<Spaced>> {
    let commas: Vec<usize> =
        (0..part.len()).filter(|&idx| part[idx].token == Token::Comma).collect();
    let (&first, &last) = (commas.first()?, commas.last()?);
    let depth = part[..first].iter().fold(0, |depth, spaced| match spaced.token {
        Token::Open('(' | '[' | 'S') => depth + 1,
        Token::Close(')' | ']' | 'S') => depth - 1,
        _ => depth,
    });
    let are_adjacent = commas.windows(2).all(|pair| pair[1] == pair[0] + 2);
    if depth != 0 || !are_adjacent || first == 0 || last + 1 >= part.len() {
        return None;
    }
    let digits = |idx: usize| match &part[idx].token {
        Token::Number { text, repetend } if repetend.is_empty() => Some(text.as_str()),
        _ => None,
    };
    let mut text = digits(first - 1)?.to_owned();
    if text.len() > 3 || text.contains(['.', 'e', 'E']) {
        return None;
    }
    if text == "0" {
        text.push('.');
    }
    for &comma in &commas {
        let group = digits(comma + 1)?;
        let whole = group.split('.').next().unwrap_or(group);
        let is_group = whole.len() == 3 && (comma == last || whole.len() == group.len());
        // `1, 200` is a list, `1,{}200` is not
        let has_space = part[comma + 1].has_space || part[comma].has_space;
        if !is_group || has_space {
            return None;
        }
        text += group;
    }
    let mut joined = part[..first - 1].to_vec();
    let token = Token::Number { text, repetend: String::new() };
    joined.push(Spaced { token, has_space: part[first - 1].has_space });
    joined.extend_from_slice(&part[last + 2..]);
    Some(joined)
}

/// Elements between commas and semicolons; a single one is itself. Inequalities with nothing but
/// "or" between them are a union.
fn list(cursor: &mut Cursor<'_>) -> Parsed<MathAnswer> {
    let (mut elements, separated) = elements(cursor)?;
    let has_bounds = || elements.iter().all(MathAnswer::is_bound);
    match separated {
        Separated::No => elements.pop().ok_or(NotUnderstood),
        Separated::ByOr if has_bounds() && have_one_symbol(&elements) => {
            Ok(MathAnswer::Union(elements))
        }
        Separated::ByOr | Separated::Otherwise => Ok(MathAnswer::Set(elements)),
    }
}

fn have_one_symbol(bounds: &[MathAnswer]) -> bool {
    bounds.windows(2).all(|pair| pair[0].bound_symbol() == pair[1].bound_symbol())
}

/// How the elements of a list are separated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Separated {
    /// There is one element.
    No,
    /// By "or" alone.
    ByOr,
    Otherwise,
}

/// The elements of a list, and how they are separated.
fn elements(cursor: &mut Cursor<'_>) -> Parsed<(Vec<MathAnswer>, Separated)> {
    let is_separator =
        |token: Option<&Token>| matches!(token, Some(Token::Comma | Token::Semicolon | Token::Or));
    let mut elements = element(cursor)?;
    // `a ± b`
    let mut separated = if elements.len() > 1 { Separated::Otherwise } else { Separated::No };
    while is_separator(cursor.peek()) {
        let mut has_or = false;
        while is_separator(cursor.peek()) {
            has_or |= cursor.peek() == Some(&Token::Or);
            cursor.advance();
        }
        separated = match (separated, has_or) {
            (Separated::No | Separated::ByOr, true) => Separated::ByOr,
            _ => Separated::Otherwise,
        };
        elements.extend(element(cursor)?);
    }
    Ok((elements, separated))
}

/// An element of letters alone that has a word of three or more in it, up to its end.
fn element_word(cursor: &mut Cursor<'_>) -> Option<MathAnswer> {
    let mut words = Vec::new();
    while let Some(Token::Letters(letters)) = cursor.peek_at(words.len()) {
        words.push(letters.as_str());
    }
    let ends = matches!(
        cursor.peek_at(words.len()),
        None | Some(Token::Comma | Token::Semicolon | Token::Or | Token::Close(_))
    );
    if !ends || words.iter().all(|word| word.len() < 3) {
        return None;
    }
    cursor.at += words.len();
    let text = words.join(" ").to_lowercase();
    let expression = expression(&text);
    Some(MathAnswer::Word(WordAnswer { text, expression }))
}

/// An element of a list: `a ± b` is two.
fn element(cursor: &mut Cursor<'_>) -> Parsed<Vec<MathAnswer>> {
    if cursor.peek() == Some(&Token::Relation(Relation::Approximately)) {
        cursor.advance();
    }
    if let Some(word) = element_word(cursor) {
        return Ok(vec![word]);
    }
    let mut sides = vec![side(cursor)?];
    let mut relations = Vec::new();
    while let Some(Token::Relation(relation)) = cursor.peek() {
        let relation = *relation;
        cursor.advance();
        let right = side(cursor)?;
        if relation == Relation::Approximately {
            // of `x ≈ 5` the value counts, of `√2 ≈ 1.41` the exact side
            let left = sides.last_mut().ok_or(NotUnderstood)?;
            if left.iter().all(|l| l.value().is_some_and(Expr::is_only_symbols)) {
                *left = right;
            }
            continue;
        }
        relations.push(relation);
        sides.push(right);
    }
    if relations.is_empty() {
        return Ok(sides.remove(0));
    }
    let sides = sides.into_iter().map(|mut side| match side.len() {
        1 => side.remove(0),
        _ => MathAnswer::Set(side),
    });
    Ok(vec![MathAnswer::Relation(sides.collect(), relations)])
}

/// One side of a relation, with the unit behind it.
fn side(cursor: &mut Cursor<'_>) -> Parsed<Vec<MathAnswer>> {
    let mut left = set(cursor)?;
    loop {
        let token = cursor.peek().cloned();
        match token {
            Some(Token::Union | Token::Intersection | Token::SetMinus) => cursor.advance(),
            _ => break,
        }
        let right = set(cursor)?;
        left = match token {
            Some(Token::Union) => MathAnswer::Union(vec![left, right]),
            Some(Token::Intersection) => MathAnswer::Intersection(left.into(), right.into()),
            _ => MathAnswer::Difference(left.into(), right.into()),
        };
    }
    let sign = match cursor.peek() {
        Some(Token::PlusMinus) => 1,
        Some(Token::MinusPlus) => -1,
        _ => return Ok(vec![left]),
    };
    cursor.advance();
    let right = cursor.expression()?;
    let MathAnswer::Value(left) = left else { return Err(NotUnderstood) };
    let plus = MathAnswer::Value(Expr::Add(left.clone().into(), right.clone().into()));
    let minus = MathAnswer::Value(Expr::Add(left.into(), Expr::Neg(right.into()).into()));
    Ok(if sign > 0 { vec![plus, minus] } else { vec![minus, plus] })
}

fn set(cursor: &mut Cursor<'_>) -> Parsed<MathAnswer> {
    cursor.nested(set_or_value)
}

fn set_or_value(cursor: &mut Cursor<'_>) -> Parsed<MathAnswer> {
    match cursor.peek() {
        Some(Token::PlusMinus | Token::MinusPlus) => {
            return Ok(MathAnswer::Value(Expr::integer(0)));
        }
        Some(Token::Command(name)) => {
            let named = match name.as_str() {
                "emptyset" => Some(MathAnswer::Set(Vec::new())),
                "mathbb R" => Some(MathAnswer::Reals),
                name if name.starts_with("mathbb ") => Some(MathAnswer::NamedSet(name.to_owned())),
                _ => None,
            };
            if let Some(named) = named {
                cursor.advance();
                return Ok(named);
            }
            if cursor.starts_matrix(0) {
                return matrix(cursor);
            }
        }
        Some(Token::Open('S')) => {
            cursor.advance();
            if cursor.take(&Token::Close('S')) {
                return Ok(MathAnswer::Set(Vec::new()));
            }
            let (elements, _) = elements(cursor)?;
            cursor.expect(&Token::Close('S'))?;
            return Ok(MathAnswer::Set(elements));
        }
        Some(Token::Open('(' | '[')) if cursor.starts_matrix(1) => {
            cursor.advance();
            let inner = matrix(cursor)?;
            return match cursor.peek() {
                Some(Token::Close(')' | ']')) => {
                    cursor.advance();
                    Ok(inner)
                }
                _ => Err(NotUnderstood),
            };
        }
        Some(Token::Open(open @ ('(' | '[' | '{'))) if cursor.holds_list() => {
            let open = *open;
            cursor.advance();
            let inner = list(cursor)?;
            let close = match cursor.peek() {
                Some(Token::Close(close @ (')' | ']' | '}'))) => *close,
                _ => return Err(NotUnderstood),
            };
            if (open == '{') != (close == '}') {
                return Err(NotUnderstood);
            }
            cursor.advance();
            return Ok(bracketed(open, inner, close));
        }
        _ => {}
    }
    cursor.counted = None;
    let value = cursor.expression_over()?;
    if cursor.starts_matrix(0) {
        let MathAnswer::Matrix(rows) = matrix(cursor)? else { return Err(NotUnderstood) };
        let scaled = |cell: Expr| Expr::Mul(value.clone().into(), cell.into());
        let scale = |row: Vec<Expr>| row.into_iter().map(scaled).collect();
        return Ok(MathAnswer::Matrix(rows.into_iter().map(scale).collect()));
    }
    cursor.skip_unit(&value);
    Ok(match cursor.counted.take() {
        Some(counted) => MathAnswer::Quantity(value, counted),
        None => MathAnswer::Value(value),
    })
}

/// `(a, b)`, `[a, b)`, `(a, b, c)`, `{a, b}`.
fn bracketed(open: char, inner: MathAnswer, close: char) -> MathAnswer {
    let elements = match inner {
        MathAnswer::Set(elements) => elements,
        only => return only,
    };
    if open == '{' {
        return MathAnswer::Set(elements);
    }
    let (start_open, end_open) = (open == '(', close == ')');
    if let [MathAnswer::Value(start), MathAnswer::Value(end)] = &elements[..] {
        let ordered = match (start.exact(), end.exact(), start.float(), end.float()) {
            (Some(start), Some(end), ..) if start == end => !start_open && !end_open,
            (Some(start), Some(end), ..) => (end - start).is_positive(),
            (_, _, Some(start), Some(end)) => start < end,
            _ => true,
        };
        if ordered {
            let (start, end) = (start.clone(), end.clone());
            return MathAnswer::Interval(Box::new(Interval { start, end, start_open, end_open }));
        }
    }
    MathAnswer::Tuple(elements)
}

fn matrix(cursor: &mut Cursor<'_>) -> Parsed<MathAnswer> {
    const KINDS: [&str; 6] = ["matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"];
    let Some(Token::Command(begin)) = cursor.peek().cloned() else { return Err(NotUnderstood) };
    let kind = begin.trim_start_matches("begin ").to_owned();
    if !KINDS.contains(&kind.as_str()) {
        return Err(NotUnderstood);
    }
    cursor.advance();
    if kind == "array" {
        // how its columns are set: {cc}
        cursor.nested(Cursor::argument)?;
    }
    let end = Token::Command(format!("end {kind}"));
    let mut rows = vec![Vec::new()];
    while !cursor.take(&end) {
        if cursor.take(&Token::RowEnd) {
            rows.push(Vec::new());
            continue;
        }
        let cell = cursor.expression()?;
        rows.last_mut().ok_or(NotUnderstood)?.push(cell);
        cursor.take(&Token::Ampersand);
    }
    rows.retain(|row| !row.is_empty());
    let width = rows.first().map_or(0, Vec::len);
    match width > 0 && rows.iter().all(|row| row.len() == width) {
        true => Ok(MathAnswer::Matrix(rows)),
        false => Err(NotUnderstood),
    }
}
