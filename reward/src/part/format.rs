//! The part `format`: whether a regular expression matches the whole completion.
//!
//! Pure. It does not know configs.

use regex::Regex;

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::pattern::whole_match;
use super::source::{PartQuestions, PartSource};

/// 1 for a completion that the expression matches as a whole, else 0.
pub(super) struct FormatRule {
    whole: Regex,
}

impl FormatRule {
    /// The rule of a pattern.
    ///
    /// # Errors
    /// As [`whole_match`].
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        Ok(Self { whole: whole_match(pattern)? })
    }

    fn number(&self, completion: &str) -> f64 {
        if self.whole.is_match(completion) { 1.0 } else { 0.0 }
    }
}

impl PartSource for FormatRule {
    fn score(&mut self, questions: PartQuestions) {
        let of_group = |group: &PartGroup| {
            let texts = group.request.completions.iter();
            PartOutcome::Given(texts.map(|text| Some(self.number(text))).collect())
        };
        questions.answer_each(of_group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_matches_the_whole_completion() {
        let score = |pattern: &str, text: &str| FormatRule::new(pattern).unwrap().number(text);
        assert_eq!(score("a|ab", "ab"), 1.0, "the longer of two");
        assert_eq!(score("a|b", "ab"), 0.0);
        assert_eq!(score("(?s)<think>.*</think>.*", "<think>\n1\n</think>\n2"), 1.0);
        assert_eq!(score("<think>.*</think>.*", "<think>\n1\n</think>\n2"), 0.0);
        assert_eq!(score("\\d+", "12\n"), 0.0, "the end is the end, not a line feed before it");
        assert_eq!(score("(?i)yes", "YES"), 1.0);
    }
}
