//! Choice of the server for the next call: of the servers that are healthy, have room and are
//! within their rate, the one with the fewest slots in use, and one that has just failed only
//! after the others. A pure state machine; the caller has the clock.
//!
//! It does not know what a call asks.

use std::collections::BTreeSet;
use std::time::Duration;

use super::breaker::Breaker;
use super::pace::Pace;
use super::throttle::Throttle;

/// All servers, by their positions in the config.
pub(crate) struct ServerPool {
    max_slots: usize,
    servers: Vec<PooledServer>,
}

/// One server of the pool.
struct PooledServer {
    breaker: Breaker,
    pace: Pace,
    throttle: Throttle,
    n_slots: usize,
}

/// Decision about a call.
#[derive(Debug, PartialEq)]
pub(crate) enum SlotChoice {
    /// Send it to this server; its slots are taken.
    Send(usize),
    /// Wait until a call ends, or until this moment.
    Wait(Option<Duration>),
    /// All servers rest after failures, the first until this moment.
    AllRest(Duration),
}

/// A call that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentCall {
    /// Index of its server.
    pub(crate) server: usize,
    /// Number of slots that it takes there.
    pub(crate) n_slots: usize,
    /// Time at which its server was chosen.
    pub(crate) sent: Duration,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CallEnd {
    /// The server answered, if only by refusing a wrong request.
    Answered,
    /// The call failed by the server's fault.
    Failed,
    /// The server asks for slower calls, and perhaps for a pause. It is up.
    Busy(Option<Duration>),
    /// The caller gave the call up before its end, which says nothing about the server.
    GivenUp,
}

impl PooledServer {
    /// Time from which its rate and its pause allow a call.
    fn ready_at(&self) -> Duration {
        self.pace.ready_at().max(self.throttle.ready_at())
    }
}

impl ServerPool {
    /// A pool of `n` servers with at most `max_slots` slots in use at each.
    pub(crate) fn new(n: usize, max_slots: usize, calls_per_minute: u32) -> Self {
        let server = || PooledServer {
            breaker: Breaker::default(),
            pace: Pace::new(calls_per_minute),
            throttle: Throttle::new(max_slots),
            n_slots: 0,
        };
        Self { max_slots, servers: std::iter::repeat_with(server).take(n).collect() }
    }

    /// Finds a server for a call that takes `n_slots`, at most `max_slots`, beside the servers that
    /// it was `rejected_by`; these are not all.
    pub(crate) fn choose(
        &mut self,
        n_slots: usize,
        rejected_by: &BTreeSet<usize>,
        now: Duration,
    ) -> SlotChoice {
        let is_open = |(idx, _): &(usize, &PooledServer)| !rejected_by.contains(idx);
        let open = || self.servers.iter().enumerate().filter(is_open);
        let has_room = |server: &PooledServer| {
            let is_within = server.n_slots + n_slots <= self.max_slots;
            is_within && server.throttle.has_room(server.n_slots, n_slots)
        };
        let can_take = |server: &PooledServer| {
            server.breaker.allows(now) && has_room(server) && server.ready_at() <= now
        };
        let free = open().filter(|(_, server)| can_take(server));
        // an idle server may be dead: without this it would get each call first
        let preference = |(_, server): &(usize, &PooledServer)| {
            (server.breaker.is_suspected(now), server.n_slots)
        };
        if let Some((idx, _)) = free.min_by_key(preference) {
            let server = &mut self.servers[idx];
            server.n_slots += n_slots;
            server.breaker.record_sent();
            server.pace.record_sent(now);
            return SlotChoice::Send(idx);
        }
        let rests = |server: &PooledServer| {
            let until = server.breaker.rests_until();
            (!server.breaker.allows(now) && until > now).then_some(until)
        };
        if open().all(|(_, server)| rests(server).is_some()) {
            let until = open().filter_map(|(_, server)| rests(server)).min();
            return SlotChoice::AllRest(until.unwrap_or(now));
        }
        // a server without room, or on trial with one call, is free again when a call ends
        let paced = |server: &PooledServer| {
            let is_paced = server.breaker.allows(now) && has_room(server);
            is_paced.then(|| server.ready_at())
        };
        let next = open().filter_map(|(_, server)| rests(server).or_else(|| paced(server)));
        SlotChoice::Wait(next.min())
    }

