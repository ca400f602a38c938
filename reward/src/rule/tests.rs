//! Final answers as people and models write them, and the pairs of math-verify.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;

use super::{Correctness, correctness, final_number, is_correct};

/// Pairs that are decided otherwise than by math-verify, on purpose, by reason.
const DIFFERENCES: &[(&str, &[&str])] = &[
    (
        "spaces, points and commas behind an answer, and its style, are not part of it",
        &[
            "decimal-zeros/4",
            "decimal-zeros/27",
            "tails/1",
            "tails/2",
            "boxes-in-text/32",
            "spaces/5",
            "spaces/6",
            "spaces/12",
            "letters/10",
            "letters/23",
            "percent/16",
            "percent/32",
            "units/6",
            "units/24",
            "units/42",
        ],
    ),
    ("`**` is a power, as in Python", &["exponents/11", "exponents/28", "exponents/45"]),
    ("two numbers below the tolerance are not equal for that", &["small/4"]),
    (
        "the degree sign is one in every spelling",
        &["degrees/6", "degrees/9", "degrees/17", "degrees/20"],
    ),
    (
        "money may be written in words and with its sign as text",
        &["currency/7", "currency/10", "currency/18", "currency/21"],
    ),
    ("all signs for minus are minus", &["signs/11", "minus-in-text/4", "minus-in-text/9"]),
    ("× is a product in plain text too", &["expressions-in-text/8"]),
    ("an interval may be written with a semicolon", &["intervals/13"]),
    ("a text between elements is a separator", &["sets/9", "sets/24", "sets/39"]),
    ("a decimal in an exponent is exact", &["roots/16", "roots/34"]),
    ("π may be written as a word", &["pi/12"]),
    ("inequalities may be read from right to left", &["chains/6", "reversed-chains/1"]),
    ("points may stand in angle brackets", &["angle-brackets/1", "angle-brackets/2"]),
    ("factors with marks and subscripts have no order", &["marks/9"]),
    ("arguments of one token need no braces", &["pi-fractions/4", "binomials/2", "binomials/9"]),
    ("words are compared without regard to case", &["truth/4"]),
    ("the empty set has several spellings", &["empty-set/2", "empty-set/5", "empty-set/7"]),
    ("the ending of an ordinal is no power", &["ordinals/1", "ordinals/5"]),
    (
        "a repeating decimal is a fraction",
        &["repeating/1", "repeating/2", "repeating/7", "repeating/9"],
    ),
    (
        "a number or a point may stand in brackets or quotes",
        &[
            "numbers-in-text/35",
            "numbers-in-text/36",
            "numbers-in-text/37",
            "points-in-text/2",
            "points-in-text/3",
        ],
    ),
    ("a framed answer is in a box", &["boxes-in-text/11"]),
    ("where a box is empty no other number is the answer", &["boxes-in-text/24"]),
    ("a completion that is the known answer is correct", &["expressions-as-answer/4"]),
    ("a box that is taken back is no part of a list", &["boxes-in-text/5"]),
    ("numbers in different bases differ", &["bases/5", "bases/6"]),
    (
        "i is the imaginary unit in powers too",
        &["complex-products/1", "complex-products/5", "complex-products/7"],
    ),
    ("an interval may be given as an inequality", &["infinite-intervals/8"]),
];

#[test]
fn is_correct_agrees_with_math_verify_apart_from_the_named_differences() {
    #[derive(Deserialize)]
    struct Pair {
        name: String,
        gold: String,
        completion: String,
        correct: bool,
    }
    let text = include_str!("../../../tests/golden/answers.jsonl");
    let pairs: Vec<Pair> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(pairs.len() >= 500);
    let named: BTreeSet<&str> = DIFFERENCES.iter().flat_map(|(_, names)| *names).copied().collect();
    let mut found = BTreeSet::new();
    let mut unnamed = Vec::new();
    for pair in &pairs {
        let ours = correctness(&pair.completion, &pair.gold);
        if ours.is_correct() != pair.correct {
            let name = pair.name.as_str();
            found.insert(name);
            if !named.contains(name) {
                let (gold, completion) = (&pair.gold, &pair.completion);
                unnamed.push(format!("{name}: {ours:?} for {gold:?} and {completion:?}"));
            }
        }
    }
    assert!(unnamed.is_empty(), "{unnamed:#?}");
    assert_eq!(found, named);
}

