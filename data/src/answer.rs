//! Answers to a problem in many phrasings, and the ways in which they are wrong.

use crate::draw::Draw;
use crate::number::words;
use crate::problem::{Op, Problem};
use crate::working::{Work, work};

/// An answer as a judge sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The number that it states in the end; `None` where it states none.
    pub(crate) value: Option<u32>,
}

/// Whether an answer is to be right, and how it is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) right: bool,
    /// In the style of worked answers, as a policy writes them.
    pub(crate) worked: bool,
}

/// Phrasings with a final number `{v}`; `{p}` is the problem in symbols, `{w}` the working.
const PHRASINGS: [&str; 18] = [
    "{v}",
    "{v}.",
    "= {v}",
    "The answer is {v}.",
    "Answer: {v}",
    "It is {v}.",
    "{p} = {v}",
    "{p} equals {v}.",
    "\\boxed{{v}}",
    "The answer is $\\boxed{{v}}$.",
    "**{v}**",
    "The result is **{v}**.",
    "I think it is {v}, but I am not sure.",
    "Sure! {p} = {v}.",
    "Let me see.\n\n{p} = {v}\n\nSo the answer is {v}.",
    "We have to work out {p}. That makes {v}.",
    "{w}",
    "Step by step: {w}",
];
const SILENT: [&str; 6] =
    ["", "I don't know.", "Sorry, I cannot answer that.", "...", "That is hard to say.", "Hello!"];

/// Writes an answer to `problem` as wished.
pub(crate) fn answer(problem: &Problem, wish: Wish, draw: &mut Draw) -> Answer {
    if wish.right {
        return right_answer(problem, wish.worked, draw);
    }
    if draw.chance(if wish.worked { 0.03 } else { 0.1 }) {
        return silent_answer(problem, wish.worked, draw);
    }
    if wish.worked && draw.chance(0.08) {
        // the working is right, the final line is not: the final number counts
        let mut answer = work(problem, &mut |_| false).line();
        let value = wrong_value(problem, draw);
        answer.push_str(&format!("\nThe answer is {value}."));
        return Answer { text: answer, value: Some(value) };
    }
    let flawed = flawed_work(problem, draw);
    match wish.worked {
        true => Answer { text: flawed.answer(), value: Some(flawed.value) },
        false => phrased(problem, &flawed, draw),
    }
}

fn right_answer(problem: &Problem, worked: bool, draw: &mut Draw) -> Answer {
    let right = work(problem, &mut |_| false);
    if !worked {
        return phrased(problem, &right, draw);
    }
    let mut text = right.answer();
    if draw.chance(0.04) {
        // the working is wrong, the final line is right all the same
        let flawed = flawed_work(problem, draw);
        text = format!("{}\nThe answer is {}.", flawed.line(), right.value);
    }
    Answer { text, value: Some(right.value) }
}

fn phrased(problem: &Problem, work: &Work, draw: &mut Draw) -> Answer {
    if draw.chance(0.03) {
        let text = format!("It is {}.", words(work.value));
        return Answer { text, value: Some(work.value) };
    }
    let symbols = format!("{} {} {}", problem.a, problem.op.symbol(), problem.b);
    let mut text = draw
        .pick(&PHRASINGS)
        .replace("{v}", &work.value.to_string())
        .replace("{p}", &symbols)
        .replace("{w}", &work.line());
    if draw.chance(0.1) {
        text.push('\n');
    }
    Answer { text, value: Some(work.value) }
}

/// No final number: a refusal, or working that was cut off.
fn silent_answer(problem: &Problem, worked: bool, draw: &mut Draw) -> Answer {
    if !worked && draw.chance(0.7) {
        return Answer { text: (*draw.pick(&SILENT)).to_owned(), value: None };
    }
    let line = work(problem, &mut |_| false).line();
    let end = line.find(", so").unwrap_or(line.len()) as u32;
    let cut = draw.between(3, end) as usize;
    Answer { text: line[..cut].to_owned(), value: None }
}

/// Working that ends in a wrong number: by a forgotten carry where there is one, else by a number
/// that is wrong in itself.
fn flawed_work(problem: &Problem, draw: &mut Draw) -> Work {
    let right = work(problem, &mut |_| false);
    if draw.chance(0.65) {
        for _ in 0..4 {
            let forgetful = work(problem, &mut |_| draw.chance(0.6));
            if forgetful.value != right.value {
                return forgetful;
            }
        }
    }
    let value = wrong_value(problem, draw);
    let mut steps = right.steps;
    if draw.chance(0.5) {
        // a slip in one step, too
        let slip = draw.between(0, steps.len() as u32 - 1) as usize;
        if let Some((sum, _)) = steps[slip].split_once('=') {
            steps[slip] = format!("{sum}={}", draw.between(0, 18));
        }
    }
    Work { head: right.head, steps, value }
}

/// A number near the right one in one of the ways in which people err.
fn wrong_value(problem: &Problem, draw: &mut Draw) -> u32 {
    let right = problem.answer();
    loop {
        let wrong = match draw.between(0, 9) {
            0..3 => change_digit(right, draw),
            3 => right + 1,
            4 => right.saturating_sub(1),
            5 => right + *draw.pick(&[10, 100]),
            6 => right.saturating_sub(*draw.pick(&[10, 100])),
            7 => *draw.pick(&[right * 10, right / 10]),
            8 => swap_digits(right, draw),
            _ => match problem.op {
                Op::Add => problem.a.abs_diff(problem.b),
                Op::Sub | Op::Mul => problem.a + problem.b,
            },
        };
        if wrong != right && wrong < 10_000 {
            return wrong;
        }
    }
}

fn change_digit(number: u32, draw: &mut Draw) -> u32 {
    let place = 10u32.pow(draw.between(0, number.to_string().len() as u32 - 1));
    let old = number / place % 10;
    number - old * place + draw.between(0, 9) * place
}

fn swap_digits(number: u32, draw: &mut Draw) -> u32 {
    let mut digits = number.to_string().into_bytes();
    if digits.len() < 2 {
        return number;
    }
    let first = draw.between(0, digits.len() as u32 - 2) as usize;
    digits.swap(first, first + 1);
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}
