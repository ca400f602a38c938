//! Free wording: questions and answers in random words, so that a judge learns to read phrasings
//! that no list has.

use std::sync::LazyLock;

use crate::draw::Draw;
use crate::problem::{ArithmeticProblem, Op};

/// Common words; fillers mix them with strings of random letters.
static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| LIST.split(' ').collect());
const LIST: &str = "\
    the a my our your this that it I we you they he she is was are be has have had do \
    does can will would should must may get got give gives make makes take find think \
    know say see come go let need want work count check look so then now here there \
    first next last again also just only very quite really all both each some any more \
    most other same new old good right clear simple easy hard small big whole number \
    value answer result total sum math step way day time thing problem question solution \
    calculation people euros pens cats cars house school in on of to for with from by \
    and or but if because equals";
const JOINTS: [&str; 14] =
    [" ", " ", " ", ": ", ", ", " = ", " is ", "\n", "\n\n", " - ", "... ", "! ", " **", " ("];
const ENDS: [&str; 8] = ["", "", "", ".", ".", "!", "**", ")"];

/// Questions in free wording: `{a}` and `{b}` are the numbers, `{f}` is filler, `{t}` a thing.
const ADD: [&str; 8] = [
    "{f} {a} plus {b} {f}",
    "{f} {a} + {b} {f}",
    "{f} add {a} and {b} {f}",
    "{f} the sum of {a} and {b} {f}",
    "If I have {a} {t} and get {b} more, {f}?",
    "{a} {t} and {b} more {t}: {f}?",
    "{f} {a} {t}. Then {b} {t} are added. {f}?",
    "{f} earned {a} {t} and then another {b}. How many {t} {f}?",
];
const SUB: [&str; 8] = [
    "{f} {a} minus {b} {f}",
    "{f} {a} - {b} {f}",
    "{f} subtract {b} from {a} {f}",
    "{f} the difference between {a} and {b} {f}",
    "I had {a} {t} and lost {b}. {f} left?",
    "{f} had {a} {t} and spent {b}. How much is left {f}?",
    "{a} {t}, {b} of them are gone: {f} remain?",
    "{f} {a} less {b} {f}",
];
const MUL: [&str; 8] = [
    "{f} {a} times {b} {f}",
    "{f} {a} * {b} {f}",
    "{f} multiply {a} by {b} {f}",
    "{f} the product of {a} and {b} {f}",
    "{b} boxes with {a} {t} each: {f}?",
    "{f} {b} rows of {a} {t}. {f}?",
    "Each of {b} {t} costs {a}. {f} all of them?",
    "{f} {a} multiplied by {b} {f}",
];

/// A question about `problem` in free wording.
pub(crate) fn question(problem: &ArithmeticProblem, draw: &mut Draw) -> String {
    let templates: &[&str] = match problem.op {
        Op::Add => &ADD,
        Op::Sub => &SUB,
        Op::Mul => &MUL,
    };
    let mut text = String::new();
    let mut rest = *draw.pick(templates);
    while let Some((before, after)) = rest.split_once("{f}") {
        text.push_str(before);
        text.push_str(&filler(draw, 4));
        rest = after;
    }
    text.push_str(rest);
    let thing = word(draw);
    let text = text
        .replace("{a}", &problem.a.to_string())
        .replace("{b}", &problem.b.to_string())
        .replace("{t}", &thing);
    text.trim().to_owned()
}

/// An answer in free wording whose final number is `value`.
pub(crate) fn answer(problem: &ArithmeticProblem, value: u32, draw: &mut Draw) -> String {
    let mut text = filler(draw, 6);
    if draw.chance(0.15) {
        text.push_str(&format!(" {problem} = "));
    } else if !text.is_empty() {
        text += *draw.pick(&JOINTS);
    }
    text.push_str(&value.to_string());
    text += *draw.pick(&ENDS);
    if draw.chance(0.4) {
        text += *draw.pick(&[" ", "\n", " "]);
        text.push_str(&filler(draw, 6));
        text += *draw.pick(&ENDS);
    }
    text
}

/// Up to `n_words` random words, most often with a capital letter at the front.
fn filler(draw: &mut Draw, n_words: u32) -> String {
    let n_words = draw.between(0, n_words);
    let words: Vec<String> = (0..n_words).map(|_| word(draw)).collect();
    let text = words.join(" ");
    match text.chars().next() {
        Some(first) if draw.chance(0.7) => {
            first.to_uppercase().chain(text.chars().skip(1)).collect()
        }
        _ => text,
    }
}

fn word(draw: &mut Draw) -> String {
    if draw.chance(0.7) {
        return (*draw.pick(&WORDS)).to_owned();
    }
    let letter = |draw: &mut Draw| char::from(b'a' + draw.between(0, 25) as u8);
    let mut word: String = (0..draw.between(1, 8)).map(|_| letter(draw)).collect();
    if draw.chance(0.1) {
        word += *draw.pick(&["'s", "'t", "-", ",", ";", ":"]);
    }
    word
}
