//! Groups of a stream on their way to the judge and back: a bounded number at a time, answered as
//! results arrive. Knows neither HTTP nor Arrow.
//!
//! The work runs in a task of its own, so that a client may send everything before it reads an
//! answer; up to [`MAX_WAITING_BYTES`] of answers wait. When the client goes, the task is dropped
//! with the stream of answers, and groups not yet submitted never are. A group without room in the
//! queue pauses reading: at most one group per stream waits.

use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::desk::commands::ScoreRequest;
use crate::desk::results::Found;
use crate::input::Client;
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::ScoreGroupRequest;
use joust_reward::arena::GroupResult;

/// Answers that wait for a client to read them.
const MAX_WAITING_BYTES: u32 = 64 << 20;

/// A group of a stream; `tag` is what its answer needs to know.
pub(crate) struct Ask<T> {
    pub(crate) tag: T,
    /// A failure where it could not be read, and others can.
    pub(crate) request: Result<ScoreGroupRequest, Problem>,
}

/// What a stream of answers is made of; the end comes once, and last.
#[derive(Debug)]
pub(crate) enum StreamEvent<A> {
    Answer(A),
    End(Result<(), Problem>),
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
    request: Option<Box<ScoreRequest>>,
    until: Instant,
}

/// The request of a group, ready for the judge thread.
fn request_of(
    state: &ServerState,
    client: &Client,
    request: ScoreGroupRequest,
) -> Result<Box<ScoreRequest>, Problem> {
    let scorer = &state.scorer;
    let group = request.into_group(&scorer.tournament, scorer.config.seed)?;
    Ok(scorer.request(group, &client.0, None))
}

/// Most groups of one stream that are under way: half of the queue, so that others find room in it.
fn max_under_way(state: &ServerState) -> usize {
    (state.scorer.config.queue_capacity / 2).max(1)
}

