//! The wordings of a problem.

use crate::draw::Draw;
use crate::number::words;
use crate::problem::{ArithmeticProblem, Op};

/// Share of the questions whose numbers are written in words, of those with a fitting wording.
const IN_WORDS: f64 = 0.2;

const ADD: [&str; 15] = [
    "{a} + {b}",
    "{a}+{b}=?",
    "Calculate {a}+{b}.",
    "What is {a} + {b}?",
    "{a} + {b} = ?",
    "Compute {a} + {b}.",
    "What is the sum of {a} and {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "What do you get when you add {b} to {a}?",
    "Please calculate {a} plus {b}.",
    "{N} has {a} {t} and finds {b} more. How many {t} does {N} have now?",
    "A shop sold {a} {t} in the morning and {b} in the afternoon. How many {t} is that in total?",
    "There are {a} {t} in one box and {b} in another. How many {t} are there in both?",
    "{N} counted {a} {t}, and then {b} more {t} arrived. How many {t} are there?",
];
const SUB: [&str; 14] = [
    "{a} - {b}",
    "{a}-{b}=?",
    "Calculate {a}-{b}.",
    "What is {a} - {b}?",
    "{a} - {b} = ?",
    "Compute {a} - {b}.",
    "What is the difference of {a} and {b}?",
    "How much is {a} minus {b}?",
    "Subtract {b} from {a}.",
    "Take {b} away from {a}. What is left?",
    "Please calculate {a} minus {b}.",
    "{N} has {a} {t} and gives {b} away. How many {t} does {N} have left?",
    "A shop had {a} {t} and sold {b} of them. How many {t} are left?",
    "Of {a} {t}, {b} are lost. How many {t} remain?",
];
const MUL: [&str; 14] = [
    "{a} * {b}",
    "{a}*{b}=?",
    "What is {a} × {b}?",
    "Calculate {a} x {b}.",
    "What is {a} * {b}?",
    "{a} * {b} = ?",
    "Compute {a} x {b}.",
    "What is the product of {a} and {b}?",
    "How much is {a} times {b}?",
    "Multiply {a} by {b}.",
    "Please calculate {a} times {b}.",
    "A box holds {a} {t}. How many {t} are in {b} boxes?",
    "{N} buys {b} bags with {a} {t} each. How many {t} does {N} have?",
    "There are {b} rows of {a} {t}. How many {t} are there?",
];
/// Phrases before a question, phrases after it, and the probability of each.
const BEFORE: [&str; 6] =
    ["Question: ", "Q: ", "Hi! ", "Please help me. ", "Quick question: ", "Problem: "];
const AFTER: [&str; 6] = [
    " Show your work.",
    " Think step by step.",
    " Answer with a number.",
    " Please explain.",
    " Give only the result.",
    " Thanks!",
];
const FRAMED: f64 = 0.08;
const NAMES: [&str; 8] = ["Ada", "Ben", "Clara", "Emil", "Mia", "Noah", "Zoe", "Tom"];
const THINGS: [&str; 8] =
    ["apples", "shells", "books", "coins", "stamps", "cards", "eggs", "marbles"];

/// A wording of `problem`.
pub(crate) fn question(problem: &ArithmeticProblem, draw: &mut Draw) -> String {
    let templates: &[&str] = match problem.op {
        Op::Add => &ADD,
        Op::Sub => &SUB,
        Op::Mul => &MUL,
    };
    let template = *draw.pick(templates);
    let has_symbol = template.contains(['*', '=', '+', '-', '×']) || template.contains(" x ");
    let in_words = !has_symbol && draw.chance(IN_WORDS);
    let write = |number: u32| {
        if in_words { words(number) } else { number.to_string() }
    };
    let is_story = template.contains("{t}");
    let swapped = problem.op == Op::Mul && !is_story && draw.chance(0.3);
    let (a, b) = if swapped { (problem.b, problem.a) } else { (problem.a, problem.b) };
    let (name, thing) = (*draw.pick(&NAMES), *draw.pick(&THINGS));
    let core = template
        .replace("{a}", &write(a))
        .replace("{b}", &write(b))
        .replace("{N}", name)
        .replace("{t}", thing);
    let before = if draw.chance(FRAMED) { *draw.pick(&BEFORE) } else { "" };
    let after = if draw.chance(FRAMED) { *draw.pick(&AFTER) } else { "" };
    format!("{before}{core}{after}")
}
