//! Calls of the servers: waits for a place, asks, tries again.
//!
//! It does not know who wants the votes, but for whether somebody still does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::Sender;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::servers::{Choice, End, Servers};
use super::wire::{Answer, Ask, disarmed, messages};
use crate::config::JudgeConfig;
use crate::judge::chat::{ChatOutcome, ChatReply, ChatRequest};
use crate::judge::interface::JudgeServers;
use crate::judge::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};

/// What a call tells the judge.
pub(super) enum Report {
    /// A vote is over.
    Over(VoteOutcome),
    /// The server gave fewer choices than votes; this one is to be asked alone, after so many tries.
    Again(VoteRequest, u32),
    /// A conversation is over.
    Chat(ChatOutcome),
}

/// The votes of a call that are still wanted.
pub(super) struct Wanted(Mutex<BTreeSet<VoteId>>);

impl Wanted {
    pub(super) fn new(votes: &[VoteRequest]) -> Self {
        Self(Mutex::new(votes.iter().map(|vote| vote.id).collect()))
    }

    /// Takes a vote out; tells whether any is left.
    pub(super) fn cancel(&self, id: VoteId) -> bool {
        let mut wanted = self.lock();
        wanted.remove(&id);
        !wanted.is_empty()
    }

    fn contains(&self, id: VoteId) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<VoteId>> {
        self.0.lock().expect("nobody panics with a call's votes in hand. This is a bug.")
    }
}

/// All that calls share.
pub(super) struct Calls {
    client: reqwest::Client,
    config: JudgeConfig,
    api_key: Option<String>,
    urls: Vec<String>,
    /// Whether it was said of a server that it gives too few choices.
    is_known_as_short: Vec<AtomicBool>,
    servers: Mutex<Servers>,
    /// Held by the call that looks for a place, so that none overtakes another.
    turn: tokio::sync::Mutex<()>,
    /// A call has ended.
    ended: Notify,
    started: Instant,
}

/// Why a call gave no votes.
enum Problem {
    /// Another try, perhaps elsewhere, may do better; after this pause, where the server says.
    Retry(String, Option<Duration>),
    /// The same call would fail again.
    Final(JudgeError),
}

