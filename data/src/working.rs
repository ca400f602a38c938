//! Working a problem digit by digit, from the right, as on paper.

use crate::problem::{ArithmeticProblem, Op};

/// A worked problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Working {
    /// `47 + 93`.
    pub(crate) head: String,
    /// `7+3=10`, `4+9+1=14`, …
    pub(crate) steps: Vec<String>,
    /// The number that the steps lead to.
    pub(crate) value: u32,
}

impl Working {
    /// `47 + 93: 7+3=10, 4+9+1=14, so 140.`
    pub(crate) fn line(&self) -> String {
        format!("{}: {}, so {}.", self.head, self.steps.join(", "), self.value)
    }

    /// The line, and a second line with the answer.
    pub(crate) fn answer(&self) -> String {
        format!("{}\nThe answer is {}.", self.line(), self.value)
    }
}

/// A step with a wrong result, on which the later steps build: its place and its error.
pub(crate) type Slip = Option<(usize, i32)>;

/// Works `problem`. `forgets` decides for every carry or borrow, given the digit's place, whether
/// it is forgotten; later steps build on the mistake.
pub(crate) fn work(problem: &ArithmeticProblem, forgets: &mut dyn FnMut(usize) -> bool) -> Working {
    work_with(problem, forgets, None)
}

/// As [`work`], with a slip.
pub(crate) fn work_with(
    problem: &ArithmeticProblem,
    forgets: &mut dyn FnMut(usize) -> bool,
    slip: Slip,
) -> Working {
    let (steps, digits) = match problem.op {
        Op::Add => add(problem.a, problem.b, forgets, slip),
        Op::Sub => subtract(problem.a, problem.b, forgets, slip),
        Op::Mul => multiply(problem.a, problem.b, forgets, slip),
    };
    let value = digits.iter().rev().fold(0, |value, digit| value * 10 + digit);
    Working { head: problem.to_string(), steps, value }
}

/// The result of a step, slip included, at most `max`.
fn slipped(value: u32, place: usize, slip: Slip, max: u32) -> u32 {
    match slip {
        Some((at, by)) if at == place => value.saturating_add_signed(by).min(max),
        _ => value,
    }
}

fn digit(number: u32, place: usize) -> u32 {
    number / 10u32.pow(place as u32) % 10
}

fn n_digits(number: u32) -> usize {
    number.to_string().len()
}

/// Steps, and digits from the right; the last entry may be above 9.
fn add(
    a: u32,
    b: u32,
    forgets: &mut dyn FnMut(usize) -> bool,
    slip: Slip,
) -> (Vec<String>, Vec<u32>) {
    let (mut steps, mut digits, mut carry) = (Vec::new(), Vec::new(), 0);
    for place in 0..n_digits(a.max(b)) {
        let (x, y) = (digit(a, place), digit(b, place));
        let sum = slipped(x + y + carry, place, slip, 19);
        steps.push(match carry {
            0 => format!("{x}+{y}={sum}"),
            _ => format!("{x}+{y}+{carry}={sum}"),
        });
        digits.push(sum % 10);
        carry = if sum >= 10 && !forgets(place) { 1 } else { 0 };
    }
    digits.push(carry);
    (steps, digits)
}

fn subtract(
    a: u32,
    b: u32,
    forgets: &mut dyn FnMut(usize) -> bool,
    slip: Slip,
) -> (Vec<String>, Vec<u32>) {
    let (mut steps, mut digits, mut borrow) = (Vec::new(), Vec::new(), 0i32);
    for place in 0..n_digits(a) {
        let (mut x, y) = (digit(a, place) as i32 - borrow, digit(b, place) as i32);
        borrow = 0;
        if x < y {
            x += 10;
            borrow = if forgets(place) { 0 } else { 1 };
        }
        let difference = slipped((x - y) as u32, place, slip, 9);
        steps.push(format!("{x}-{y}={difference}"));
        digits.push(difference);
    }
    (steps, digits)
}

fn multiply(
    a: u32,
    b: u32,
    forgets: &mut dyn FnMut(usize) -> bool,
    slip: Slip,
) -> (Vec<String>, Vec<u32>) {
    let (mut steps, mut digits, mut carry) = (Vec::new(), Vec::new(), 0);
    let n_places = n_digits(a);
    for place in 0..n_places {
        let x = digit(a, place);
        let product = slipped(x * b + carry, place, slip, 99);
        steps.push(match carry {
            0 => format!("{x}*{b}={product}"),
            _ => format!("{x}*{b}+{carry}={product}"),
        });
        if place + 1 == n_places {
            digits.push(product);
        } else {
            digits.push(product % 10);
            carry = product / 10;
            if carry > 0 && forgets(place) {
                carry = 0;
            }
        }
    }
    (steps, digits)
}
