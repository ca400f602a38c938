//! Plain data of the scheduler: limits, sequences, plans and counts. It decides nothing.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use crate::kv::{BlockTable, Slot, Span};

/// Limits of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulerLimits {
    /// Most samples that run at once.
    pub(crate) max_batch: usize,
    /// Most requests that wait.
    pub(crate) max_queue: usize,
    /// Most tokens that a step computes.
    pub(crate) step_tokens: usize,
    /// Blocks of key/value memory.
    pub(crate) n_blocks: usize,
    /// Whether prompts are remembered for later requests.
    pub(crate) prefix_cache: bool,
}

/// Names a sequence from its admission to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SequenceKey(pub(crate) u64);

/// Samples of one prompt that wait or run together until the prompt is computed.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Of the newest sample that it stands for.
    pub(crate) key: SequenceKey,
    /// The request, as its owner numbers it.
    pub(crate) request: u64,
    /// Index of the first sample.
    pub(crate) first_sample: u32,
    /// Number of samples: 1 once the prompt is computed.
    pub(crate) n_samples: u32,
    /// Prompt and what was generated.
    pub(crate) tokens: Vec<u32>,
    /// How many of them are the prompt.
    pub(crate) n_prompt: usize,
    /// Prompt tokens that another sequence had computed before this one started.
    pub(crate) n_cached: usize,
    /// Whether it is to be counted still.
    pub(super) is_new: bool,
    pub(super) position: QueuePosition,
    pub(super) deadline: Option<Duration>,
    pub(super) table: BlockTable,
}

impl Sequence {
    /// The same request's tokens for other samples, without memory.
    pub(super) fn of_samples(&self, key: SequenceKey, first_sample: u32, n_samples: u32) -> Self {
        Self {
            key,
            request: self.request,
            first_sample,
            n_samples,
            tokens: self.tokens.clone(),
            n_prompt: self.n_prompt,
            n_cached: 0,
            is_new: false,
            position: self.position.of_sample(first_sample),
            deadline: self.deadline,
            table: BlockTable::default(),
        }
    }
}

/// A request as the scheduler sees it.
#[derive(Clone, Debug)]
pub(crate) struct QueuedRequest {
    pub(crate) request: u64,
    pub(crate) prompt: Vec<u32>,
    pub(crate) n_samples: u32,
    /// Higher is sooner.
    pub(crate) priority: i32,
    /// When it is given up, on the clock that [`Scheduler::plan`] is told.
    pub(crate) deadline: Option<Duration>,
}

/// Tokens of one sequence that a step computes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) key: SequenceKey,
    /// Their positions in the sequence.
    pub(crate) positions: Range<usize>,
    /// The tokens.
    pub(crate) tokens: Vec<u32>,
    /// Where their keys and values go.
    pub(crate) slots: Vec<Slot>,
    /// The whole context, these tokens included.
    pub(crate) spans: Vec<Span>,
    /// Samples that continue from the last token: 0 where more of the prompt is to come.
    pub(crate) n_samples: u32,
}

/// What one step does.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    pub(crate) chunks: Vec<Chunk>,
    /// Sequences whose time is over; they are gone.
    pub(crate) expired: Vec<Sequence>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SchedulerCounts {
    /// Prompt tokens of admitted requests, counted once a request.
    pub(crate) prompt_tokens: u64,
    /// Prompt tokens that were computed, again after a preemption included.
    pub(crate) computed_prompt_tokens: u64,
    /// Sequences that lost their memory and were computed again.
    pub(crate) preemptions: u64,
}

/// A sequence's position among all: higher priority first, then arrival, then the sample's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct QueuePosition {
    priority: Reverse<i32>,
    pub(super) arrival: u64,
    pub(super) sample: u32,
}

impl QueuePosition {
    pub(super) fn new(priority: i32, arrival: u64, sample: u32) -> Self {
        Self { priority: Reverse(priority), arrival, sample }
    }

    pub(super) fn of_sample(self, sample: u32) -> Self {
        Self { sample, ..self }
    }
}
