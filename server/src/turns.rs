//! Groups of a stream on their way to the scorer and back: a bounded number at a time, answers in the order
//! in which they come. Knows neither HTTP nor Arrow.
//!
//! A task of its own does the work, so that a client may send all before it reads anything: answers wait
//! here, up to [`MAX_WAITING_BYTES`]. When the client goes, the task is dropped with the stream of answers,
//! and what has not been handed to the scorer never is. A group for which the queue has no room holds up the
//! reading of the next, so that one group of a stream waits here at most.

use std::pin::pin;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::commands::Order;
use super::input::Client;
use super::results::Found;
use super::routes::{Shared, failure, later};
use super::table::Unreadable;
use super::unscored::Unscored;
use super::wire::ScoreGroupRequest;
use joust_reward::arena::GroupResult;

/// Answers that wait for a client to read them.
const MAX_WAITING_BYTES: u32 = 64 << 20;

/// What a client is told instead of a result, as a status of HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }

    pub(crate) fn closing() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server stops")
    }

    pub(crate) fn into_response(self) -> Response {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                later(self.status, &self.reason)
            }
            status => failure(status, &self.reason),
        }
    }
}

impl From<Unscored> for Failure {
    fn from(why: Unscored) -> Self {
        Self::new(why.status(), why.to_string())
    }
}

impl From<Unreadable> for Failure {
    fn from(why: Unreadable) -> Self {
        let status = match &why {
            Unreadable::NoArrow(_) => StatusCode::BAD_REQUEST,
            Unreadable::BadTable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Unreadable::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::new(status, why.to_string())
    }
}

/// A group of a stream; `tag` is what its answer needs to know.
pub(crate) struct Ask<T> {
    pub(crate) tag: T,
    /// A failure where it could not be read, and others can.
    pub(crate) request: Result<ScoreGroupRequest, Failure>,
}

/// What a stream of answers is made of; the end comes once, and last.
#[derive(Debug)]
pub(crate) enum Event<A> {
    Answer(A),
    End(Result<(), Failure>),
}

/// Makes an answer of a result; a failure ends the stream.
pub(crate) struct Answering<F, A> {
    pub(crate) answer: F,
    /// Bytes of an answer, for the limit of those that wait.
    pub(crate) n_bytes: fn(&A) -> usize,
}

/// A group that waits for room in the queue, until its time is over.
struct Next<T> {
    tag: T,
    order: Option<Box<Order>>,
    until: Instant,
}

/// The order of a group that was asked for.
fn order(
    shared: &Shared,
    client: &Client,
    request: ScoreGroupRequest,
) -> Result<Box<Order>, Failure> {
    let scorer = &shared.scorer;
    let group = request.into_group(&scorer.tournament, scorer.config.seed);
    let group = group.map_err(|reason| Failure::new(StatusCode::UNPROCESSABLE_ENTITY, reason))?;
    Ok(scorer.order(group, &client.0, None))
}

/// Most groups of one stream that are under way: half of the queue, so that others find room in it.
fn max_under_way(shared: &Shared) -> usize {
    (shared.scorer.config.queue_capacity / 2).max(1)
}

/// Scores the groups of a stream and gives their answers as they come. Must be called where tokio runs.
pub(crate) fn answers<T, A, F>(
    shared: Shared,
    client: Client,
    asks: impl Stream<Item = Result<Ask<T>, Failure>> + Send + 'static,
    answering: Answering<F, A>,
) -> impl Stream<Item = Event<A>> + Send + 'static
where
    T: Send + 'static,
    A: Send + 'static,
    F: FnMut(T, Result<GroupResult, Failure>) -> Result<A, Failure> + Send + 'static,
{
    let (send, receive) = mpsc::unbounded_channel();
    let outbox = Outbox { send, room: Arc::new(Semaphore::new(MAX_WAITING_BYTES as usize)) };
    let mut task = JoinSet::new();
    task.spawn(async move { play(&shared, &client, asks, answering, &outbox).await });
    stream::unfold(Some((receive, task)), |state| async {
        let (mut receive, mut task) = state?;
        if let Some((answer, _room)) = receive.recv().await {
            return Some((Event::Answer(answer), Some((receive, task))));
        }
        let end = task.join_next().await.and_then(Result::ok).unwrap_or_else(|| {
            let reason = "reading the stream broke down";
            Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, reason))
        });
        Some((Event::End(end), None))
    })
}

