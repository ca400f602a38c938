//! The final answer of a completion, compared with a known one.

use joust_reward::rule::is_correct;

/// Compares the lines after the first one, a completion, with the first line, the known answer.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (reference, completion) = text.split_once('\n').unwrap_or((&text, &text));
    let verdict = is_correct(completion, reference);
    assert_eq!(is_correct(completion, reference), verdict, "{completion:?} is {reference:?}");
    // a thought that has ended is not the answer
    let thought = format!("<think>\\boxed{{1}} so 2</think>{completion}");
    if !completion.contains("think>") {
        assert_eq!(is_correct(&thought, reference), verdict, "{completion:?} is {reference:?}");
    }
}