/// Known answer, completion.
const RIGHT: &[(&str, &str)] = &[
    ("140", "47 + 93: 7+3=10, 4+9+1=14, so 140.\nThe answer is 140."),
    ("140", "\\boxed{140} since 7+3=10"),
    ("140", "\\boxed{\\text{140}}"),
    ("1200.5", "It costs $1,200.50."),
    ("-3", "x = \u{2212}3"),
    ("4", "<think>it is 3</think> 4"),
    ("paris", "The answer is **Paris**."),
    ("Paris", "\\boxed{\\text{Paris}}"),
    ("B", "The answer is (B)."),
    ("x + 1", "\\boxed{x + 1}"),
    ("Natalia sold 72 clips. #### 72", "The total is 72"),
    ("7", "007"),
    ("true", "The answer is True."),
    // JSON numbers, as Python writes them
    ("98765432109876543210987", "\\boxed{98765432109876543210987}"),
    ("2.5e+20", "\\boxed{250000000000000000000}"),
    ("3e-09", "\\boxed{3\\times10^{-9}}"),
    ("1e400", "\\boxed{10^{400}}"),
    ("5.0", "\\boxed{5}"),
    // several known answers
    ("[\"7\",\"seven\"]", "\\boxed{7}"),
    ("[\"7\",\"seven\"]", "The answer is seven."),
    ("\\frac{3}{8}", "\\boxed{.375}"),
    ("12", "\\boxed{12\\text{ km}}"),
    ("\\sqrt{12}", "\\boxed{2\\sqrt3}"),
    ("3600", "The answer is 3,600 m."),
    ("45", "\\boxed{45^\\circ}"),
    ("7", "\\boxed{\\$7.00}"),
    ("\\frac{3}{56}", "\\boxed{{3 \\over 56}}"),
    ("120", "\\boxed{{10 \\choose 3}}"),
    ("\\frac{n(n+1)}{2}", "\\boxed{\\binom{n+1}{2}}"),
    ("2024!", "\\boxed{2024 \\cdot 2023!}"),
    ("45^\\circ", "\\boxed{\\angle A = 45^\\circ}"),
    ("\\vec{a}+\\vec{b}", "\\boxed{\\vec b+\\vec a}"),
    ("\\dot{x}_0 t", "\\boxed{t \\dot{x}_{0}}"),
    ("(1,2,3)", "\\boxed{\\left\\langle 1, 2, 3 \\right\\rangle}"),
    ("7", "\\boxed{\\bf 7}"),
    ("7", "\\boxed{\\textcolor{red}{\\large 7}}"),
    ("\\frac12", "\\boxed{\\text{\\frac{1}{2}}}"),
    ("25", "\\boxed{2500\\%}"),
    (
        "\\begin{pmatrix} 1/3 \\\\ 2/3 \\end{pmatrix}",
        "\\boxed{\\frac13\\begin{bmatrix} 1 \\\\ 2 \\end{bmatrix}}",
    ),
    (
        "\\begin{pmatrix} 2 & 0 \\\\ 0 & 3 \\end{pmatrix}",
        "\\boxed{\\left(\\begin{array}{cc} 2 & 0 \\\\ 0 & 3 \\end{array}\\right)}",
    ),
    ("\\binom{2n}{n}", "\\boxed{\\frac{(2n)!}{(n!)^2}}"),
    ("n!", "\\boxed{n (n-1)!}"),
    ("\\sqrt[n]{a}", "\\boxed{a^{1/n}}"),
    ("m+n=204", "\\boxed{204}"),
    ("0 < a \\leq \\frac14", "\\boxed{0.25 \\ge a > 0}"),
    ("10000", "\\boxed{10\\;000}"),
    // letters as symbols
    ("x-y", "\\boxed{-y+x}"),
    ("x-y", "The answer is $x - y$."),
    ("ab-c", "\\boxed{-c+ab}"),
    ("abc", "\\boxed{a b c}"),
    ("RT", "\\boxed{R T}"),
    ("x-y", "\\boxed{(x-y)}"),
    // words that scale a number
    ("5000000", "\\boxed{\\$5 million}"),
    ("5000000", "\\boxed{5\\text{ million}}"),
    ("5000000", "The answer is $5 million."),
    ("2500000", "\\boxed{2.5 million dollars}"),
    ("36", "\\boxed{3 dozen}"),
    ("5", "\\boxed{5 red balls}"),
    ("10\\text{ students}", "\\boxed{10\\text{ people}}"),
    ("2:30", "\\boxed{2:30 PM}"),
    // numbers that go on
    ("9\\pi", "The area is 9π."),
    ("9\\pi", "The area is 9π cm²."),
    ("2.5", "The answer is 2½."),
    ("2\\sqrt{3}", "The answer is 2√3."),
    ("3\\times10^8", "The speed is 3×10⁸ m/s."),
    ("300000000", "The answer is 3·10^8."),
    ("300000000", "The answer is 3 x 10^8 m/s."),
    ("1500", "\\boxed{1.5 x 10^3}"),
    ("3+4i", "The answer is 3 + 4i."),
    ("3x+1", "The answer is 3x + 1."),
    ("8", "The answer is 2³."),
    ("x^4", "\\boxed{x⁴}"),
    ("x>2", "The answer is x > 2."),
    ("-3", "The answer is - 3."),
    ("-3", "The answer is negative 3."),
    ("1234", "The total is 1'234."),
    ("1234", "\\boxed{1_234}"),
    ("1.5", "The answer is 1 1/2."),
    ("3", "The answer is 3 - I think."),
    ("5", "It weighs 5kg."),
    // marks around an answer
    ("42", "<answer>42</answer>"),
    ("42", "<answer>The answer is 42.</answer> Is it 7?"),
    ("Paris", "<answer>Paris</answer>"),
    ("B", "<answer>B</answer>"),
    ("42", "Answer:42"),
    ("42", "The answer is:42"),
    ("42", "####42"),
    ("42", "The answer is `42`."),
    ("42", "The answer is '42'."),
    ("42", "The answer is __42__."),
    ("42", "The answer is ***42***."),
    ("42", "答案是42。"),
    ("42", "答案：42"),
    // a list is one, and a correction is none
    ("5, 6, 7", "The answer is 5, 6 and 7."),
    ("1000", "The answer is 1,000."),
    ("6", "\\boxed{5} is wrong; it is \\boxed{6}"),
    ("6", "\\boxed{5}? No, \\boxed{6}"),
    ("6", "I first got \\boxed{5}, and after checking, \\boxed{6}."),
    ("1, 2", "$x = \\boxed{1}$ and $y = \\boxed{2}$"),
    // choices with their text
    ("B", "\\boxed{(B) 5}"),
    ("B", "\\boxed{\\textbf{(B)}\\ 5}"),
    ("B", "\\boxed{\\text{Option B}}"),
    ("B", "\\boxed{\\text{B. }5}"),
    ("B", "The answer is (B) 12."),
    ("B", "The answer is B because 5 > 3."),
    ("B", "The correct option is B."),
    ("\\textbf{(B)}\\ 5", "\\boxed{B}"),
    // intervals and inequalities, complex numbers
    ("(3,\\infty)", "\\boxed{x>3}"),
    ("(-2,3)", "\\boxed{-2<x<3}"),
    ("x=1, y=2", "\\boxed{(1,2)}"),
    ("\\frac{1-i}{2}", "\\boxed{\\frac{1}{1+i}}"),
    ("2i", "\\boxed{(1+i)^2}"),
    ("|x|", "\\boxed{\\sqrt{x^2}}"),
    ("\\sin^2 x + \\cos^2 x - 1", "\\boxed{0x}"),
    ("f'(2)", "\\boxed{f^{\\prime}(2)}"),
    ("2024-05-06", "\\boxed{2024-05-06}"),
    ("1011_2", "\\boxed{1011}"),
    // not understood, but spelt alike
    ("a_1+\\cdots+a_n", "\\boxed{a_1 + \\dots + a_{n}}"),
    ("\\textbf{(A)}\\ 5", "\\boxed{\\textbf{(A) }5}"),
    ("\\sum_{k=1}^{n} k", "\\boxed{\\sum_{k=1}^n k}"),
    ("1 \\pmod{4}", "\\boxed{1\\pmod4}"),
];

