//! What became of votes: how many have no reply, why, and how many were cut off.
//!
//! It reads the rows of the `votes` table, and does not know who made them.

use joust_schema::tables::{Verdict, Vote};

use crate::judge::JudgeError;

/// Begins the text of a vote without a reply from the judge; the error follows.
const NO_REPLY: &str = "[no reply] ";

/// The text of a vote whose judge failed.
pub fn no_reply_text(error: &JudgeError) -> String {
    format!("{NO_REPLY}{error}")
}

/// Why a vote has no reply; `None` if it has one.
pub(crate) fn why_no_reply(vote: &Vote) -> Option<&str> {
    vote.text.strip_prefix(NO_REPLY).filter(|_| vote.verdict == Verdict::Invalid)
}

/// Counts of votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoteTally {
    /// Number of votes, each attempt counted.
    pub n_votes: usize,
    /// Votes without a verdict, those without a reply included.
    pub n_invalid: usize,
    /// Votes without a reply.
    pub n_failed: usize,
    /// Votes that were cut off by the limit of tokens or the end of the context.
    pub n_cut_off: usize,
    /// Why the first vote without a reply has none.
    pub first_failure: Option<String>,
}

impl VoteTally {
    /// Counts votes.
    pub fn of<'a>(votes: impl IntoIterator<Item = &'a Vote>) -> Self {
        let mut tally = Self::default();
        for vote in votes {
            tally.n_votes += 1;
            tally.n_invalid += usize::from(vote.verdict == Verdict::Invalid);
            tally.n_cut_off += usize::from(vote.cut_off == Some(true));
            if let Some(reason) = why_no_reply(vote) {
                tally.n_failed += 1;
                tally.first_failure.get_or_insert_with(|| reason.to_owned());
            }
        }
        tally
    }

    /// The first reason, if votes were wanted and none has a reply.
    pub fn why_none_came(&self) -> Option<&str> {
        let none_came = self.n_votes > 0 && self.n_failed == self.n_votes;
        self.first_failure.as_deref().filter(|_| none_came)
    }
}
