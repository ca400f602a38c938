//! Slots at the servers: calls wait here for a server with room, first come, first served, and
//! return their slots when they end.
//!
//! This file has the clock that the pure `pool` lacks. It does not know what a call asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::pool::{CallEnd, SentCall, ServerPool, SlotChoice};

/// The slots of all servers.
pub(crate) struct Slots {
    pool: Mutex<ServerPool>,
    /// Held by the call that waits for a slot, so that no later call overtakes it.
    turn: tokio::sync::Mutex<()>,
    /// Signals that a call has ended.
    ended: Notify,
    started: Instant,
}

impl Slots {
    pub(crate) fn new(pool: ServerPool) -> Self {
        Self {
            pool: Mutex::new(pool),
            turn: tokio::sync::Mutex::new(()),
            ended: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Waits for a server with room for `n_slots`, beside those that the call was `rejected_by`.
    ///
    /// # Errors
    /// Time until the first server ends its rest, if all servers rest.
    pub(crate) async fn acquire(
        &self,
        n_slots: usize,
        rejected_by: &BTreeSet<usize>,
    ) -> Result<SlotPermit<'_>, Duration> {
        let _turn = self.turn.lock().await;
        loop {
            let now = self.started.elapsed();
            let choice = self.lock().choose(n_slots, rejected_by, now);
            match choice {
                SlotChoice::Send(server) => {
                    let call = SentCall { server, n_slots, sent: now };
                    return Ok(SlotPermit { slots: self, call, end: CallEnd::GivenUp });
                }
                SlotChoice::AllRest(until) => return Err(until.saturating_sub(now)),
                SlotChoice::Wait(None) => self.ended.notified().await,
                SlotChoice::Wait(Some(until)) => tokio::select! {
                    () = self.ended.notified() => {}
                    () = tokio::time::sleep_until(self.started + until) => {}
                },
            }
        }
    }

    /// Number of servers that rest after failures.
    pub(crate) fn n_resting(&self) -> usize {
        let now = self.started.elapsed();
        self.lock().n_resting(now)
    }

    fn lock(&self) -> MutexGuard<'_, ServerPool> {
        self.pool.lock().expect("no thread panics while it holds the pool. This is a bug.")
    }
}

/// Slots of a call at a server, returned on drop.
pub(crate) struct SlotPermit<'a> {
    slots: &'a Slots,
    call: SentCall,
    end: CallEnd,
}

impl SlotPermit<'_> {
    /// Index of the server.
    pub(crate) fn server(&self) -> usize {
        self.call.server
    }

    /// Returns the slots beyond `n_slots`.
    pub(crate) fn shrink_to(&mut self, n_slots: usize) {
        let SentCall { server, n_slots: before, .. } = self.call;
        if n_slots < before {
            self.slots.lock().release(server, before - n_slots);
            self.call.n_slots = n_slots;
            self.slots.ended.notify_one();
        }
    }

    /// Returns all slots and records how the call ended. Dropping the permit records that the
    /// caller gave the call up.
    pub(crate) fn end(mut self, end: CallEnd) {
        self.end = end;
    }
}

impl Drop for SlotPermit<'_> {
    fn drop(&mut self) {
        let now = self.slots.started.elapsed();
        self.slots.lock().end_call(self.call, self.end, now);
        self.slots.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn slots(concurrency: usize, requests_per_minute: u32) -> Arc<Slots> {
        Arc::new(Slots::new(ServerPool::new(1, concurrency, requests_per_minute)))
    }

    #[tokio::test(start_paused = true)]
    async fn slots_are_given_in_order_and_within_the_rate_limit() {
        let slots = slots(64, 60);
        let mut last = Duration::ZERO;
        let (mut starts, mut tasks) = (Vec::new(), Vec::new());
        let (send, receive) = crossbeam::channel::unbounded();
        for number in 0..120 {
            let (slots, send) = (Arc::clone(&slots), send.clone());
            tasks.push(tokio::spawn(async move {
                let _permit = slots.acquire(1, &BTreeSet::new()).await.ok().unwrap();
                send.send((number, slots.started.elapsed())).unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for (position, (number, at)) in receive.try_iter().enumerate() {
            assert_eq!(position, number, "no call overtakes another");
            assert!(position == 0 || at > last + Duration::from_secs(1), "{number} at {at:?}");
            starts.push(at);
            last = at;
        }
        assert_eq!(starts.len(), 120);
        // 119 intervals of 61/60 s, rounded up to the timer's milliseconds
        assert!(last < Duration::from_millis(119 * 1019), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn slots_of_a_call_that_is_dropped_while_it_waits_delay_no_other_call() {
        let slots = slots(4, 0);
        let permit = slots.acquire(3, &BTreeSet::new()).await.ok().unwrap();
        let waits = {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { drop(slots.acquire(2, &BTreeSet::new()).await) })
        };
        let goes = {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { drop(slots.acquire(1, &BTreeSet::new()).await) })
        };
        tokio::task::yield_now().await;
        assert!(!waits.is_finished() && !goes.is_finished(), "calls wait in order");
        waits.abort();
        goes.await.unwrap();
        drop(permit);
        assert!(slots.acquire(4, &BTreeSet::new()).await.is_ok(), "every slot was returned");
    }
}