const WRONG: &[(&str, &str)] = &[
    ("140", "140 or 141"),
    ("140", "\\boxed{141} not 140"),
    ("-7", "7"),
    ("140", "14"),
    ("Paris", "London"),
    ("Paris", "The answer is London."),
    // only the last digits of these are the known answer
    ("5", "\\boxed{.5}"),
    ("2", "\\boxed{\\frac{1}{2}}"),
    ("2", "\\boxed{1/2}"),
    ("3", "\\boxed{1e3}"),
    ("2", "\\boxed{3\\sqrt{2}}"),
    ("2", "\\boxed{x^2}"),
    ("3", "\\boxed{2:3}"),
    ("5", "The answer is .5"),
    ("7", "\\boxed{[3, 7]}"),
    ("4", "\\boxed{1, 4}"),
    ("9", "\\boxed{x = 1, y = 9}"),
    ("98765432109876543210987", "\\boxed{98765432109876543210988}"),
    ("0.0000001", "\\boxed{0.0000003}"),
    ("n!", "\\boxed{n (n+1)!}"),
    ("0 < a < 1", "\\boxed{1 < a < 0}"),
    // an end of an interval is near no infinite one
    ("x > 3", "\\boxed{(-\\infty, 0)}"),
    ("(1, 2)", "\\boxed{\\mathbb{R}}"),
    ("(-\\infty, 3)", "\\boxed{(2, 3)}"),
    ("\\vec{a}", "\\boxed{\\vec{b}}"),
    ("\\binom{n}{2}", "\\boxed{\\binom{n}{3}}"),
    // words that are not dropped, though math-verify drops some
    ("6 am", "\\boxed{6 pm}"),
    ("6\\text{ a.m.}", "\\boxed{6\\text{ p.m.}}"),
    ("2:30\\text{ PM}", "\\boxed{2:30\\text{ AM}}"),
    ("30^\\circ\\text{ N}", "\\boxed{30^\\circ\\text{ S}}"),
    ("3 miles east", "\\boxed{3 miles west}"),
    ("5", "\\boxed{5\\text{ million}}"),
    ("5", "\\boxed{5\\text{ thousand}}"),
    ("3", "\\boxed{3\\text{ dozen}}"),
    ("5", "The answer is 5 million."),
    ("2\\pi", "\\boxed{2 \\pi h}"),
    ("2\\pi h", "\\boxed{2\\pi s}"),
    ("\\frac{1}{2}", "\\boxed{\\frac{1}{2} m}"),
    ("5", "\\boxed{5 factorial}"),
    // anagrams
    ("Leon, Bob", "\\boxed{Noel, Bob}"),
    ("spot, tan", "\\boxed{tops, nat}"),
    ("no", "\\boxed{on}"),
    ("listen", "\\boxed{silent}"),
    // dates
    ("2024-05-06", "\\boxed{2024-06-05}"),
    ("10/5/2020", "\\boxed{4/2/2020}"),
    // derivatives
    ("f'(2)", "\\boxed{f(2)}"),
    ("y''+y=0", "\\boxed{y'+y=0}"),
    ("A'", "\\boxed{A}"),
    // numbers that go on
    ("9", "The area is 9π."),
    ("2", "The answer is 2½."),
    ("2", "The answer is 2√3."),
    ("3", "The answer is 3·10^8."),
    ("3", "The speed is 3×10⁸ m/s."),
    ("1.5", "The answer is 1.5 x 10^3."),
    ("3", "The answer is 3 + 4i."),
    ("3", "The answer is 3x + 1."),
    ("7", "The answer is 7²."),
    ("5", "The answer is 5/x."),
    ("2", "The answer is x > 2."),
    ("3", "The answer is - 3."),
    ("3", "The answer is negative 3."),
    ("1", "The answer is 1,00,000."),
    ("1", "The total is 1'234."),
    ("1", "The total is 1_234."),
    ("1.234", "The total is 1.234,56 €."),
    ("1", "\\boxed{1_234}"),
    ("101_2", "\\boxed{101_3}"),
    // guesses
    ("5", "Answer: 5, 6, 7, 8"),
    ("5", "The final answer is 5, 6, 7, 8, 9"),
    ("5", "The answer is 5 or 7."),
    ("5", "The answer is between 5 and 7."),
    ("5", "\\boxed{5}, \\boxed{6}"),
    ("A", "\\boxed{(A), (B), (C)}"),
    ("B", "\\boxed{(C) 5}"),
    ("B", "\\boxed{\\text{A or B}}"),
    // points and intervals
    ("x=1, y=2", "\\boxed{(2,1)}"),
    ("x=1, y=2", "\\boxed{2,1}"),
    ("(3,\\infty)", "\\boxed{x<3}"),
    ("-1", "\\boxed{i^3}"),
];

