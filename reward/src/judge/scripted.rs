//! A judge for tests: replies by a function, and holds votes back, counts or fails as a test sets.
//!
//! It is public so that every crate's tests share it. It does not know tournaments.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use joust_schema::tables::Verdict;

use super::chat::{ChatId, ChatModel, ChatOutcome, ChatReply, ChatRequest};
use super::interface::{Judge, JudgeServers};
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};

type VoteScript<'s> = Box<dyn FnMut(&VoteRequest) -> Result<VoteReply, JudgeError> + Send + 's>;
type ChatScript<'s> = Box<dyn FnMut(&ChatRequest) -> Result<ChatReply, JudgeError> + Send + 's>;

/// Capacity of a scripted judge that sets none.
const CAPACITY: usize = 64;

/// A judge that replies to each vote by a function of its request.
///
/// A poll replies to all votes that wait, oldest first, unless the judge is built or its
/// [`ScriptControl`] is used to change that.
pub struct ScriptedJudge<'s> {
    name: String,
    script: VoteScript<'s>,
    chat_script: Option<ChatScript<'s>>,
    finished_chats: Vec<ChatOutcome>,
    replies_newest_first: bool,
    capacity: usize,
    servers: Option<Arc<FixedServers>>,
    control: ScriptControl,
}

/// A handle to a [`ScriptedJudge`] that a scorer owns: reads the votes that the judge got, and sets
/// how many of them it replies to.
#[derive(Clone, Default)]
pub struct ScriptControl(Arc<Mutex<ScriptState>>);

struct ScriptState {
    waiting: VecDeque<VoteRequest>,
    n_submitted: usize,
    cancelled: Vec<VoteId>,
    n_cache_clears: usize,
    max_replies_per_poll: usize,
    ignores_cancels: bool,
}

impl Default for ScriptState {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            n_submitted: 0,
            cancelled: Vec::new(),
            n_cache_clears: 0,
            max_replies_per_poll: usize::MAX,
            ignores_cancels: false,
        }
    }
}

impl<'s> ScriptedJudge<'s> {
    /// A judge that replies by `script`; a poll calls it once per reply.
    pub fn new(
        script: impl FnMut(&VoteRequest) -> Result<VoteReply, JudgeError> + Send + 's,
    ) -> Self {
        Self {
            name: "scripted".to_owned(),
            script: Box::new(script),
            chat_script: None,
            finished_chats: Vec::new(),
            replies_newest_first: false,
            capacity: CAPACITY,
            servers: None,
            control: ScriptControl::default(),
        }
    }

    /// A judge that gives the verdicts of `script`, each in a reply of one token.
    pub fn of_verdicts(
        mut script: impl FnMut(&VoteRequest) -> Result<Verdict, JudgeError> + Send + 's,
    ) -> Self {
        Self::new(move |request| {
            let verdict = script(request)?;
            Ok(VoteReply {
                prompt_tokens: 1,
                completion_tokens: 1,
                latency_ms: 1.0,
                ..VoteReply::without_tokens(verdict, verdict.to_string())
            })
        })
    }

    /// A judge that never replies.
    pub fn silent() -> Self {
        let judge =
            Self::new(|_| unreachable!("a silent judge replies to no vote. This is a bug."));
        judge.control.set_max_replies_per_poll(0);
        judge
    }

    /// A judge whose every vote fails.
    pub fn failing(reason: &'s str) -> Self {
        Self::new(move |_| Err(JudgeError::Failed(reason.to_owned())))
    }

    /// Sets the name.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Sets the number of votes that the judge says it works on at once.
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Replies to the newest vote first, one per poll.
    pub fn newest_first(self) -> Self {
        self.control.set_max_replies_per_poll(1);
        Self { replies_newest_first: true, ..self }
    }