    /// Number of servers that rest after failures.
    pub(crate) fn n_resting(&self, now: Duration) -> usize {
        self.servers.iter().filter(|server| server.breaker.rests(now)).count()
    }

    /// Gives back slots that a call no longer takes.
    pub(crate) fn release(&mut self, server: usize, n_slots: usize) {
        self.servers[server].n_slots -= n_slots;
    }

    /// Ends a call, which gives its slots back.
    pub(crate) fn end_call(&mut self, call: SentCall, end: CallEnd, now: Duration) {
        let SentCall { server, n_slots, sent } = call;
        self.release(server, n_slots);
        let PooledServer { breaker, throttle, .. } = &mut self.servers[server];
        match end {
            CallEnd::Answered => {
                breaker.record_answer();
                throttle.record_answer(sent);
            }
            CallEnd::Busy(asked) => {
                breaker.record_answer();
                throttle.record_busy(sent, now, asked);
            }
            CallEnd::Failed => breaker.record_failure(sent, now),
            CallEnd::GivenUp => breaker.record_given_up(sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn choose(pool: &mut ServerPool, now: Duration) -> SlotChoice {
        pool.choose(1, &BTreeSet::new(), now)
    }

    /// A call of one slot.
    fn sent(server: usize, sent: Duration) -> SentCall {
        SentCall { server, n_slots: 1, sent }
    }

    fn failing(pool: &mut ServerPool, server: usize) {
        for _ in 0..10 {
            pool.servers[server].n_slots += 1;
            pool.end_call(sent(server, NOW), CallEnd::Failed, NOW);
        }
    }

    #[test]
    fn pool_gives_no_server_more_calls_than_it_has_slots() {
        let mut pool = ServerPool::new(2, 4, 0);
        let chosen = [3, 2, 2, 2].map(|n_slots| pool.choose(n_slots, &BTreeSet::new(), NOW));
        let [a, b] = [SlotChoice::Send(0), SlotChoice::Send(1)];
        assert_eq!(chosen, [a, b, SlotChoice::Send(1), SlotChoice::Wait(None)]);
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(0), "a small call finds the last slot");
        pool.release(1, 1);
        assert_eq!(pool.choose(2, &BTreeSet::new(), NOW), SlotChoice::Wait(None));
        pool.end_call(sent(1, NOW), CallEnd::Answered, NOW);
        assert_eq!(pool.choose(2, &BTreeSet::new(), NOW), SlotChoice::Send(1));
    }

    #[test]
    fn pool_sends_no_calls_to_a_resting_server_and_no_more_to_the_others() {
        let mut pool = ServerPool::new(2, 1, 0);
        failing(&mut pool, 0);
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(1));
        let until = NOW + Duration::from_secs(1);
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Wait(Some(until)));
        assert_eq!(choose(&mut pool, until), SlotChoice::Send(0), "one call is the trial");
        assert_eq!(choose(&mut pool, until), SlotChoice::Wait(None));
    }