/// The completion has no answer.
const MISSING: &[(&str, &str)] = &[
    ("140", ""),
    ("140", "I don't know."),
    ("140", "<think>it is 140"),
    ("1", "so the answer is \\boxed{1"),
    ("1", "\\boxed{}"),
    ("3", "it is item-3"),
    ("7", "<think>a</think>\n<think>still unsure, maybe 7"),
];

/// The rule cannot read one of the answers.
const NOT_UNDERSTOOD: &[(&str, &str)] = &[
    ("1", "\\boxed{\\int_0^1 2x\\,dx}"),
    ("\\int_0^1 2x\\,dx", "\\boxed{1}"),
    ("2", "\\boxed{1 2}"),
    ("103", "\\boxed{1+2+\\cdots+100}"),
    ("1, 2, 10", "\\boxed{1, 2, \\ldots, 10}"),
    ("5", "\\boxed{???}"),
];

#[test]
fn correctness_of_answers_as_people_write_them() {
    let tables = [
        (RIGHT, Correctness::Correct),
        (WRONG, Correctness::Wrong),
        (MISSING, Correctness::NoAnswer),
        (NOT_UNDERSTOOD, Correctness::NotUnderstood),
    ];
    for (table, wanted) in tables {
        for (known, completion) in table {
            assert_eq!(correctness(completion, known), wanted, "{known:?} {completion:?}");
        }
    }
}