    /// Makes the judge a model that answers each conversation at once by `script`.
    pub fn with_chat(
        self,
        script: impl FnMut(&ChatRequest) -> Result<ChatReply, JudgeError> + Send + 's,
    ) -> Self {
        Self { chat_script: Some(Box::new(script)), ..self }
    }

    /// Makes the judge one that calls servers, of which `n_resting` rest forever.
    pub fn with_servers(self, n_servers: usize, n_resting: usize) -> Self {
        Self { servers: Some(Arc::new(FixedServers { n_servers, n_resting })), ..self }
    }

    /// A handle that reads and steers the judge.
    pub fn control(&self) -> ScriptControl {
        self.control.clone()
    }
}

impl ScriptControl {
    /// Number of votes that were submitted.
    pub fn n_submitted(&self) -> usize {
        self.lock().n_submitted
    }

    /// Ids of the votes that were cancelled, in order.
    pub fn cancelled(&self) -> Vec<VoteId> {
        self.lock().cancelled.clone()
    }

    /// Number of calls of [`Judge::clear_caches`].
    pub fn n_cache_clears(&self) -> usize {
        self.lock().n_cache_clears
    }

    /// Votes that wait for a reply, oldest first.
    pub fn waiting(&self) -> Vec<VoteRequest> {
        self.lock().waiting.iter().cloned().collect()
    }

    /// Sets the maximum number of votes that a poll replies to; 0 holds all back.
    pub fn set_max_replies_per_poll(&self, n: usize) {
        self.lock().max_replies_per_poll = n;
    }

    /// Sets whether the judge replies to cancelled votes, as if their replies had been finished
    /// before.
    pub fn set_ignores_cancels(&self, ignores_cancels: bool) {
        self.lock().ignores_cancels = ignores_cancels;
    }

    fn lock(&self) -> MutexGuard<'_, ScriptState> {
        self.0.lock().expect("no thread panics while it holds a script's state. This is a bug.")
    }
}

impl Judge for ScriptedJudge<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn submit(&mut self, request: VoteRequest) {
        let mut state = self.control.lock();
        state.n_submitted += 1;
        state.waiting.push_back(request);
    }

    fn cancel(&mut self, id: VoteId) {
        let mut state = self.control.lock();
        state.cancelled.push(id);
        if !state.ignores_cancels {
            state.waiting.retain(|request| request.id != id);
        }
    }

    fn clear_caches(&mut self) {
        self.control.lock().n_cache_clears += 1;
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let requests: Vec<VoteRequest> = {
            let mut state = self.control.lock();
            let n = state.max_replies_per_poll.min(state.waiting.len());
            match self.replies_newest_first {
                true => (0..n).filter_map(|_| state.waiting.pop_back()).collect(),
                false => state.waiting.drain(..n).collect(),
            }
        };
        if requests.is_empty() {
            std::thread::yield_now();
        }
        requests.iter().map(|request| (request.id, (self.script)(request))).collect()
    }

    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        match self.chat_script {
            Some(_) => Some(self),
            None => None,
        }
    }

    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        self.servers.clone().map(|servers| servers as Arc<dyn JudgeServers>)
    }
}

impl ChatModel for ScriptedJudge<'_> {
    fn submit_chat(&mut self, id: ChatId, request: ChatRequest) -> Result<(), JudgeError> {
        if let Some(script) = &mut self.chat_script {
            self.finished_chats.push((id, script(&request)));
        }
        Ok(())
    }

    fn cancel_chat(&mut self, id: ChatId) {
        self.finished_chats.retain(|(finished, _)| *finished != id);
    }

    fn take_finished_chats(&mut self) -> Vec<ChatOutcome> {
        std::mem::take(&mut self.finished_chats)
    }
}

/// Servers whose state never changes.
struct FixedServers {
    n_servers: usize,
    n_resting: usize,
}

impl JudgeServers for FixedServers {
    fn n_servers(&self) -> usize {
        self.n_servers
    }

    fn n_resting(&self) -> usize {
        self.n_resting
    }
}