/// Scores the groups of a stream and gives their answers as they come. Must be called where tokio
/// runs.
pub(crate) fn answers<T, A, F>(
    state: ServerState,
    client: Client,
    asks: impl Stream<Item = Result<Ask<T>, Problem>> + Send + 'static,
    answering: Answering<F, A>,
) -> impl Stream<Item = StreamEvent<A>> + Send + 'static
where
    T: Send + 'static,
    A: Send + 'static,
    F: FnMut(T, Result<GroupResult, Problem>) -> Result<A, Problem> + Send + 'static,
{
    let (send, receive) = mpsc::unbounded_channel();
    let outbox = Outbox { send, room: Arc::new(Semaphore::new(MAX_WAITING_BYTES as usize)) };
    let mut task = JoinSet::new();
    task.spawn(async move { play(&state, &client, asks, answering, &outbox).await });
    stream::unfold(Some((receive, task)), |state| async {
        let (mut receive, mut task) = state?;
        if let Some((answer, _room)) = receive.recv().await {
            return Some((StreamEvent::Answer(answer), Some((receive, task))));
        }
        let end =
            task.join_next().await.and_then(Result::ok).unwrap_or_else(|| {
                Err(Problem::Internal("reading the stream broke down".to_owned()))
            });
        Some((StreamEvent::End(end), None))
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

/// Where a stream stands, beside the groups that are judged.
struct Play<'a, T> {
    state: &'a ServerState,
    client: &'a Client,
    /// The group that waits for room in the queue.
    next: Option<Next<T>>,
    /// Set once nothing more is read: all was read, or why reading ended.
    end: Option<Result<(), Problem>>,
}

/// What happens next in a stream.
enum Step<T, R> {
    /// A group has its result.
    Judged(R),
    /// A group was read; none at the end of the stream.
    Read(Option<Result<Ask<T>, Problem>>),
    /// The waiting group was admitted, or refused for good.
    Admitted(Result<Found, Problem>),
    /// The server shuts down.
    Closing,
}

/// Reads groups, submits them and answers them until the stream is over.
async fn play<T, A, F>(
    state: &ServerState,
    client: &Client,
    asks: impl Stream<Item = Result<Ask<T>, Problem>>,
    Answering { mut answer, n_bytes }: Answering<F, A>,
    outbox: &Outbox<A>,
) -> Result<(), Problem>
where
    F: FnMut(T, Result<GroupResult, Problem>) -> Result<A, Problem>,
{
    let mut asks = pin!(asks);
    let mut closing = pin!(state.until_closing());
    let mut under_way = FuturesUnordered::new();
    let mut play = Play { state, client, next: None, end: None };
    while play.may_close() || !under_way.is_empty() {
        // a group without a result is answered in its turn, too
        let (tag, found) = match play.step(asks.as_mut(), &mut under_way, closing.as_mut()).await {
            Step::Judged((tag, result)) => {
                let answer = answer(tag, result)?;
                let n_bytes = n_bytes(&answer);
                outbox.put(answer, n_bytes).await;
                continue;
            }
            Step::Read(ask) => match play.read(ask) {
                Some((tag, problem)) => (tag, Err(problem)),
                None => continue,
            },
            Step::Admitted(found) => match play.next.take() {
                Some(Next { tag, .. }) => (tag, found),
                None => continue,
            },
            Step::Closing => match play.close() {
                Some(tag) => (tag, Err(Problem::ServerStopping)),
                None => continue,
            },
        };
        under_way.push(judged(state, tag, found));
    }
    play.end.unwrap_or(Ok(()))
}

/// Waits for the result of an admitted group.
async fn judged<T>(
    state: &ServerState,
    tag: T,
    found: Result<Found, Problem>,
) -> (T, Result<GroupResult, Problem>) {
    let judged = match found {
        Ok(found) => state.scorer.result(found).await,
        Err(problem) => Err(problem),
    };
    (tag, judged.map(|judged| judged.result.clone()))
}

impl<T> Play<'_, T> {
    /// False once nothing is read or waits for room.
    fn may_close(&self) -> bool {
        self.end.is_none() || self.next.is_some()
    }

    /// Waits for whatever happens first.
    async fn step<R, W: Future<Output = R>>(
        &mut self,
        mut asks: Pin<&mut impl Stream<Item = Result<Ask<T>, Problem>>>,
        under_way: &mut FuturesUnordered<W>,
        closing: Pin<&mut impl Future<Output = ()>>,
    ) -> Step<T, R> {
        let has_room = self.next.is_none() && under_way.len() < max_under_way(self.state);
        let (may_read, may_close) = (self.end.is_none() && has_room, self.may_close());
        let waiting = self.next.as_mut().map(|next| (&mut next.request, next.until));
        tokio::select! {
            Some(result) = under_way.next(), if !under_way.is_empty() => Step::Judged(result),
            ask = asks.next(), if may_read => Step::Read(ask),
            found = admitted(self.state, waiting) => Step::Admitted(found),
            () = closing, if may_close => Step::Closing,
        }
    }

    /// Takes in what was read; returns a group that cannot be judged, with its problem.
    fn read(&mut self, ask: Option<Result<Ask<T>, Problem>>) -> Option<(T, Problem)> {
        let Ask { tag, request } = match ask {
            Some(Ok(ask)) => ask,
            Some(Err(problem)) => {
                self.end = Some(Err(problem));
                return None;
            }
            None => {
                self.end = Some(Ok(()));
                return None;
            }
        };
        match request.and_then(|request| request_of(self.state, self.client, request)) {
            Ok(request) => {
                let until = Instant::now() + self.state.scorer.config.timeout;
                self.next = Some(Next { tag, request: Some(request), until });
                None
            }
            Err(problem) => Some((tag, problem)),
        }
    }

    /// Ends the reading; returns the group that waited for room.
    fn close(&mut self) -> Option<T> {
        self.end.get_or_insert(Err(Problem::ServerStopping));
        self.next.take().map(|next| next.tag)
    }
}

/// Hands the waiting group over once there is room for it; never completes if none waits.
async fn admitted(
    state: &ServerState,
    waiting: Option<(&mut Option<Box<ScoreRequest>>, Instant)>,
) -> Result<Found, Problem> {
    let Some((request, until)) = waiting else { return std::future::pending().await };
    let begun = tokio::time::timeout_at(until, state.scorer.begin_in_turn(request)).await;
    begun.unwrap_or_else(|_| {
        let time = state.scorer.config.timeout;
        Err(Problem::TooLate(format!("the queue had no room for it within {time:?}")))
    })
}