impl Calls {
    /// Inside of a runtime.
    pub(super) fn new(
        client: reqwest::Client,
        config: &JudgeConfig,
        api_key: Option<String>,
    ) -> Self {
        let http = &config.http;
        let url = |url: &String| format!("{}/chat/completions", url.trim_end_matches('/'));
        let servers = Servers::new(http.urls.len(), http.concurrency, http.requests_per_minute);
        Self {
            client,
            config: config.clone(),
            api_key,
            urls: http.urls.iter().map(url).collect(),
            is_known_as_short: http.urls.iter().map(|_| AtomicBool::new(false)).collect(),
            servers: Mutex::new(servers),
            turn: tokio::sync::Mutex::new(()),
            ended: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Asks for votes with one prompt, `n_tried` times tried before, and reports on each that is
    /// wanted to the end.
    pub(super) async fn serve(
        &self,
        mut votes: Vec<VoteRequest>,
        n_tried: u32,
        wanted: &Wanted,
        reports: &Sender<Report>,
    ) {
        let tries = self.config.http.tries;
        // where the judge is gone, nobody wants it
        let report = |report| drop(reports.send(report));
        for attempt in n_tried..tries {
            let is_last = attempt + 1 == tries;
            let failed = |last: &str| {
                JudgeError::Failed(format!("no vote after {tries} tries; last: {last}"))
            };
            let called = self.call(&mut votes, wanted).await;
            let (reason, pause) = match called {
                Ok(replies) => {
                    let short = format!("{} choices for {} votes", replies.len(), votes.len());
                    let left = votes.split_off(replies.len());
                    for (vote, reply) in votes.into_iter().zip(replies) {
                        report(Report::Over((vote.id, Ok(reply))));
                    }
                    for vote in left {
                        report(match is_last {
                            true => Report::Over((vote.id, Err(failed(&short)))),
                            false => Report::Again(vote, attempt + 1),
                        });
                    }
                    return;
                }
                Err(Problem::Final(error)) => {
                    for vote in votes {
                        report(Report::Over((vote.id, Err(error.clone()))));
                    }
                    return;
                }
                Err(Problem::Retry(reason, pause)) => (reason, pause),
            };
            if is_last {
                for vote in votes {
                    report(Report::Over((vote.id, Err(failed(&reason)))));
                }
                return;
            }
            rest(attempt, pause, seed_of(&votes)).await;
        }
    }

    /// Asks the model itself, as [`Calls::serve`] asks for a vote.
    pub(super) async fn converse(&self, request: ChatRequest) -> Result<ChatReply, JudgeError> {
        let turn = |said: Message| Message::new(said.role, disarmed(&said.content));
        let ask = Ask {
            temperature: request.temperature.unwrap_or(self.config.temperature),
            top_p: request.top_p.unwrap_or(self.config.top_p),
            max_tokens: request.max_tokens.unwrap_or(self.config.max_thinking_tokens),
            stop: request.stop,
            ..self.plain(request.messages.into_iter().map(turn).collect(), request.seed)
        };
        let tries = self.config.http.tries;
        let mut last = String::new();
        for attempt in 0..tries {
            match self.reply(&ask).await {
                Ok(reply) => return Ok(reply),
                Err(Problem::Final(error)) => return Err(error),
                Err(Problem::Retry(reason, pause)) => {
                    last = reason;
                    if attempt + 1 < tries {
                        rest(attempt, pause, request.seed).await;
                    }
                }
            }
        }
        Err(JudgeError::Failed(format!("no answer after {tries} tries; last: {last}")))
    }

    async fn reply(&self, ask: &Ask<'_>) -> Result<ChatReply, Problem> {
        let place = self.place(1).await?;
        let url = &self.urls[place.server];
        let answered = self.post(url, ask).await.and_then(|answer| {
            let no_choice = || Problem::Retry(format!("{url}: no choices"), None);
            answer.into_chat_reply().ok_or_else(no_choice)
        });
        place.over_with(&answered);
        answered
    }

    /// One call to the server that has the fewest votes under way. Votes that nobody wants any more
    /// when their turn comes are left out of `votes` and of the call. Replies in the order of `votes`,
    /// at least one where there are votes, perhaps fewer than votes.
    async fn call(
        &self,
        votes: &mut Vec<VoteRequest>,
        wanted: &Wanted,
    ) -> Result<Vec<VoteReply>, Problem> {
        let mut place = self.place(votes.len()).await?;
        votes.retain(|vote| wanted.contains(vote.id));
        if votes.is_empty() {
            return Ok(Vec::new());
        }
        place.keep(votes.len());
        let (server, n_wanted) = (place.server, votes.len());
        let url = &self.urls[server];
        let started = Instant::now();
        let called = self.ask(url, votes).await.and_then(|answer| {
            let replies = answer.into_replies(n_wanted, started.elapsed().as_secs_f64() * 1e3);
            match replies.is_empty() {
                true => Err(Problem::Retry(format!("{url}: no choices"), None)),
                false => Ok(replies),
            }
        });
        place.over_with(&called);
        let n_given = called.as_ref().map_or(n_wanted, Vec::len);
        if n_given < n_wanted && !self.is_known_as_short[server].swap(true, Ordering::Relaxed) {
            tracing::warn!(
                url,
                n_wanted,
                n_given,
                "A server gives fewer choices than it is asked for; what it leaves out is asked one by \
                 one. With judge.http.samples_per_call = 1 nothing waits for that."
            );
        }
        called
    }

    /// Waits for a server with room for so many votes, first come, first served.
    async fn place(&self, n_votes: usize) -> Result<Place<'_>, Problem> {
        let _turn = self.turn.lock().await;
        loop {
            let now = self.started.elapsed();
            let choice = self.lock().choose(n_votes, now);
            match choice {
                Choice::Send(server) => {
                    return Ok(Place { calls: self, server, n_votes, end: End::GivenUp });
                }
                Choice::Rest(until) => {
                    let reason = "all servers rest after failures".to_owned();
                    return Err(Problem::Retry(reason, Some(until.saturating_sub(now))));
                }
                Choice::Wait(None) => self.ended.notified().await,
                Choice::Wait(Some(until)) => tokio::select! {
                    () = self.ended.notified() => {}
                    () = tokio::time::sleep_until(self.started + until) => {}
                },
            }
        }
    }

    /// Asks a server for votes that all have the prompt of the first.
    async fn ask(&self, url: &str, votes: &[VoteRequest]) -> Result<Answer, Problem> {
        let n = (votes.len() > 1).then_some(votes.len());
        let ask = Ask { n, ..self.plain(messages(&votes[0]).to_vec(), seed_of(votes)) };
        self.post(url, &ask).await
    }

    /// A call with the judge's own sampling.
    fn plain(&self, messages: Vec<Message>, seed: Seed) -> Ask<'_> {
        Ask {
            model: &self.config.http.model,
            messages,
            temperature: self.config.temperature,
            top_p: self.config.top_p,
            max_tokens: self.config.max_thinking_tokens,
            // servers want a number that is not negative
            seed: (seed.0 >> 1) as i64,
            stop: Vec::new(),
            n: None,
        }
    }

