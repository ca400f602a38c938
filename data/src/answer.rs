//! Answers to a problem in many phrasings, and the ways in which they are wrong.

use crate::draw::Draw;
use crate::number::words;
use crate::problem::{ArithmeticProblem, Op};
use crate::wild;
use crate::working::{Working, work, work_with};

/// An answer as a judge sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The final number; `None` for an answer without one.
    pub(crate) value: Option<u32>,
}

/// Properties of an answer to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AnswerStyle {
    pub(crate) right: bool,
    /// Whether it is a worked answer, as a policy writes them.
    pub(crate) worked: bool,
    /// Whether its wording is free.
    pub(crate) wild: bool,
    /// Probability that wrong working misleads: it works another problem, or builds on a slip.
    pub(crate) misleading: f64,
}

/// Statements that end in the number `{v}`. `{p}` is the problem in symbols, `{w}` the working,
/// `{x}` another number, which the statement takes back.
const STATEMENTS: [&str; 32] = [
    "{v}",
    "{v}.",
    "= {v}",
    "The answer is {v}.",
    "The answer is {v}",
    "Answer: {v}",
    "It is {v}.",
    "It's {v}!",
    "{p} = {v}",
    "{p} = {v}.",
    "{p} equals {v}.",
    "{p} is {v}.",
    "\\boxed{{v}}",
    "The answer is $\\boxed{{v}}$.",
    "**{v}**",
    "The result is **{v}**.",
    "The result is {v}.",
    "The final answer is {v}.",
    "Final answer: {v}",
    "That makes {v}.",
    "You get {v}.",
    "The total is {v}.",
    "There are {v}.",
    "So it must be {v}.",
    "I think it is {v}.",
    "I believe the answer is {v}.",
    "{p} = {v}\n\nSo the answer is {v}.",
    "We have to work out {p}. That makes {v}.",
    "{p} = {x}. No, wait: it is {v}.",
    "It is {x}. Let me check that again. The answer is {v}.",
    "{w}",
    "{w}\n\nSo the answer is {v}.",
];
/// Phrases before a statement, phrases after it, and the probability of each.
const BEFORE: [&str; 14] = [
    "Sure! ",
    "Sure, ",
    "Let me see.\n\n",
    "Let's work it out. ",
    "Let's think step by step. ",
    "Step by step: ",
    "Of course! ",
    "Good question. ",
    "Hmm, ",
    "OK. ",
    "To solve this, we calculate. ",
    "First, we look at the numbers. ",
    "I am not sure, but ",
    "This one is easy. ",
];
const AFTER: [&str; 10] = [
    " I hope this helps!",
    " I am sure.",
    " I am not sure.",
    " Let me know if you need more help.",
    "\n",
    "\n\nDone.",
    " That is my answer.",
    " I checked it twice.",
    " Have a nice day!",
    " :)",
];
const FRAMED: f64 = 0.2;
const SILENT: [&str; 6] =
    ["", "I don't know.", "Sorry, I cannot answer that.", "...", "That is hard to say.", "Hello!"];

/// Writes an answer to `problem`.
pub(crate) fn answer(problem: &ArithmeticProblem, style: AnswerStyle, draw: &mut Draw) -> Answer {
    if style.wild {
        let value = if style.right { problem.answer() } else { wrong_value(problem, draw) };
        return Answer { text: wild::answer(problem, value, draw), value: Some(value) };
    }
    if style.right {
        return right_answer(problem, style, draw);
    }
    if draw.chance(if style.worked { 0.03 } else { 0.1 }) {
        return silent_answer(problem, style.worked, draw);
    }
    if style.worked && draw.chance(0.08) {
        // the working is right, the final line is not: the final number counts
        let mut answer = work(problem, &mut |_| false).line();
        let value = wrong_value(problem, draw);
        answer.push_str(&format!("\nThe answer is {value}."));
        return Answer { text: answer, value: Some(value) };
    }
    let flawed = flawed_work(problem, style.misleading, draw);
    match style.worked {
        true => Answer { text: flawed.answer(), value: Some(flawed.value) },
        false => phrased(problem, &flawed, draw),
    }
}

