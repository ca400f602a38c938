//! What became of votes: how many have no reply, why, and how many were cut off.
//!
//! It reads the rows of the `votes` table, and does not know who made them.

use std::collections::BTreeMap;

use joust_schema::tables::{Verdict, Vote};
use serde::{Deserialize, Serialize};

use crate::judge::JudgeError;

/// Maximum number of characters of a vote in a reason.
const MAX_SHOWN_CHARS: usize = 300;

/// Begins the text of a vote without a reply from the judge; the error follows.
const NO_REPLY: &str = "[no reply] ";

/// Follows it where the same request would be refused again.
const REFUSED: &str = "refused: ";

/// The text of a vote whose judge failed.
pub fn no_reply_text(error: &JudgeError) -> String {
    match error {
        JudgeError::Refused(_) => format!("{NO_REPLY}{REFUSED}{error}"),
        JudgeError::Failed(_) => format!("{NO_REPLY}{error}"),
    }
}

/// Whether a vote has no reply, and another request for it may have one.
pub(crate) fn may_come_later(vote: &Vote) -> bool {
    why_no_reply(vote).is_some_and(|reason| !reason.starts_with(REFUSED))
}

/// Why a vote has no reply; `None` if it has one.
pub(crate) fn why_no_reply(vote: &Vote) -> Option<&str> {
    vote.text.strip_prefix(NO_REPLY).filter(|_| vote.verdict == Verdict::Invalid)
}

/// Counts of votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteTally {
    /// Number of votes, each attempt counted.
    pub n_votes: usize,
    /// Votes without a verdict, those without a reply included.
    pub n_invalid: usize,
    /// Votes without a reply.
    pub n_failed: usize,
    /// Votes that were asked for, each counted once, however often it was asked for again.
    pub n_asked: usize,
    /// Of these, those whose last attempt has no reply.
    pub n_lost: usize,
    /// Votes that were cut off by the limit of tokens or the end of the context.
    pub n_cut_off: usize,
    /// Why the first vote without a reply has none.
    pub first_failure: Option<String>,
    /// How the first vote with a reply and without a verdict begins, in one line.
    pub first_without_verdict: Option<String>,
}

impl VoteTally {
    /// Counts votes.
    pub fn of<'a>(votes: impl IntoIterator<Item = &'a Vote>) -> Self {
        let mut tally = Self::default();
        let mut last = BTreeMap::new();
        for vote in votes {
            tally.n_votes += 1;
            tally.n_invalid += usize::from(vote.verdict == Verdict::Invalid);
            tally.n_cut_off += usize::from(vote.cut_off == Some(true));
            let no_reply = why_no_reply(vote);
            let attempt = (vote.attempt, no_reply.is_some());
            let known = last.entry((&vote.match_id, vote.vote)).or_insert(attempt);
            *known = attempt.max(*known);
            if let Some(reason) = no_reply {
                tally.n_failed += 1;
                tally.first_failure.get_or_insert_with(|| reason.to_owned());
            } else if vote.verdict == Verdict::Invalid {
                tally.first_without_verdict.get_or_insert_with(|| in_one_line(&vote.text));
            }
        }
        tally.n_asked = last.len();
        tally.n_lost = last.values().filter(|(_, is_lost)| *is_lost).count();
        tally
    }

    /// Adds the counts of other matches, which come after these.
    pub fn add(&mut self, later: Self) {
        self.n_votes += later.n_votes;
        self.n_invalid += later.n_invalid;
        self.n_failed += later.n_failed;
        self.n_asked += later.n_asked;
        self.n_lost += later.n_lost;
        self.n_cut_off += later.n_cut_off;
        self.first_failure = self.first_failure.take().or(later.first_failure);
        self.first_without_verdict =
            self.first_without_verdict.take().or(later.first_without_verdict);
    }

    /// Whether more than the share `max_failed` of the votes that were asked for have no reply.
    pub fn exceeds(&self, max_failed: f64) -> bool {
        self.n_lost as f64 > max_failed * self.n_asked as f64
    }

    /// Why no vote has a verdict, if votes were wanted and none has one.
    pub fn why_none_came(&self) -> Option<String> {
        let Self { n_votes, n_invalid, n_cut_off, .. } = *self;
        if n_votes == 0 || n_invalid < n_votes {
            return None;
        }
        let said = self.first_without_verdict.as_deref().unwrap_or_default();
        Some(match (&self.first_failure, n_cut_off) {
            (Some(reason), _) => reason.clone(),
            (None, 0) => format!("the first says {said:?}"),
            (None, n) => format!(
                "{n} were cut off (reward.judge.max_thinking_tokens, or the context of the judge's \
                 server, is too short); the first says {said:?}"
            ),
        })
    }
}

fn in_one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(vote: i32, attempt: i32, text: &str) -> Vote {
        Vote {
            match_id: "g/1-0-1".into(),
            vote,
            attempt,
            a_shown_first: true,
            verdict: Verdict::Invalid,
            text: text.to_owned(),
            prompt_tokens: 0,
            cached_prompt_tokens: 0,
            completion_tokens: 0,
            latency_ms: None,
            seed: 0,
            judge: String::new(),
            cut_off: None,
        }
    }

    #[test]
    fn tally_counts_a_vote_as_lost_by_its_last_attempt() {
        let lost = no_reply_text(&JudgeError::Failed("busy".to_owned()));
        let votes = [
            vote(0, 0, &lost),
            vote(0, 1, "Hm."),
            vote(1, 1, &lost),
            vote(1, 0, "Hm."),
            vote(2, 0, &lost),
            vote(2, 1, &lost),
            vote(3, 0, "Hm."),
        ];
        let tally = VoteTally::of(&votes);
        assert_eq!((tally.n_votes, tally.n_failed, tally.n_asked, tally.n_lost), (7, 4, 4, 2));
        // counted in two parts, by match
        let other = |vote: Vote| Vote { match_id: "h/1-0-1".into(), ..vote };
        let (one, two) = (votes.clone(), votes.clone().map(other));
        let mut added = VoteTally::of(&one);
        added.add(VoteTally::of(&two));
        assert_eq!(added, VoteTally::of(one.iter().chain(&two)));
        assert!(tally.exceeds(0.49) && !tally.exceeds(0.5) && !tally.exceeds(1.0));
        assert!(!VoteTally::default().exceeds(0.0));
    }

    #[test]
    fn tally_tells_why_no_vote_has_a_verdict() {
        let lost = no_reply_text(&JudgeError::Failed("connection refused".to_owned()));
        let cut_off = Vote { cut_off: Some(true), ..vote(1, 0, "<think> hm") };
        let given = Vote { verdict: Verdict::First, ..vote(2, 0, "\\boxed{Assistant 1}") };
        let why = |votes: &[Vote]| VoteTally::of(votes).why_none_came();
        assert_eq!(why(&[]), None);
        assert_eq!(why(&[vote(0, 0, &lost), given.clone()]), None);
        assert_eq!(why(&[cut_off.clone(), given]), None);
        assert_eq!(why(&[vote(0, 0, "8."), vote(1, 0, &lost)]), Some("connection refused".into()));
        let said = why(&[vote(0, 0, "I say\n 8."), vote(1, 0, "9.")]).unwrap();
        assert_eq!(said, "the first says \"I say 8.\"");
        let said = why(&[cut_off, vote(0, 0, "9.")]).unwrap();
        assert!(said.starts_with("1 were cut off (reward.judge.max_thinking_tokens"), "{said}");
    }
}
