//! Whether groups wait for members that cannot come: a client whose connections all wait for their
//! groups has none left for the members that are missing. Without clock and log.

use std::time::Duration;

/// Groups and requests at the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitingCounts {
    /// Number of groups that wait for members.
    pub(crate) n_collecting: usize,
    /// Number of groups that are judged.
    pub(crate) n_judging: usize,
    /// Number of requests that wait for their answers.
    pub(crate) n_requests: usize,
}

/// Notices that nothing has moved for a while.
#[derive(Debug)]
pub(crate) struct StallWatch {
    /// Time without a new member after which groups stall.
    pause: Duration,
    /// Time of the last new member or judged group.
    moved: Duration,
    is_told: bool,
}

impl StallWatch {
    /// For groups that may be collected for `collect`.
    pub(crate) fn new(collect: Duration) -> Self {
        Self { pause: collect / 10, moved: Duration::ZERO, is_told: false }
    }

    /// Time without a new member after which groups stall.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// A member has come.
    pub(crate) fn moved(&mut self, now: Duration) {
        self.moved = now;
        self.is_told = false;
    }

    /// Whether to tell that groups stall: once, until something moves. Two groups that wait while
    /// nothing is judged are needed: a client with free connections completes groups.
    pub(crate) fn is_news(&mut self, now: Duration, waiting: WaitingCounts) -> bool {
        if waiting.n_judging > 0 {
            self.moved(now);
        }
        let is_stalled = waiting.n_collecting > 1
            && waiting.n_requests > 1
            && now.saturating_sub(self.moved) >= self.pause;
        let is_news = is_stalled && !self.is_told;
        self.is_told |= is_news;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stall_watch_tells_once_that_groups_wait_for_members() {
        let at = Duration::from_secs;
        let waiting =
            |n_collecting, n_judging| WaitingCounts { n_collecting, n_judging, n_requests: 64 };
        let mut watch = StallWatch::new(at(600));
        watch.moved(at(100));
        assert!(!watch.is_news(at(159), waiting(40, 0)));
        assert!(watch.is_news(at(160), waiting(40, 0)));
        assert!(!watch.is_news(at(500), waiting(40, 0)), "it is told once");
        watch.moved(at(501));
        assert!(!watch.is_news(at(560), waiting(40, 0)));
        assert!(!watch.is_news(at(570), waiting(40, 1)), "a group is judged");
        assert!(!watch.is_news(at(629), waiting(40, 0)));
        assert!(watch.is_news(at(630), waiting(40, 0)));
        watch.moved(at(700));
        assert!(!watch.is_news(at(900), waiting(1, 0)), "one group waits for a slow rollout");
        assert!(!watch.is_news(at(900), WaitingCounts { n_requests: 0, ..waiting(40, 0) }));
    }
}
