//! A corpus of malformed judge outputs, and arbitrary text.

use joust_schema::tables::Verdict::{First, Invalid, Second};
use proptest::prelude::*;

use super::*;

#[test]
fn verdict_is_read_from_malformed_outputs() {
    let cases = [
        // the plain form, with and without the opening tag that the template supplies
        (r"hm</think>\boxed{Assistant 1}", First),
        (r"<think>hm</think>\boxed{Assistant 2}", Second),
        (r"</think>\boxed{Solution 2}", Second),
        (r"</think>So the better one is $\boxed{Assistant 1}$.", First),
        // thoughts
        ("", Invalid),
        (r"\boxed{Assistant 1}", Invalid),
        (r"<think>\boxed{Assistant 1}", Invalid),
        (r"<think>\boxed{Assistant 1}</think>", Invalid),
        (r"<think>\boxed{Assistant 1}</think>Assistant 2", Invalid),
        (r"<think>\boxed{Assistant 1} or \boxed{Assistant 2}</think>\boxed{Assistant 1}", First),
        (r"</think>\boxed{Assistant 1}</think>\boxed{Assistant 2}", Second),
        (r"</think>\boxed{Assistant 1}</think>", Invalid),
        (r"</think >\boxed{Assistant 1}", Invalid),
        // several boxes
        (r"</think>\boxed{Assistant 1}, no: \boxed{Assistant 2}", Second),
        (r"</think>\boxed{Assistant 1} or \boxed{neither}", Invalid),
        (r"</think>\boxed{Assistant 1} wait, \boxed{Assistant 2", Invalid),
        (r"</think>\boxed{Assistant 1}, in \boxed as asked", First),
        (r"</think>\boxed{\boxed{Assistant 1}}", First),
        // fonts, bold, spaces, period, case
        (r"</think>\boxed{\text{Assistant 1}}", First),
        (r"</think>\boxed{\textbf{Assistant} 2}", Second),
        (r"</think>\boxed{\text{Assistant }2}", Second),
        (r"</think>\boxed{\mathbf{\text{assistant 1}}}", First),
        (r"</think>\boxed{\mathrm{Assistant\ 2}}", Second),
        (r"</think>\boxed{\bf Assistant~1}", First),
        (r"</think>\boxed{**Assistant 1**}", First),
        (r"</think>**\boxed{Assistant **2**.}**", Second),
        ("</think>\\boxed {\n  ASSISTANT\t1\n}", First),
        (r"</think>\boxed{assistant1}", First),
        (r"</think>\boxed{Assistant 2 .}", Second),
        ("</think>\\boxed{\u{a0}Solution\u{a0}1}", First),
        (r"</think>\\boxed{Assistant 1}", First),
        // invalid
        (r"</think>\boxed{}", Invalid),
        (r"</think>\boxed{", Invalid),
        (r"</think>\boxed", Invalid),
        (r"</think>\boxed{1}", Invalid),
        (r"</think>\boxed{A}", Invalid),
        (r"</think>\boxed{Assistant}", Invalid),
        (r"</think>\boxed{Assistant 3}", Invalid),
        (r"</think>\boxed{Assistant 12}", Invalid),
        (r"</think>\boxed{Assistant 1 2}", Invalid),
        (r"</think>\boxed{Assistant 1..}", Invalid),
        (r"</think>\boxed{Assistant 1 is better}", Invalid),
        (r"</think>\boxed{Assistant 1 and Assistant 2}", Invalid),
        (r"</think>\boxed{Not Assistant 1}", Invalid),
        (r"</think>\boxed{Response 1}", Invalid),
        (r"</think>\boxed{\frac{Assistant 1}{2}}", Invalid),
        (r"</think>\boxed{\textAssistant 1}", Invalid),
        (r"</think>\boxed{Assistant 1\}", Invalid),
        (r"</think>\boxed{Assistant １}", Invalid),
        ("</think>\\boxed{Аssistant 1}", Invalid), // a Cyrillic А
        ("</think>\\boxed{🤖\\", Invalid),
        ("</think>\\boxed{🤖\\é}", Invalid),
    ];
    for (text, verdict) in cases {
        assert_eq!(parse(text), verdict, "{text:?}");
    }
}

/// Pieces that the parser looks for, so that random texts reach all of it.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "</think>",
            "<think>",
            r"\boxed",
            r"\boxed{",
            "{",
            "}",
            "Assistant",
            "Solution",
            " ",
            "1",
            "2",
            ".",
            "*",
            "**",
            "\\",
            r"\text{",
            r"\mathbf{",
            "~",
            "é",
            "\u{2028}",
            "🤖",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #[test]
    fn verdict_of_arbitrary_text_never_panics(text in any::<String>()) {
        parse(&text);
        parse(&format!("</think>\\boxed{{{text}"));
        parse(&format!("</think>\\boxed{{{text}}}"));
    }

    #[test]
    fn verdict_of_fragments_never_panics(fragments in prop::collection::vec(fragment(), 0..24)) {
        let text = fragments.concat();
        if parse(&text) != Invalid {
            prop_assert!(text.contains("</think>") && text.contains(r"\boxed"));
        }
    }

    #[test]
    fn verdict_does_not_depend_on_the_text_before_the_answer(
        fragments in prop::collection::vec(fragment(), 0..24),
        second in any::<bool>(),
    ) {
        let (digit, verdict) = if second { (2, Second) } else { (1, First) };
        let text = format!("{}</think>So: \\boxed{{Assistant {digit}}}", fragments.concat());
        prop_assert_eq!(parse(&text), verdict);
    }
}