/// Answers that wait to be read; their number is limited by `room`.
struct Outbox<A> {
    send: mpsc::UnboundedSender<(A, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl<A> Outbox<A> {
    async fn put(&self, answer: A, n_bytes: usize) {
        let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX).min(MAX_WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(n_bytes).await;
        let room = room.expect("nobody closes the semaphore. This is a bug.");
        // a client that has gone needs no answer; this task ends with it
        let _ = self.send.send((answer, room));
    }
}

async fn play<T, A, F>(
    shared: &Shared,
    client: &Client,
    asks: impl Stream<Item = Result<Ask<T>, Failure>>,
    Answering { mut answer, n_bytes }: Answering<F, A>,
    outbox: &Outbox<A>,
) -> Result<(), Failure>
where
    F: FnMut(T, Result<GroupResult, Failure>) -> Result<A, Failure>,
{
    let mut asks = pin!(asks);
    let mut closing = pin!(shared.until_closing());
    let mut under_way = FuturesUnordered::new();
    let mut next: Option<Next<T>> = None;
    // whether all has been read, or why no more is
    let mut end = None;
    while end.is_none() || next.is_some() || !under_way.is_empty() {
        let has_room = next.is_none() && under_way.len() < max_under_way(shared);
        let may_close = end.is_none() || next.is_some();
        let waiting = next.as_mut().map(|next| (&mut next.order, next.until));
        // what has no result is answered in its turn, too
        let (tag, found) = tokio::select! {
            Some((tag, result)) = under_way.next(), if !under_way.is_empty() => {
                let answer = answer(tag, result)?;
                let n_bytes = n_bytes(&answer);
                outbox.put(answer, n_bytes).await;
                continue;
            }
            ask = asks.next(), if end.is_none() && has_room => match ask {
                None => {
                    end = Some(Ok(()));
                    continue;
                }
                Some(Err(why)) => {
                    end = Some(Err(why));
                    continue;
                }
                Some(Ok(Ask { tag, request })) => {
                    match request.and_then(|request| order(shared, client, request)) {
                        Ok(order) => {
                            let until = Instant::now() + shared.scorer.config.timeout;
                            next = Some(Next { tag, order: Some(order), until });
                            continue;
                        }
                        Err(why) => (tag, Err(why)),
                    }
                }
            },
            found = in_turn(shared, waiting) => {
                let Some(Next { tag, .. }) = next.take() else { continue };
                (tag, found.map_err(Failure::from))
            }
            () = &mut closing, if may_close => {
                end = end.or(Some(Err(Failure::closing())));
                let Some(Next { tag, .. }) = next.take() else { continue };
                (tag, Err(Failure::closing()))
            }
        };
        under_way.push(async move {
            let judged = match found {
                Ok(found) => shared.scorer.result(found).await.map_err(Failure::from),
                Err(why) => Err(why),
            };
            (tag, judged.map(|judged| judged.result.clone()))
        });
    }
    end.unwrap_or(Ok(()))
}

/// Hands over what waits once there is room for it; never ends where nothing waits.
async fn in_turn(
    shared: &Shared,
    waiting: Option<(&mut Option<Box<Order>>, Instant)>,
) -> Result<Found, Unscored> {
    let Some((order, until)) = waiting else { return std::future::pending().await };
    let begun = tokio::time::timeout_at(until, shared.scorer.begin_in_turn(order)).await;
    begun.unwrap_or_else(|_| {
        let time = shared.scorer.config.timeout;
        Err(Unscored::TooLate(format!("the queue had no room for it within {time:?}")))
    })
}
