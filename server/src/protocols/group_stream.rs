//! Scores the groups of a stream: a bounded number at a time, answered as results arrive. Knows
//! neither HTTP nor Arrow.
//!
//! The work runs in a task of its own, so that a client may send everything before it reads an
//! answer; up to [`MAX_WAITING_BYTES`] of answers wait. When the client disconnects, the stream of
//! answers is dropped and the task with it: groups that were not submitted by then never are. While
//! a group waits for room in the queue, no further group is read. A stream ends that brings no
//! group within the time limit of a request while none is judged.

use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::desk::commands::ScoreRequest;
use crate::desk::results::GroupLookup;
use crate::group::NewGroup;
use crate::problem::Problem;
use crate::state::ServerState;
use joust_reward::arena::GroupResult;

/// Maximum size of the answers that wait until the client reads them.
const MAX_WAITING_BYTES: u32 = 64 << 20;

/// A group of a stream; `tag` is what its answer needs beside the result.
pub(crate) struct StreamedGroup<T> {
    pub(crate) tag: T,
    /// A problem if this group could not be read; the stream goes on.
    pub(crate) group: Result<NewGroup, Problem>,
}

/// Item of a stream of answers. The end comes once, as the last item.
#[derive(Debug)]
pub(crate) enum StreamEvent<A> {
    Answer(A),
    End(Result<(), Problem>),
}

/// Functions that make answers.
pub(crate) struct Answering<F, A> {
    /// Makes the answer of a group; a problem ends the stream.
    pub(crate) answer: F,
    /// Size of an answer, for the limit of the answers that wait.
    pub(crate) n_bytes: fn(&A) -> usize,
}