    #[test]
    fn pool_prefers_servers_that_have_not_just_failed() {
        let mut pool = ServerPool::new(2, 2, 0);
        // one call at a time: the first server is as idle as the second
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(0));
        pool.end_call(sent(0, NOW), CallEnd::Failed, NOW);
        for _ in 0..3 {
            assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(1));
            pool.end_call(sent(1, NOW), CallEnd::Answered, NOW);
        }
        // it is used where the others have no room
        let chosen = [(); 3].map(|()| choose(&mut pool, NOW));
        assert_eq!(chosen, [SlotChoice::Send(1), SlotChoice::Send(1), SlotChoice::Send(0)]);
        for server in [0, 1, 1] {
            pool.end_call(sent(server, NOW), CallEnd::GivenUp, NOW);
        }
        // a second later it is tried again, and then left alone for twice as long
        let later = NOW + Duration::from_secs(1);
        assert_eq!(choose(&mut pool, later), SlotChoice::Send(0));
        pool.end_call(sent(0, later), CallEnd::Failed, later);
        assert_eq!(choose(&mut pool, later + Duration::from_secs(1)), SlotChoice::Send(1));
        pool.release(1, 1);
        assert_eq!(choose(&mut pool, later + Duration::from_secs(2)), SlotChoice::Send(0));
    }

    #[test]
    fn pool_names_the_end_of_the_rest_and_waits_for_the_call_on_trial() {
        let mut pool = ServerPool::new(1, 2, 0);
        failing(&mut pool, 0);
        let until = NOW + Duration::from_secs(1);
        assert_eq!(choose(&mut pool, NOW), SlotChoice::AllRest(until));
        assert_eq!((pool.n_resting(NOW), pool.n_resting(until)), (1, 0));
        assert_eq!(choose(&mut pool, until), SlotChoice::Send(0));
        assert_eq!(choose(&mut pool, until), SlotChoice::Wait(None), "the trial decides");
        pool.end_call(sent(0, until), CallEnd::Failed, until);
        assert_eq!(choose(&mut pool, until), SlotChoice::AllRest(until + Duration::from_secs(2)));
    }

    #[test]
    fn pool_uses_other_servers_at_a_rate_limit_and_names_the_next_start() {
        let mut pool = ServerPool::new(2, 8, 60);
        let chosen = [(); 2].map(|()| choose(&mut pool, NOW));
        assert_eq!(chosen, [SlotChoice::Send(0), SlotChoice::Send(1)]);
        let SlotChoice::Wait(Some(at)) = choose(&mut pool, NOW) else { panic!("over the limit") };
        assert!(at > NOW + Duration::from_secs(1) && at < NOW + Duration::from_secs(2));
        assert_eq!(choose(&mut pool, at), SlotChoice::Send(0));
    }

    #[test]
    fn pool_calls_a_busy_server_later_and_less_and_others_meanwhile() {
        let mut pool = ServerPool::new(2, 4, 0);
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(0));
        let asked = Duration::from_secs(3);
        pool.end_call(sent(0, NOW), CallEnd::Busy(Some(asked)), NOW);
        assert_eq!([(); 4].map(|()| choose(&mut pool, NOW)), [(); 4].map(|()| SlotChoice::Send(1)));
        // no rest: the wait has an end, and calls wait for it
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Wait(Some(NOW + asked)));
        let later = NOW + asked;
        assert_eq!(
            [(); 2].map(|()| choose(&mut pool, later)),
            [(); 2].map(|()| SlotChoice::Send(0))
        );
        assert_eq!(choose(&mut pool, later), SlotChoice::Wait(None), "half the slots");
        assert_eq!(pool.n_resting(later), 0);
    }

    #[test]
    fn pool_sends_a_rejected_call_to_another_server() {
        let mut pool = ServerPool::new(3, 1, 0);
        let rejected = BTreeSet::from([0, 1]);
        assert_eq!(pool.choose(1, &rejected, NOW), SlotChoice::Send(2));
        assert_eq!(pool.choose(1, &rejected, NOW), SlotChoice::Wait(None));
        for _ in 0..10 {
            pool.end_call(SentCall { n_slots: 0, ..sent(2, NOW) }, CallEnd::Failed, NOW);
        }
        let until = NOW + Duration::from_secs(1);
        assert_eq!(pool.choose(1, &rejected, NOW), SlotChoice::AllRest(until));
        assert_eq!(choose(&mut pool, NOW), SlotChoice::Send(0), "for another call");
    }
}