    async fn post(&self, url: &str, ask: &Ask<'_>) -> Result<Answer, Problem> {
        let mut call = self.client.post(url).json(ask);
        if let Some(key) = &self.api_key {
            call = call.bearer_auth(key);
        }
        let retry = |error: reqwest::Error| Problem::Retry(format!("{url}: {error}"), None);
        let response = call.send().await.map_err(retry)?;
        let status = response.status();
        if status.is_success() {
            return response.json().await.map_err(retry);
        }
        let after = response.headers().get("retry-after");
        let after = after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        // one that refuses a key may give it back in its words, which clients read
        let told = match status.as_u16() {
            401 | 403 => String::new(),
            _ => response.text().await.unwrap_or_default(),
        };
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let told: String = told.chars().take(200).collect();
        let reason = format!("{url}: {status} {told}");
        // too many, too slow, or its own fault; then what is wrong with the vote; all else is wrong with this
        // program's settings: another try is of no use, and the vote is not to blame
        match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                Err(Problem::Retry(reason, after.map(|s| Duration::from_secs(s.min(60)))))
            }
            400 | 413 | 414 | 422 => Err(Problem::Final(JudgeError::Refused(reason))),
            _ => Err(Problem::Final(JudgeError::Failed(reason))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().expect("nobody panics with the servers in hand. This is a bug.")
    }
}

impl JudgeServers for Calls {
    fn n_servers(&self) -> usize {
        self.urls.len()
    }

    fn n_resting(&self) -> usize {
        let now = self.started.elapsed();
        self.lock().n_resting(now)
    }
}

/// A call's place at a server, given back when it goes.
struct Place<'a> {
    calls: &'a Calls,
    server: usize,
    n_votes: usize,
    end: End,
}

impl Place<'_> {
    /// Gives back what is more than so many votes need.
    fn keep(&mut self, n_votes: usize) {
        if n_votes < self.n_votes {
            self.calls.lock().leave(self.server, self.n_votes - n_votes);
            self.n_votes = n_votes;
            self.calls.ended.notify_one();
        }
    }

    /// The call has ended so.
    fn over_with<T>(mut self, called: &Result<T, Problem>) {
        self.end = match called {
            Err(Problem::Retry(..)) => End::Failed,
            _ => End::Answered,
        };
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let now = self.calls.started.elapsed();
        self.calls.lock().over(self.server, self.n_votes, self.end, now);
        self.calls.ended.notify_one();
    }
}

