//! Which server takes the next call: the one with the fewest votes under way that is well, has room,
//! and is within its pace. A pure state machine; the caller has the clock.
//!
//! It does not know what is asked.

use std::time::Duration;

use super::breaker::Breaker;
use super::pace::Pace;

/// All servers, by their places in the config.
pub(super) struct Servers {
    most_votes: usize,
    states: Vec<State>,
}

struct State {
    breaker: Breaker,
    pace: Pace,
    n_votes: usize,
}

/// What to do with a call.
#[derive(Debug, PartialEq)]
pub(super) enum Choice {
    /// It goes to this server, and counts as sent.
    Send(usize),
    /// It waits until a call ends, or until this moment.
    Wait(Option<Duration>),
    /// All servers rest after failures, the first until this moment.
    Rest(Duration),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    /// The server answered, if only by refusing what is wrong.
    Answered,
    /// It failed by the server's fault.
    Failed,
    /// It was given up before its end: nothing is learned from it.
    GivenUp,
}

impl Servers {
    /// Servers with at most `most_votes` under way at each.
    pub(super) fn new(n: usize, most_votes: usize, calls_per_minute: u32) -> Self {
        let state =
            || State { breaker: Breaker::default(), pace: Pace::new(calls_per_minute), n_votes: 0 };
        Self { most_votes, states: std::iter::repeat_with(state).take(n).collect() }
    }

    /// Finds a place for a call with `n_votes`, at most as many as a server has room for.
    pub(super) fn choose(&mut self, n_votes: usize, now: Duration) -> Choice {
        let has_room = |state: &State| state.n_votes + n_votes <= self.most_votes;
        let can_take = |state: &State| {
            state.breaker.allows(now) && has_room(state) && state.pace.ready_at() <= now
        };
        let free = self.states.iter().enumerate().filter(|(_, state)| can_take(state));
        if let Some((server, _)) = free.min_by_key(|(_, state)| state.n_votes) {
            let state = &mut self.states[server];
            state.n_votes += n_votes;
            state.breaker.sent();
            state.pace.sent(now);
            return Choice::Send(server);
        }
        let rests = |state: &State| {
            let until = state.breaker.rests_until();
            (!state.breaker.allows(now) && until > now).then_some(until)
        };
        if self.states.iter().all(|state| rests(state).is_some()) {
            return Choice::Rest(self.states.iter().filter_map(rests).min().unwrap_or(now));
        }
        // what has no room, or is being tried by one call, says so by that call's end
        let paces = |state: &State| {
            let is_paced = state.breaker.allows(now) && has_room(state);
            is_paced.then(|| state.pace.ready_at())
        };
        let next = self.states.iter().filter_map(|state| rests(state).or_else(|| paces(state)));
        Choice::Wait(next.min())
    }

    /// Servers that are left alone after failures.
    pub(super) fn n_resting(&self, now: Duration) -> usize {
        self.states.iter().filter(|state| state.breaker.rests(now)).count()
    }

    /// Gives the places of votes back that a call no longer asks for.
    pub(super) fn leave(&mut self, server: usize, n_votes: usize) {
        self.states[server].n_votes -= n_votes;
    }

    /// A call with `n_votes` is over.
    pub(super) fn over(&mut self, server: usize, n_votes: usize, end: End, now: Duration) {
        self.leave(server, n_votes);
        let breaker = &mut self.states[server].breaker;
        match end {
            End::Answered => breaker.answered(),
            End::Failed => breaker.failed(now),
            End::GivenUp => breaker.given_up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn failing(servers: &mut Servers, server: usize) {
        for _ in 0..10 {
            servers.states[server].n_votes += 1;
            servers.over(server, 1, End::Failed, NOW);
        }
    }

    #[test]
    fn votes_are_counted_and_not_calls_and_no_server_gets_more_than_its_share() {
        let mut servers = Servers::new(2, 4, 0);
        let chosen = [3, 2, 2, 2].map(|n_votes| servers.choose(n_votes, NOW));
        let [a, b] = [Choice::Send(0), Choice::Send(1)];
        assert_eq!(chosen, [a, b, Choice::Send(1), Choice::Wait(None)]);
        assert_eq!(servers.choose(1, NOW), Choice::Send(0), "one finds the last place");
        servers.leave(1, 1);
        assert_eq!(servers.choose(2, NOW), Choice::Wait(None));
        servers.over(1, 1, End::Answered, NOW);
        assert_eq!(servers.choose(2, NOW), Choice::Send(1));
    }

    #[test]
    fn a_server_that_rests_leaves_its_votes_to_others_without_crowding_them() {
        let mut servers = Servers::new(2, 1, 0);
        failing(&mut servers, 0);
        assert_eq!(servers.choose(1, NOW), Choice::Send(1));
        let until = NOW + Duration::from_secs(1);
        assert_eq!(servers.choose(1, NOW), Choice::Wait(Some(until)));
        assert_eq!(servers.choose(1, until), Choice::Send(0), "one call tries it");
        assert_eq!(servers.choose(1, until), Choice::Wait(None));
    }

    #[test]
    fn where_all_rest_a_call_hears_for_how_long_and_waits_for_the_one_that_tries() {
        let mut servers = Servers::new(1, 2, 0);
        failing(&mut servers, 0);
        let until = NOW + Duration::from_secs(1);
        assert_eq!(servers.choose(1, NOW), Choice::Rest(until));
        assert_eq!((servers.n_resting(NOW), servers.n_resting(until)), (1, 0));
        assert_eq!(servers.choose(1, until), Choice::Send(0));
        assert_eq!(servers.choose(1, until), Choice::Wait(None), "the trial tells");
        servers.over(0, 1, End::Failed, until);
        assert_eq!(servers.choose(1, until), Choice::Rest(until + Duration::from_secs(2)));
    }

    #[test]
    fn a_server_at_its_limit_leaves_calls_to_others_and_names_the_moment() {
        let mut servers = Servers::new(2, 8, 60);
        let chosen = [(); 2].map(|()| servers.choose(1, NOW));
        assert_eq!(chosen, [Choice::Send(0), Choice::Send(1)]);
        let Choice::Wait(Some(at)) = servers.choose(1, NOW) else { panic!("over the limit") };
        assert!(at > NOW + Duration::from_secs(1) && at < NOW + Duration::from_secs(2));
        assert_eq!(servers.choose(1, at), Choice::Send(0));
    }
}
