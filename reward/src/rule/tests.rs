//! Final answers as people and models write them.

use proptest::prelude::*;

use super::{final_number, is_correct};

#[test]
fn rule_compares_the_final_answer() {
    let right = [
        ("140", "140"),
        ("47 + 93: 7+3=10, 4+9+1=14, so 140.\nThe answer is 140.", "140"),
        ("\\boxed{140} since 7+3=10", "140"),
        ("\\boxed{\\text{140}}", "140"),
        ("It costs $1,200.50.", "1200.5"),
        ("It is -7.", "-7"),
        ("10-3 = 7", "7"),
        ("so 5-3", "3"),
        ("so 5 -3", "3"),
        ("x = \u{2212}3", "-3"),
        ("it is item-3", "3"),
        ("<think>it is 3</think> 4", "4"),
        ("The answer is **Paris**.", "paris"),
        ("\\boxed{x + 1}", "x + 1"),
        ("The total is 72", "Natalia sold 72 clips. #### 72"),
        ("007", "7"),
        ("0.50", "0.5"),
        ("1, 2, 3", "3"),
    ];
    for (completion, reference) in right {
        assert!(is_correct(completion, reference), "{completion:?} {reference:?}");
    }
    let wrong = [
        ("", "140"),
        ("I don't know.", "140"),
        ("140 or 141", "140"),
        ("\\boxed{141} not 140", "140"),
        ("<think>it is 140", "140"),
        ("7", "-7"),
        ("14", "140"),
        ("London", "Paris"),
        ("", "Paris"),
    ];
    for (completion, reference) in wrong {
        assert!(!is_correct(completion, reference), "{completion:?} {reference:?}");
    }
}

proptest! {
    #[test]
    fn rule_survives_any_text(text in "\\PC*", reference in "\\PC{0,8}") {
        let _ = is_correct(&text, &reference);
    }

    #[test]
    fn rule_finds_a_number_at_the_end(value in -100_000i64..100_000) {
        let text = format!("So it is {value}.");
        prop_assert!(is_correct(&text, &value.to_string()));
        prop_assert!(final_number(&text).is_some());
    }
}
