//! Outage: since when no server of the fleet is up, and which servers are down. A pure state
//! machine; the caller has the clock.

use std::collections::BTreeSet;
use std::time::Duration;

use super::breaker::MAX_REST;

/// Maximum time from one sign of an outage to the next call for which it is the same outage: while
/// calls wait, a server is tried after each rest, or after the minute that `Retry-After` may ask
/// for. In a longer time nobody looked, and the servers may have been up.
const MAX_UNWATCHED: Duration = MAX_REST.saturating_mul(4);

/// State of the outage.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outage {
    /// First sign of it after the last answer.
    since: Option<Duration>,
    /// Last sign of it.
    last_gone: Duration,
    /// Servers whose last call found nobody, or was rejected. A server with a call under way is not
    /// one: it may be slow.
    down: BTreeSet<usize>,
}

/// What a failed attempt is, while servers may be gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Waiting {
    /// Servers are up, or an outage has no time of its own: the attempt counts as a try.
    Counts,
    /// The attempt does not count: the outage is shorter than calls may wait.
    Waits,
    /// The outage is over its time: the call has failed.
    Over,
}

impl Outage {
    /// Records that a call is sent to a server.
    pub(super) fn record_sent(&mut self, server: usize) {
        self.down.remove(&server);
    }

    /// Records an answer of a server, if only an error.
    pub(super) fn record_answer(&mut self) {
        self.since = None;
    }

    /// Records that a server rejects calls, while another one may be right, and gone.
    pub(super) fn record_rejection(&mut self, server: usize) {
        self.down.insert(server);
    }

    /// Records that a call, which was `sent` at that time, found nobody at a server; true if this
    /// begins an outage.
    pub(super) fn record_gone(&mut self, server: usize, sent: Duration, now: Duration) -> bool {
        if sent.saturating_sub(self.last_gone) > MAX_UNWATCHED {
            self.since = None;
        }
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        self.last_gone = now;
        self.down.insert(server);
        begins
    }

    /// Whether there are signs of an outage since the last answer.
    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    /// Whether there are signs of an outage at each of `n_servers`.
    pub(super) fn is_everywhere(&self, n_servers: usize) -> bool {
        self.is_on() && (0..n_servers).all(|server| self.down.contains(&server))
    }

    /// What an attempt is that found nobody at the server `at`, or all `n_servers` at rest.
    pub(super) fn waiting(
        &self,
        at: Option<usize>,
        n_servers: usize,
        max: Duration,
        now: Duration,
    ) -> Waiting {
        let Some(since) = self.since.filter(|_| !max.is_zero()) else { return Waiting::Counts };
        let is_down = |server| at == Some(server) || self.down.contains(&server);
        match now.saturating_sub(since) < max {
            true => Waiting::Waits,
            false if (0..n_servers).all(is_down) => Waiting::Over,
            // another server is up, or may be
            false => Waiting::Counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(60);

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A call that found nobody at once.
    fn gone(outage: &mut Outage, server: usize, now: u64) -> bool {
        outage.record_sent(server);
        outage.record_gone(server, second(now), second(now))
    }

    #[test]
    fn outage_has_its_own_time_which_an_answer_ends() {
        let mut outage = Outage::default();
        let waiting = |outage: &Outage, now| outage.waiting(Some(0), 1, MAX, second(now));
        assert_eq!(waiting(&outage, 1), Waiting::Counts);
        assert!(gone(&mut outage, 0, 5) && !gone(&mut outage, 0, 50));
        assert_eq!(waiting(&outage, 64), Waiting::Waits);
        assert_eq!(waiting(&outage, 65), Waiting::Over);
        assert_eq!(outage.waiting(Some(0), 1, Duration::ZERO, second(65)), Waiting::Counts);
        outage.record_answer();
        assert_eq!(waiting(&outage, 66), Waiting::Counts);
        assert!(gone(&mut outage, 0, 70));
        assert_eq!(waiting(&outage, 129), Waiting::Waits);
    }

    #[test]
    fn outage_begins_anew_where_nobody_looked_for_longer_than_servers_rest() {
        let mut outage = Outage::default();
        assert!(gone(&mut outage, 0, 5));
        // the servers were up again, and nobody called: the next outage is another one
        assert!(gone(&mut outage, 0, 1000));
        assert_eq!(outage.waiting(Some(0), 1, MAX, second(1059)), Waiting::Waits);
        // calls that are sent after each rest watch it, however long each takes
        for sent in [1030, 1150, 1270] {
            outage.record_sent(0);
            assert!(!outage.record_gone(0, second(sent), second(sent + 90)), "{sent}");
        }
        assert_eq!(outage.waiting(Some(0), 1, MAX, second(1360)), Waiting::Over);
    }

    #[test]
    fn outage_is_over_its_time_only_where_no_server_may_be_up() {
        let mut outage = Outage::default();
        let waiting = |outage: &Outage, at| outage.waiting(at, 2, MAX, second(100));
        // the other server has an answer to think about
        gone(&mut outage, 1, 0);
        outage.record_sent(1);
        gone(&mut outage, 0, 30);
        assert_eq!(waiting(&outage, Some(0)), Waiting::Counts);
        // nobody is there either
        outage.record_gone(1, second(31), second(99));
        assert_eq!([Some(0), Some(1), None].map(|at| waiting(&outage, at)), [Waiting::Over; 3]);
        // another call is just being sent to the server that this call found gone
        outage.record_sent(0);
        assert_eq!(waiting(&outage, Some(0)), Waiting::Over);
        // a server that rejects calls is no server that is up
        outage.record_sent(1);
        outage.record_rejection(1);
        assert_eq!(waiting(&outage, Some(0)), Waiting::Over);
    }
}