/// The key of a call's draws: that of its vote, or of all its votes together.
fn seed_of(votes: &[VoteRequest]) -> Seed {
    let seeds = votes.iter().map(|vote| vote.seed);
    seeds.reduce(|seed, vote| seed.child("beside", vote.0)).unwrap_or(Seed(0))
}

/// Waits before the next try, as long as the server says, where it does.
async fn rest(attempt: u32, pause: Option<Duration>, key: Seed) {
    let jitter = key.child("http", u64::from(attempt));
    tokio::time::sleep(pause.unwrap_or(backoff(attempt, jitter))).await;
}

/// A pause of 0.1 s, doubled with each try up to half a minute, times a keyed factor in [0.5, 1).
fn backoff(attempt: u32, jitter: Seed) -> Duration {
    let whole = Duration::from_millis(100 << attempt.min(10)).min(Duration::from_secs(30));
    whole.mul_f64(0.5 + jitter.unit() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::HttpJudgeConfig;

    fn calls(change: impl FnOnce(&mut HttpJudgeConfig)) -> Arc<Calls> {
        let mut http = HttpJudgeConfig { urls: vec![String::new()], ..HttpJudgeConfig::default() };
        change(&mut http);
        let config = JudgeConfig { http, ..JudgeConfig::default() };
        Arc::new(Calls::new(reqwest::Client::new(), &config, None))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_the_limit_and_start_in_the_order_they_came() {
        let calls = calls(|http| http.requests_per_minute = 60);
        let mut last = Duration::ZERO;
        let (mut starts, mut tasks) = (Vec::new(), Vec::new());
        let (send, receive) = crossbeam::channel::unbounded();
        for number in 0..120 {
            let (calls, send) = (Arc::clone(&calls), send.clone());
            tasks.push(tokio::spawn(async move {
                let _place = calls.place(1).await.ok().unwrap();
                send.send((number, calls.started.elapsed())).unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for (place, (number, at)) in receive.try_iter().enumerate() {
            assert_eq!(place, number, "none overtakes another");
            assert!(place == 0 || at > last + Duration::from_secs(1), "{number} at {at:?}");
            starts.push(at);
            last = at;
        }
        assert_eq!(starts.len(), 120);
        // 119 intervals of 61/60 s, and what the timer's milliseconds round up
        assert!(last < Duration::from_millis(119 * 1019), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_while_it_waits_holds_nobody_up() {
        let calls = calls(|http| http.concurrency = 4);
        let place = calls.place(3).await.ok().unwrap();
        let waits = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { drop(calls.place(2).await) })
        };
        let goes = {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { drop(calls.place(1).await) })
        };
        tokio::task::yield_now().await;
        assert!(!waits.is_finished() && !goes.is_finished(), "one after the other");
        waits.abort();
        goes.await.unwrap();
        drop(place);
        assert!(calls.place(4).await.is_ok(), "every place was given back");
    }

    #[test]
    fn a_call_for_one_vote_has_that_votes_key_and_one_for_more_its_own() {
        let vote = |seed| VoteRequest {
            id: VoteId(seed),
            match_id: joust_schema::ids::MatchId("g/1-0-1".to_owned()),
            vote: 0,
            attempt: 0,
            question: String::new(),
            answer_first: String::new(),
            answer_second: String::new(),
            reference: None,
            seed: Seed(seed),
        };
        assert_eq!(seed_of(&[vote(7)]), Seed(7));
        let calls = [vec![vote(7), vote(8)], vec![vote(8), vote(7)], vec![vote(7), vote(9)]];
        let seeds: BTreeSet<u64> = calls.iter().map(|votes| seed_of(votes).0).collect();
        assert_eq!(seeds.len(), 3);
    }
}
