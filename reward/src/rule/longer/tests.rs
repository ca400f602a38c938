//! Fractions of one character, and inequalities, in plain text and in formulas.

use super::super::{Correctness, correctness};

#[test]
fn fractions_of_one_character_are_numbers() {
    for (known, completion) in [
        ("1/2", "The answer is ½."),
        ("1/2", "½"),
        ("1/2", "\\boxed{½}"),
        ("0.25", "The answer is ¼ of it."),
        ("\\frac34", "So it is ¾ cup."),
        ("1/3", "The answer is ⅓."),
        ("7/8", "Answer: ⅞"),
        ("5/2", "The answer is 2½."),
        ("5/2", "The answer is 2 ½."),
        ("5/2", "\\boxed{2½}"),
        ("-1/2", "The answer is -½."),
        ("-5/2", "The answer is -2½."),
    ] {
        assert_eq!(correctness(completion, known), Correctness::Correct, "{known} {completion}");
    }
    for (known, completion) in [
        ("2", "The answer is ½."),
        ("12", "The answer is ½."),
        ("2", "The answer is 2 ½."),
        ("1/2", "The answer is ½, ¾."),
        ("1/2", "The answer is ½ or ¾."),
        ("1/2", "The answer is 2½."),
    ] {
        assert!(!correctness(completion, known).is_correct(), "{known} {completion}");
    }
}

/// Known answer and answer, which may be in a box or in plain text.
fn both(known: &str, answer: &str) -> [Correctness; 2] {
    let boxed = answer.replace(" or ", "\\text{ or }");
    [format!("\\boxed{{{boxed}}}"), format!("The answer is {answer}.")]
        .map(|completion| correctness(&completion, known))
}

#[test]
fn inequalities_with_or_between_them_are_a_union() {
    let union = "(-\\infty,-2)\\cup(2,\\infty)";
    for (known, answer) in [
        (union, "x<-2 or x>2"),
        (union, "x > 2 or x < -2"),
        ("x<-2 or x>2", "x < -2 or x > 2"),
        ("x<-2 or x>2", "x>2 or x<-2"),
        ("(-\\infty,-2]\\cup(2,\\infty)", "x<=-2 or x>2"),
        ("(-\\infty,-2]\\cup(2,\\infty)", "x ≤ -2 or x > 2"),
        ("x<-2, x>2", "x<-2 or x>2"),
        ("x \\neq 0", "x<0 or x>0"),
        ("(2,5)", "2 < x < 5"),
        ("x>2", "x>2"),
        ("x<-2", "x<-2"),
    ] {
        assert_eq!(both(known, answer), [Correctness::Correct; 2], "{known} {answer}");
    }
    for (known, answer) in [
        (union, "x<-2 or x>3"),
        (union, "x<-2 or y>2"),
        (union, "x<-2 and x>2"),
        (union, "x>2"),
        (union, "x<2 or x>-2"),
        (union, "x<=-2 or x>2"),
        ("x<-2 or x>2", "y<-2 or y>2"),
        ("x<-2 or x>2", "x<-2"),
        ("x=1, x=2", "x<1 or x>2"),
        // a bound is not the answer
        ("-2", "x < -2"),
        ("-2", "x<-2 or x>2"),
        ("2", "x<-2 or x>2"),
        ("2", "2 < x < 5"),
        ("5", "2 < x < 5"),
        ("2", "x>2"),
    ] {
        let found = both(known, answer);
        assert!(!found.iter().any(|found| found.is_correct()), "{known} {answer} {found:?}");
    }
    // tags are no inequalities
    for completion in ["The answer is <b>42</b>", "The answer is 42<br>", "The answer is 42 <br/>"]
    {
        let is_known = correctness(completion, "42");
        assert_ne!(is_known, Correctness::NotUnderstood, "{completion}");
    }
}