#[test]
fn correctness_is_not_given_by_terms_that_cancel_and_are_too_large_for_floats() {
    let any = "\\boxed{10^{99}\\pi-10^{99}\\pi+x}";
    for known in ["42", "\\frac{3}{7}", "2x+1", "yes", "\\sin x", "x^2"] {
        assert!(!is_correct(any, known), "{known}");
    }
    let cases = [
        ("(1,2)", "\\boxed{(10^{99}\\pi-10^{99}\\pi+x, 10^{99}\\pi-10^{99}\\pi+x)}"),
        ("x>2", "\\boxed{x>10^{99}\\pi-10^{99}\\pi+y}"),
        ("\\sin x", "\\boxed{10^{99}-10^{99}}"),
        ("e^x", "\\boxed{10^{99}-10^{99}}"),
    ];
    for (known, completion) in cases {
        assert!(!is_correct(completion, known), "{known}");
    }
    // terms that cancel honestly are decided where floats can tell
    assert!(is_correct("\\boxed{\\sin^2 x+\\cos^2 x-1+x}", "x"));
}

#[test]
fn correctness_looks_through_more_words_of_the_same_thing() {
    for (known, completion) in [
        ("12 ways", "\\boxed{12 different ways}"),
        ("12 ways", "\\boxed{12 ways in total}"),
        ("5 apples", "\\boxed{5 apples left}"),
    ] {
        assert!(is_correct(completion, known), "{known}: {completion}");
    }
    assert!(!is_correct("\\boxed{3 blue balls}", "3 red balls"));
}

#[test]
fn correctness_of_the_same_unreadable_text_is_correct() {
    assert!(is_correct("\\boxed{\\int_0^1 f}", "\\int_0^1 f"));
}

#[test]
fn correctness_is_quick_for_hostile_texts() {
    let repeated = |part: &str| part.repeat(100_000 / part.len());
    let texts = [
        "\\(",
        "$",
        "$1 ",
        "1 ",
        "12,345",
        "(",
        "answer ",
        "\\boxed{",
        "\\boxed 1 ",
        "\\boxed{1} ",
        "*",
        "1+",
        "\\frac{1}{2}",
        "^2",
        "2^",
        "{",
        "|",
        "-",
        "answer is 1 = ",
        "9",
    ];
    let start = std::time::Instant::now();
    for text in texts {
        let text = repeated(text);
        let _ = correctness(&text, "5");
        let _ = correctness(&format!("\\boxed{{{text}}}"), "5");
        let _ = correctness("\\boxed{5}", &text);
    }
    // powers and factorials that no machine can write down
    for text in ["9^{9^{9^9}}", "99999!", "10^{10^{10}}", "(1+x)^{99999999}", "1e999999999"] {
        assert!(!is_correct(&format!("\\boxed{{{text}}}"), "5"));
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn correctness_survives_any_text(text in "\\PC*", reference in "\\PC{0,8}") {
        let _ = correctness(&text, &reference);
        let _ = correctness(&format!("\\boxed{{{text}}}"), &text);
    }

    #[test]
    fn correctness_survives_any_formula(parts in proptest::collection::vec(
        prop_oneof![
            Just("\\frac"), Just("{"), Just("}"), Just("1"), Just("x"), Just("^"), Just("("),
            Just(")"), Just(","), Just("\\sqrt"), Just("["), Just("]"), Just("|"), Just("-"),
            Just("\\{"), Just("\\}"), Just("="), Just("<"), Just("\\text{ cm}"), Just(" "),
            Just("\\pm"), Just("\\cup"), Just("!"), Just("%"), Just("_"), Just("\\log"), Just("."),
        ], 0..24,
    )) {
        let formula = parts.concat();
        let _ = correctness(&format!("The answer is ${formula}$."), &formula);
    }

    #[test]
    fn final_number_finds_a_number_at_the_end(value in -100_000i64..100_000) {
        let text = format!("So it is {value}.");
        prop_assert!(is_correct(&text, &value.to_string()));
        prop_assert!(final_number(&text).is_some());
    }
}
