//! The verdict in a judge's output.

use joust_reward::verdict::parse;
use joust_schema::tables::Verdict;

/// Parses any text. What stands before the last thought decides nothing.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let verdict = parse(&text);
    if text.contains("</think>") {
        for before in ["", "<think>\\boxed{Assistant 1}", "\\boxed{Assistant 2}</think>\\boxed{"] {
            assert_eq!(parse(&format!("{before}{text}")), verdict, "{text:?} after {before:?}");
        }
    } else {
        assert_eq!(verdict, Verdict::Invalid, "a verdict without an end of its thought: {text:?}");
    }
}