fn right_answer(problem: &ArithmeticProblem, style: AnswerStyle, draw: &mut Draw) -> Answer {
    let right = work(problem, &mut |_| false);
    if !style.worked {
        return phrased(problem, &right, draw);
    }
    let mut text = right.answer();
    if draw.chance(0.04) {
        // the working is wrong, the final line is right
        let flawed = flawed_work(problem, style.misleading, draw);
        text = format!("{}\nThe answer is {}.", flawed.line(), right.value);
    }
    Answer { text, value: Some(right.value) }
}

fn phrased(problem: &ArithmeticProblem, work: &Working, draw: &mut Draw) -> Answer {
    if draw.chance(0.03) {
        let text = format!("It is {}.", words(work.value));
        return Answer { text, value: Some(work.value) };
    }
    let value = match work.value {
        value if value >= 1000 && draw.chance(0.1) => {
            format!("{},{:03}", value / 1000, value % 1000)
        }
        value => value.to_string(),
    };
    let statement = draw
        .pick(&STATEMENTS)
        .replace("{v}", &value)
        .replace("{p}", &work.head)
        .replace("{w}", &work.line())
        .replace("{x}", &wrong_value(problem, draw).to_string());
    let before = if draw.chance(FRAMED) { *draw.pick(&BEFORE) } else { "" };
    let after = if draw.chance(FRAMED) { *draw.pick(&AFTER) } else { "" };
    Answer { text: format!("{before}{statement}{after}"), value: Some(work.value) }
}

/// No final number: a refusal, or working that was cut off.
fn silent_answer(problem: &ArithmeticProblem, worked: bool, draw: &mut Draw) -> Answer {
    if !worked && draw.chance(0.7) {
        return Answer { text: (*draw.pick(&SILENT)).to_owned(), value: None };
    }
    let line = work(problem, &mut |_| false).line();
    let end = line.find(", so").unwrap_or(line.len()) as u32;
    let cut = draw.between(3, end) as usize;
    Answer { text: line[..cut].to_owned(), value: None }
}

/// Working with a wrong result: from a forgotten carry where the problem has one, or else from
/// [`wrong_value`].
fn flawed_work(problem: &ArithmeticProblem, misleading: f64, draw: &mut Draw) -> Working {
    let right = work(problem, &mut |_| false);
    if misleading > 0.0 && draw.chance(misleading) {
        return misleading_work(problem, draw);
    }
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
        // one step is wrong too
        let slip = draw.between(0, steps.len() as u32 - 1) as usize;
        if let Some((sum, _)) = steps[slip].split_once('=') {
            steps[slip] = format!("{sum}={}", draw.between(0, 18));
        }
    }
    Working { head: right.head, steps, value }
}

/// Wrong working that looks sound: that of another problem, or one with a slip in a step on which
/// the later steps build.
fn misleading_work(problem: &ArithmeticProblem, draw: &mut Draw) -> Working {
    loop {
        let found = match draw.chance(0.5) {
            true => {
                let n_places = problem.a.max(problem.b).to_string().len() as u32;
                let place = draw.between(0, n_places - 1) as usize;
                let by = *draw.pick(&[-3, -2, -1, 1, 2, 3, 10, -10]);
                work_with(problem, &mut |_| false, Some((place, by)))
            }
            false => work(&misread(problem, draw), &mut |_| false),
        };
        if found.value != problem.answer() {
            return found;
        }
    }
}

/// Another problem: one digit or the operation differs, or everything does.
fn misread(problem: &ArithmeticProblem, draw: &mut Draw) -> ArithmeticProblem {
    let mut other = *problem;
    match draw.between(0, 5) {
        0 | 1 => other.a = change_digit(problem.a, draw),
        2 | 3 => other.b = change_digit(problem.b, draw),
        4 => other.op = *draw.pick(&[Op::Add, Op::Sub, Op::Mul]),
        _ => other = ArithmeticProblem::draw(draw),
    }
    if other.op == Op::Mul && other.b > 9 {
        other.b = draw.between(2, 9);
    }
    if other.op == Op::Sub && other.a < other.b {
        (other.a, other.b) = (other.b, other.a);
    }
    other
}

/// A wrong number, by one of the mistakes that people make.
fn wrong_value(problem: &ArithmeticProblem, draw: &mut Draw) -> u32 {
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
