//! The part `length`: soft punishment of overlong completions.
//!
//! Pure. Source: DAPO (arXiv 2503.14476), equation 13.

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::source::{PartQuestions, PartSource};
use crate::config::part::LengthPartConfig;

impl PartSource for LengthPartConfig {
    fn score(&mut self, questions: PartQuestions) {
        let of_group = |group: &PartGroup| {
            let punish = |n_tokens| Some(overlong(n_tokens, self.max_tokens, self.buffer_tokens));
            PartOutcome::Given(group.members.iter().map(|it| punish(it.n_tokens)).collect())
        };
        questions.answer_each(of_group);
    }
}

/// Punishment of a completion of n tokens: 0 up to max − buffer, then (max − buffer − n) / buffer,
/// and −1 above max.
fn overlong(n_tokens: usize, max: usize, buffer: usize) -> f64 {
    let free = max.saturating_sub(buffer);
    match n_tokens {
        n if n <= free => 0.0,
        n if n <= max => -((n - free) as f64) / buffer as f64,
        _ => -1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_falls_over_the_buffer_as_in_dapo() {
        // DAPO's own setting: 16384 tokens and a buffer of 4096 above them
        for (n_tokens, wanted) in [
            (0, 0.0),
            (16_384, 0.0),
            (16_385, -1.0 / 4096.0),
            (18_432, -0.5),
            (20_480, -1.0),
            (20_481, -1.0),
            (usize::MAX, -1.0),
        ] {
            assert_eq!(overlong(n_tokens, 20_480, 4096), wanted, "{n_tokens}");
        }
        assert_eq!((overlong(0, 4, 4), overlong(1, 4, 4)), (0.0, -0.25));
    }
}