/// Scores the groups of a stream and returns their answers as they are made. Must be called inside
/// a tokio runtime.
pub(crate) fn answers<T, A, F>(
    state: ServerState,
    client: Client,
    groups: impl Stream<Item = Result<StreamedGroup<T>, Problem>> + Send + 'static,
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
    task.spawn(async move { score_stream(&state, &client, groups, answering, &outbox).await });
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

/// Answers that wait until the client reads them; each holds permits of `room` for its bytes.
struct Outbox<A> {
    send: mpsc::UnboundedSender<(A, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl<A> Outbox<A> {
    /// Waits for room, then sends the answer.
    async fn put(&self, answer: A, n_bytes: usize) {
        let n_bytes = u32::try_from(n_bytes).unwrap_or(u32::MAX).min(MAX_WAITING_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(n_bytes).await;
        let room = room.expect("the semaphore is never closed. This is a bug.");
        // if the client has disconnected, this task ends at its next wait
        let _ = self.send.send((answer, room));
    }
}

/// A group that waits for room in the queue, at most until `until`.
struct WaitingGroup<T> {
    tag: T,
    request: Option<Box<ScoreRequest>>,
    until: Instant,
}

/// Reading side of a stream: everything but the groups that are being judged.
struct StreamReader<'a, T> {
    state: &'a ServerState,
    client: &'a Client,
    waiting: Option<WaitingGroup<T>>,
    /// Why reading ended: the end of the stream, or a problem; `None` while groups are read.
    end: Option<Result<(), Problem>>,
}

/// The next event of a stream.
enum StreamStep<T, R> {
    /// A group has its result.
    Judged(R),
    /// A group was read; `None` at the end of the stream.
    Read(Option<Result<StreamedGroup<T>, Problem>>),
    /// The waiting group was admitted, or refused for good.
    Admitted(Result<GroupLookup, Problem>),
    /// Nothing was read for too long, while no group was judged.
    Idle,
    /// The server shuts down.
    Closing,
}

/// Reads groups, submits them and answers them until the stream is over.
async fn score_stream<T, A, F>(
    state: &ServerState,
    client: &Client,
    groups: impl Stream<Item = Result<StreamedGroup<T>, Problem>>,
    Answering { mut answer, n_bytes }: Answering<F, A>,
    outbox: &Outbox<A>,
) -> Result<(), Problem>
where
    F: FnMut(T, Result<GroupResult, Problem>) -> Result<A, Problem>,
{
    let mut groups = pin!(groups);
    let mut closing = pin!(state.until_closing());
    let mut judging = FuturesUnordered::new();
    let mut reader = StreamReader { state, client, waiting: None, end: None };
    while !reader.is_done() || !judging.is_empty() {
        let step = reader.step(groups.as_mut(), &mut judging, closing.as_mut()).await;
        // a group with a problem is answered through the same queue as a judged one
        let (tag, lookup) = match step {
            StreamStep::Judged((tag, result)) => {
                let answer = answer(tag, result)?;
                let n_bytes = n_bytes(&answer);
                outbox.put(answer, n_bytes).await;
                continue;
            }
            StreamStep::Read(group) => match reader.take_read(group) {
                Some((tag, problem)) => (tag, Err(problem)),
                None => continue,
            },
            StreamStep::Admitted(lookup) => match reader.waiting.take() {
                Some(WaitingGroup { tag, .. }) => (tag, lookup),
                None => continue,
            },
            StreamStep::Idle => {
                reader.end = Some(Err(Problem::BodyTimeout(state.scorer.config.timeout)));
                continue;
            }
            StreamStep::Closing => match reader.close() {
                Some(tag) => (tag, Err(Problem::ServerStopping)),
                None => continue,
            },
        };
        judging.push(judged(state, tag, lookup));
    }
    reader.end.unwrap_or(Ok(()))
}

/// Waits for the result of an admitted group.
async fn judged<T>(
    state: &ServerState,
    tag: T,
    lookup: Result<GroupLookup, Problem>,
) -> (T, Result<GroupResult, Problem>) {
    let judged = match lookup {
        Ok(lookup) => state.scorer.result(lookup).await,
        Err(problem) => Err(problem),
    };
    (tag, judged.map(|judged| judged.result.clone()))
}

/// Maximum number of groups of one stream that are judged at once: half of the queue, which leaves
/// room for other requests.
fn max_judging(state: &ServerState) -> usize {
    (state.scorer.config.queue_capacity / 2).max(1)
}

impl<T> StreamReader<'_, T> {
    /// True once nothing more is read and no group waits for room.
    fn is_done(&self) -> bool {
        self.end.is_some() && self.waiting.is_none()
    }

    /// Waits for whatever happens first.
    async fn step<R, W: Future<Output = R>>(
        &mut self,
        mut groups: Pin<&mut impl Stream<Item = Result<StreamedGroup<T>, Problem>>>,
        judging: &mut FuturesUnordered<W>,
        closing: Pin<&mut impl Future<Output = ()>>,
    ) -> StreamStep<T, R> {
        let has_room = self.waiting.is_none() && judging.len() < max_judging(self.state);
        let (may_read, may_close) = (self.end.is_none() && has_room, !self.is_done());
        let may_idle = may_read && judging.is_empty();
        let idle = tokio::time::sleep(self.state.scorer.config.timeout);
        let waiting = self.waiting.as_mut().map(|group| (&mut group.request, group.until));
        tokio::select! {
            Some(result) = judging.next(), if !judging.is_empty() => StreamStep::Judged(result),
            group = groups.next(), if may_read => StreamStep::Read(group),
            lookup = admitted(self.state, waiting) => StreamStep::Admitted(lookup),
            () = idle, if may_idle => StreamStep::Idle,
            () = closing, if may_close => StreamStep::Closing,
        }
    }

    /// Takes a group in; returns its tag and problem if it cannot be judged.
    fn take_read(
        &mut self,
        group: Option<Result<StreamedGroup<T>, Problem>>,
    ) -> Option<(T, Problem)> {
        let StreamedGroup { tag, group } = match group {
            Some(Ok(group)) => group,
            Some(Err(problem)) => {
                self.end = Some(Err(problem));
                return None;
            }
            None => {
                self.end = Some(Ok(()));
                return None;
            }
        };
        let scorer = &self.state.scorer;
        match group.and_then(|group| scorer.with_defaults(group)) {
            Ok(group) => {
                let request = Some(scorer.request(group, self.client, None));
                let until = Instant::now() + scorer.config.timeout;
                self.waiting = Some(WaitingGroup { tag, request, until });
                None
            }
            Err(problem) => Some((tag, problem)),
        }
    }

    /// Ends the reading; returns the tag of the group that waited for room.
    fn close(&mut self) -> Option<T> {
        self.end.get_or_insert(Err(Problem::ServerStopping));
        self.waiting.take().map(|group| group.tag)
    }
}

/// Submits the waiting group once the queue has room for it; never completes if none waits.
async fn admitted(
    state: &ServerState,
    waiting: Option<(&mut Option<Box<ScoreRequest>>, Instant)>,
) -> Result<GroupLookup, Problem> {
    let Some((request, until)) = waiting else { return std::future::pending().await };
    let begun = tokio::time::timeout_at(until, state.scorer.begin_in_turn(request)).await;
    begun.unwrap_or_else(|_| {
        let time = state.scorer.config.timeout;
        Err(Problem::TooLate(format!("the queue had no room for it within {time:?}")))
    })
}
