//! The work of judging a group, known before anything of it is built.
//!
//! Pure arithmetic on the group's texts and its tournament. It does not know judges, nor which
//! players will meet.

use super::players::distinct_answers;
use crate::config::TournamentConfig;
use crate::tournament::TournamentSize;

/// Maximum work of judging a group.
///
/// Members with equal completions are one player, and thoughts are not shown to a judge: neither
/// adds work. Second attempts at invalid votes are not counted; they at most double votes and text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupWork {
    /// Number of matches.
    pub n_matches: u64,
    /// Maximum number of votes: all votes of all matches.
    pub max_votes: u64,
    /// Maximum number of bytes of text in the requests for these votes: per vote the prompt and
    /// both answers.
    pub max_text_bytes: u64,
}

impl GroupWork {
    /// The work of a group of `completions` that reply to `question`. A value beyond the range of
    /// its type is the largest one.
    pub fn of(tournament: &TournamentConfig, question: &str, completions: &[String]) -> Self {
        let answers = distinct_answers(question, completions);
        let size = TournamentSize::of(tournament.kind, answers.len(), tournament.rounds);
        let votes_per_match = u64::from(tournament.votes.max);
        let of_questions = size.n_matches.saturating_mul(question.len() as u64);
        let answers_bytes: u64 = answers.iter().map(|answer| answer.len() as u64).sum();
        let of_answers = answers_bytes.saturating_mul(size.max_per_player);
        Self {
            n_matches: size.n_matches,
            max_votes: size.n_matches.saturating_mul(votes_per_match),
            max_text_bytes: of_questions.saturating_add(of_answers).saturating_mul(votes_per_match),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tournament::TournamentKind;

    fn work(kind: TournamentKind, votes: u32, completions: &[&str]) -> GroupWork {
        let completions: Vec<String> = completions.iter().map(|&text| text.to_owned()).collect();
        let votes = votes.into();
        let config = TournamentConfig { kind, votes, ..TournamentConfig::default() };
        GroupWork::of(&config, "2+2?", &completions)
    }

    #[test]
    fn work_counts_matches_votes_and_text() {
        let four = ["a", "bb", "ccc", "dddd"];
        // every answer meets three others, in one vote each
        assert_eq!(
            work(TournamentKind::RoundRobin, 1, &four),
            GroupWork { n_matches: 6, max_votes: 6, max_text_bytes: 6 * 4 + 3 * 10 }
        );
        assert_eq!(
            work(TournamentKind::Swiss, 5, &four),
            GroupWork { n_matches: 6, max_votes: 30, max_text_bytes: 5 * (6 * 4 + 3 * 10) }
        );
        assert_eq!(
            work(TournamentKind::Knockout, 1, &four),
            GroupWork { n_matches: 3, max_votes: 3, max_text_bytes: 3 * 4 + 2 * 10 }
        );
    }

    #[test]
    fn work_counts_equal_answers_once_and_no_thoughts() {
        let kind = TournamentKind::RoundRobin;
        assert_eq!(
            work(kind, 1, &["a", "a", "<think>long</think>bb"]),
            work(kind, 1, &["a", "bb"])
        );
        for completions in [&[][..], &["a"], &["a", "a"]] {
            assert_eq!(work(kind, 3, completions), GroupWork::default());
        }
    }

    #[test]
    fn work_beyond_all_numbers_is_the_largest_number() {
        let many: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
        let config = TournamentConfig {
            kind: TournamentKind::RoundRobin,
            votes: u32::MAX.into(),
            ..TournamentConfig::default()
        };
        let work = GroupWork::of(&config, &"q".repeat(10_000), &many);
        assert_eq!(work.max_votes, 1_999_000 * u64::from(u32::MAX));
        assert_eq!(work.max_text_bytes, u64::MAX);
    }
}
