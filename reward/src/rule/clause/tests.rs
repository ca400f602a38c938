//! Answers with explanations behind them, and lists of guesses, which must not pass for one.

use super::super::correctness;

fn check(table: &[(&str, &str)], is_correct: bool) {
    for (known, completion) in table {
        let found = correctness(completion, known);
        assert_eq!(found.is_correct(), is_correct, "{found:?}: {known:?} {completion:?}");
    }
}

#[test]
fn explanations_behind_an_answer_have_no_answer() {
    check(
        &[
            // arithmetic in words and in signs, which gives the answer once more
            ("42", "The answer is 42, 7 times 6."),
            ("42", "The final answer is 42, 7 times 6."),
            ("42", "The answer is 42, 7 x 6."),
            ("42", "The answer is 42, 6*7."),
            ("42", "Answer: 42, 6 groups of 7"),
            ("42", "The answer is 42, 7 a day for 6 days."),
            ("42", "The answer is 42, 35 plus 7."),
            ("42", "The answer is 42, 7 more than 35."),
            ("42", "The answer is 42, 3 less than 45."),
            ("42", "The answer is 42, 84 divided by 2."),
            ("42", "The answer is 42, 50% of 84."),
            ("42", "The answer is 42, 2 times 3 times 7."),
            ("42", "The answer is 42 (6*7)."),
            ("42", "The answer is 42 (6 × 7)."),
            ("42", "The answer is 42 (7 times 6)."),
            ("0.5", "The answer is 1/2 (0.5)."),
            ("0.5", "The answer is 0.5, or 1/2."),
            // words that explain, in front of numbers and equations
            ("42", "The answer is 42, since 6*7 = 42."),
            ("42", "The answer is 42, since x = 7 and y = 6."),
            ("42", "The answer is 42 because x = 7."),
            ("42", "The answer is 42, because 6*7=42"),
            ("42", "The answer is 42, as x = 7."),
            ("42", "The answer is 42, i.e. x = 7."),
            ("42", "The answer is 42, i.e. 6*7."),
            ("42", "The answer is 42, which is 6 times 7."),
            ("42", "The answer is 42, which is x for y = 7."),
            ("42", "The answer is 42 (x = 7, y = 6)."),
            ("42", "The answer is 42 (since x = 7)."),
            ("42", "The answer is **42**, since x = 7."),
            ("42", "Answer: 42, since x = 7"),
            ("42", "The answer must be 42, because x = 7."),
            ("42", "The answer is $42$, because $x = 7$."),
            ("x^2", "The answer is $x^2$, since 2 is even."),
            // words that are explained
            ("yes", "The answer is yes, because 5 > 3."),
            ("Paris", "The answer is Paris, since it is the capital."),
            ("Paris", "The answer is **Paris** (because of 1900)."),
            ("42", "<answer>42, since x = 7</answer>"),
        ],
        true,
    );
}

#[test]
fn guesses_are_no_explanations() {
    check(
        &[
            ("42", "The answer is 42, 43"),
            ("42", "The answer is 42, 43."),
            ("42", "The answer is 42, 43, 7 times 6."),
            ("42", "The answer is 42, 7 times 6, 43."),
            ("42", "The answer is 42, 7 times 6 or 43."),
            ("42", "The answer is 42, 7 times 7."),
            ("42", "The answer is 42, 43 times 2."),
            ("42", "The answer is 42, 43 maybe."),
            ("42", "The answer is 42 or 43."),
            ("42", "The answer is 42, maybe 43."),
            ("42", "The answer is 42, or perhaps 43."),
            ("42", "The answer is 42 (or 43)."),
            ("42", "The answer is 42. Or 43."),
            ("42", "The answer is 42? 43?"),
            ("42", "The answer is 42, no wait, 43."),
            ("42", "The answer is 42, I mean 43."),
            ("42", "The answer is 42 (43)."),
            ("42", "The answer is 42, which is wrong; x = 43."),
            ("42", "The answer is 42, since 6*7, or x = 43."),
            ("42", "The answer is not 42."),
            ("42", "The answer is not 42, because x = 43."),
            ("42", "It is not 42."),
            ("42", "The answer isn't 42."),
            ("42", "The answer cannot be 42."),
            ("42", "The answer is not equal to 42."),
            ("42", "The answer is not $42$."),
            ("42", "The final answer isn't 42."),
            ("Death", "The answer is Death by chocolate."),
            ("yes", "The answer is yes or no, because 5 > 3."),
            ("yes", "The answer is yes, because 5 > 3. No, 5 < 3."),
        ],
        false,
    );
    // the number that is not taken back
    let not_denied = [
        ("42", "The answer is 42, not 43."),
        ("42", "The answer is not obvious, but it is 42."),
        ("42", "The answer is not 43, it is x = 42."),
    ];
    check(&not_denied, true);
    check(&[("43", "The answer is 42, because x = 43.")], false);
}
