//! Plain data of the scheduler: limits, sequences, plans and counts. It decides nothing.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use crate::kv::{BlockTable, KvSlot, Span};

/// Limits of a plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulerLimits {
    /// Maximum number of samples that run at once.
    pub(crate) max_batch: usize,
    /// Maximum number of requests that wait.
    pub(crate) max_queue: usize,
    /// Maximum number of tokens per step.
    pub(crate) step_tokens: usize,
    /// Number of blocks of key/value memory.
    pub(crate) n_blocks: usize,
    /// Whether prompts are cached for later requests.
    pub(crate) prefix_cache: bool,
}

/// Names a sequence from its admission to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SequenceKey(pub(crate) u64);

/// Samples of one prompt that wait or run together until the prompt is computed.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Key of the sequence.
    pub(crate) key: SequenceKey,
    /// Number of the request, given by the caller.
    pub(crate) request: u64,
    /// Index of the first sample.
    pub(crate) first_sample: u32,
    /// Number of samples: 1 once the prompt is computed.
    pub(crate) n_samples: u32,
    /// Prompt and what was generated.
    pub(crate) tokens: Vec<u32>,
    /// Number of prompt tokens among `tokens`.
    pub(crate) n_prompt: usize,
    /// Number of prompt tokens that were cached when this sequence started.
    pub(crate) n_cached: usize,
    /// True until the prompt tokens are added to the counts.
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
    /// Time at which the request expires, on the clock of `Scheduler::plan`.
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
    /// Slots of their keys and values.
    pub(crate) slots: Vec<KvSlot>,
    /// The whole context, these tokens included.
    pub(crate) spans: Vec<Span>,
    /// Number of samples that continue from the last token: 0 where more of the prompt follows.
    pub(crate) n_samples: u32,
}

/// Plan of one step.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    pub(crate) chunks: Vec<Chunk>,
    /// Expired sequences, which were removed.
    pub(crate) expired: Vec<Sequence>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SchedulerCounts {
    /// Prompt tokens of admitted requests, counted once per request.
    pub(crate) prompt_tokens: u64,
    /// Prompt tokens that were computed, again after a preemption included.
    pub(crate) computed_prompt_tokens: u64,
    /// Number of preempted sequences.
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
