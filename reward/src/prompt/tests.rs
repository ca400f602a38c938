//! Bytes of the prompt and the removal of thoughts.

use super::*;

#[test]
fn prompt_user_turn_has_the_published_bytes() {
    let [system, user] = messages("What is {2+2}?", "4", "{5}");
    assert_eq!((system.role.as_str(), user.role.as_str()), ("system", "user"));
    assert_eq!(system.content, SYSTEM);
    assert_eq!(
        user.content,
        "## Query\n\nWhat is {2+2}?\n\n## Assistant responses\n\n\
         ### Assistant 1\n\n4\n\n\n### Assistant 2\n\n{5}\n\n\
         ## Analysis\n\nLet's analyze this step by step and decide which assistant is better, \
         and then answer \
         \\boxed{Assistant 1} or \\boxed{Assistant 2}."
    );
}

#[test]
fn prompt_system_text_has_the_published_shape() {
    assert!(SYSTEM.starts_with("You are a helpful assistant in evaluating the quality of"));
    assert!(SYSTEM.ends_with("Omit any other output.\n\n") && !SYSTEM.ends_with("\n\n\n"));
    assert!(!SYSTEM.contains("\\\\boxed") && !SYSTEM.contains('\r'));
    assert_eq!(SYSTEM.matches("\\boxed{Assistant ").count(), 2);
    assert_eq!(SYSTEM.lines().count(), 13);
    assert!(SYSTEM.lines().all(|line| line == line.trim()));
}

#[test]
fn strip_thinking_removes_thoughts() {
    let cases = [
        ("", ""),
        ("  plain \n", "plain"),
        ("<think>\nhm\n</think>\n\n 42 ", "42"),
        ("hm</think>42", "42"),
        ("<think>a</think>b<think>c</think> d", "d"),
        ("<think>never closed", ""),
        ("\n <think>", ""),
        ("the tag <think> in the middle", "the tag <think> in the middle"),
        ("only thought</think>", ""),
        ("<think>a</think>\n<think>still unsure, 7", ""),
        ("<think>a</think> It is 5.\n <think>or 7", "It is 5."),
        ("Let me think.\n<think>7", "Let me think."),
        ("<think>a</think>write `<think>` first", "write `<think>` first"),
        ("<think>\u{1f914}</think>\u{a0}été\u{a0}", "été"),
    ];
    for (text, answer) in cases {
        assert_eq!(strip_thinking(text), answer, "{text:?}");
    }
}

#[test]
fn after_opened_thought_opens_no_second_one() {
    for (prompt, completion, wanted) in [
        ("Q<think>\n", "<think>\nsum\n</think>\n\n5", Some("sum\n</think>\n\n5")),
        ("Q<think>\n", "\n<think>\n\nsum</think>5", Some("\nsum</think>5")),
        ("Q<think>\n", "<think>sum</think>5", Some("sum</think>5")),
        ("Q<think>", "<think>\nsum</think>5", Some("\nsum</think>5")),
        ("Q<think>\n", "sum\n</think>\n\n5", Some("sum\n</think>\n\n5")),
        ("Q<think>\n", "5", None),
        ("Q<think>\n", "<think>\nsum", None),
        ("Q", "<think>\nsum</think>5", Some("<think>\nsum</think>5")),
        ("Q<think>\n\n</think>\n\n", "5", Some("5")),
        ("What does <think> mean?", "5", Some("5")),
    ] {
        assert_eq!(after_opened_thought(prompt, completion), wanted, "{prompt:?} {completion:?}");
    }
}

#[test]
fn with_opened_thought_leaves_an_unfinished_thought_without_answer() {
    for prompt in ["Q\n<think>", "Q<think>\n", "<|assistant|><think>\n\n"] {
        let answer = |text: &str| strip_thinking(&with_opened_thought(prompt, text)).to_owned();
        assert_eq!(answer("So it is 7."), "");
        assert_eq!(answer("So it is 6.</think>\n\nIt is 7."), "It is 7.");
    }
    for prompt in ["Q", "What does <think> mean?", "<think>\n\n</think>\n\n"] {
        assert_eq!(with_opened_thought(prompt, "It is 7."), "It is 7.");
        assert_eq!(answer(prompt, "It is 7."), "It is 7.");
    }
}
