//! Votes in a row that ended by themselves and have no thought: of a model that does not think.
//!
//! It does not know servers, nor what is done about it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::judge::vote::VoteReply;

/// Counts votes without a thought since the last one with a thought.
#[derive(Default)]
pub(super) struct ThoughtWatch(AtomicUsize);

impl ThoughtWatch {
    /// Number of votes after which it is no chance any more.
    pub(super) const N_IN_ROW: usize = 20;

    /// Counts replies; true for the one that makes the row long enough, once in a row.
    pub(super) fn is_news(&self, replies: &[VoteReply]) -> bool {
        replies.iter().fold(false, |is_news, reply| {
            if reply.text.contains("</think>") {
                self.0.store(0, Ordering::Relaxed);
            }
            let is_without = !reply.is_cut_off && !reply.text.contains("</think>");
            let is_last = || self.0.fetch_add(1, Ordering::Relaxed) + 1 == Self::N_IN_ROW;
            is_news | (is_without && is_last())
        })
    }
}

#[cfg(test)]
mod tests {
    use joust_schema::tables::Verdict;

    use super::*;

    #[test]
    fn watch_tells_once_of_a_row_of_whole_votes_without_thoughts() {
        let reply = |text: &str| VoteReply::without_tokens(Verdict::Invalid, text.to_owned());
        let plain = [reply("\\boxed{Assistant 1}")];
        let watch = ThoughtWatch::default();
        assert!((0..19).all(|_| !watch.is_news(&plain)));
        // a thought that was cut off says nothing
        assert!(!watch.is_news(&[VoteReply { is_cut_off: true, ..reply("hm") }]));
        assert!(watch.is_news(&plain) && !watch.is_news(&plain));
        let watch = ThoughtWatch::default();
        let thought = [reply("hm</think> \\boxed{Assistant 1}")];
        assert!((0..100).all(|at| !watch.is_news(if at % 19 == 0 { &thought } else { &plain })));
    }
}
