//! Plans the next step: sequences in, a plan out. No tensors, no clock of its own.
//!
//! A step has one budget of tokens. Running sequences come first, one token each; the rest goes to
//! prompts, in chunks where they are long. A sequence that finds no memory preempts the sequence
//! that came last, which is computed again later. It does not know what a token means or when a
//! sample is finished.

mod queue;
mod types;

use std::time::Duration;

use crate::error::Error;
use crate::kv::{BlockTable, KvMemory, KvUsage};
use queue::Queue;
use types::QueuePosition;
pub(crate) use types::{
    Chunk, QueuedRequest, SchedulerCounts, SchedulerLimits, Sequence, SequenceKey, StepPlan,
};

/// The waiting and the running sequences.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: SchedulerLimits,
    memory: KvMemory,
    waiting: Queue,
    /// In queue order, so that the last one is preempted first.
    running: Vec<Sequence>,
    n_arrived: u64,
    n_keys: u64,
    counts: SchedulerCounts,
}

impl Scheduler {
    pub(crate) fn new(limits: SchedulerLimits) -> Self {
        Self {
            limits,
            memory: KvMemory::new(limits.n_blocks, limits.prefix_cache),
            waiting: Queue::default(),
            running: Vec::new(),
            n_arrived: 0,
            n_keys: 0,
            counts: SchedulerCounts::default(),
        }
    }

    /// Maximum number of samples that run at once.
    pub(crate) fn max_batch(&self) -> usize {
        self.limits.max_batch
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Error::QueueFull`]
    pub(crate) fn push(&mut self, new: QueuedRequest) -> Result<(), Error> {
        if self.waiting.len() >= self.limits.max_queue {
            return Err(Error::QueueFull { limit: self.limits.max_queue });
        }
        self.n_arrived += 1;
        let position = QueuePosition::new(new.priority, self.n_arrived, 0);
        let key = self.next_key();
        self.waiting.push(Sequence {
            key,
            request: new.request,
            first_sample: 0,
            n_samples: new.n_samples,
            n_prompt: new.prompt.len(),
            n_cached: 0,
            is_new: true,
            tokens: new.prompt,
            position,
            deadline: new.deadline,
            table: BlockTable::default(),
        });
        Ok(())
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.waiting.is_empty() || !self.running.is_empty()
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// A running sequence.
    pub(crate) fn running(&self, key: SequenceKey) -> Option<&Sequence> {
        self.running.iter().find(|sequence| sequence.key == key)
    }

    pub(crate) fn usage(&self) -> KvUsage {
        self.memory.usage()
    }

    pub(crate) fn counts(&self) -> SchedulerCounts {
        self.counts
    }

    /// Cancels a request's sequences, waiting or running. Their memory is free at once.
    pub(crate) fn cancel(&mut self, request: u64) {
        self.waiting.remove(|sequence| sequence.request == request);
        for idx in (0..self.running.len()).rev() {
            if self.running[idx].request == request {
                self.release(idx);
            }
        }
    }

    /// Cancels all sequences and evicts the prefix cache.
    pub(crate) fn clear(&mut self) {
        self.waiting.remove(|_| true);
        while !self.running.is_empty() {
            self.release(self.running.len() - 1);
        }
        self.memory.forget();
    }

    /// Evicts the cached prefixes that no running sequence uses.
    pub(crate) fn forget_prefixes(&mut self) {
        self.memory.forget();
    }

    /// Plans the next step. Every chunk must be computed before the next plan: later sequences,
    /// even of the same step, may reuse what it stores.
    pub(crate) fn plan(&mut self, now: Duration) -> StepPlan {
        let mut plan = StepPlan { expired: self.take_expired(now), ..StepPlan::default() };
        let mut budget = self.limits.step_tokens;
        let mut is_short_of_memory = false;
        // running sequences first
        let mut idx = 0;
        while idx < self.running.len() && budget > 0 {
            match self.chunk(idx, budget) {
                Some(chunk) => {
                    budget -= chunk.tokens.len();
                    plan.chunks.push(chunk);
                    idx += 1;
                }
                None => {
                    is_short_of_memory = true;
                    self.preempt_last();
                }
            }
        }
        // then admit waiting prompts
        while budget > 0 && !is_short_of_memory {
            let n_seats = self.running.iter().map(|sequence| sequence.n_samples as usize).sum();
            let n_free = self.limits.max_batch.saturating_sub(n_seats);
            let Some(mut sequence) = self.admit(n_free) else { break };
            sequence.table = self.memory.open();
            let position = sequence.position;
            let idx = self.running.partition_point(|other| other.position < position);
            self.running.insert(idx, sequence);
            match self.chunk(idx, budget) {
                Some(chunk) => {
                    let sequence = &mut self.running[idx];
                    sequence.n_cached = chunk.positions.start.min(sequence.n_prompt);
                    if std::mem::take(&mut sequence.is_new) {
                        self.counts.prompt_tokens += sequence.n_prompt as u64;
                    }
                    budget -= chunk.tokens.len();
                    plan.chunks.push(chunk);
                }
                None => {
                    is_short_of_memory = true;
                    self.requeue(idx);
                }
            }
        }
        plan
    }

    /// Adds a token to a sequence whose chunk had a sample.
    pub(crate) fn append(&mut self, key: SequenceKey, token: u32) {
        if let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.key == key) {
            sequence.tokens.push(token);
        }
    }

    /// Forks a computed prompt into one sequence per sample. Returns the samples' indices and keys
    /// in order.
    pub(crate) fn split_samples(&mut self, key: SequenceKey) -> Vec<(u32, SequenceKey)> {
        let Some(idx) = self.running.iter().position(|sequence| sequence.key == key) else {
            return Vec::new();
        };
        let n_samples = self.running[idx].n_samples;
        let first_sample = self.running[idx].first_sample;
        let mut keys = vec![(first_sample, key)];
        self.running[idx].n_samples = 1;
        for sample in first_sample + 1..first_sample + n_samples {
            let key = self.next_key();
            let from = &self.running[idx];
            let sequence = Sequence {
                n_cached: from.n_prompt,
                table: self.memory.fork(&from.table),
                ..from.of_samples(key, sample, 1)
            };
            let to = self.running.partition_point(|other| other.position < sequence.position);
            self.running.insert(to, sequence);
            keys.push((sample, key));
        }
        keys
    }

    /// Ends a running sequence and releases its memory.
    pub(crate) fn finish(&mut self, key: SequenceKey) -> Option<Sequence> {
        let idx = self.running.iter().position(|sequence| sequence.key == key)?;
        Some(self.release(idx))
    }

    /// Removes a running sequence and releases its memory.
    fn release(&mut self, idx: usize) -> Sequence {
        let mut sequence = self.running.remove(idx);
        self.memory.release(std::mem::take(&mut sequence.table));
        sequence
    }

    /// Next chunk of a running sequence, at most `budget` tokens; none without memory.
    fn chunk(&mut self, idx: usize, budget: usize) -> Option<Chunk> {
        let Sequence { tokens, table, n_prompt, .. } = &mut self.running[idx];
        if table.n_tokens() < *n_prompt {
            // another sequence may have computed the next tokens; the last one is needed for its
            // logits
            self.memory.reuse(table, &tokens[table.n_tokens()..tokens.len() - 1]);
        }
        let start = table.n_tokens();
        let end = tokens.len().min(start + budget);
        let prompt_end = end.min(*n_prompt).max(start);
        let mut slots = self.memory.extend(table, &tokens[start..prompt_end], true);
        self.counts.computed_prompt_tokens += slots.len() as u64;
        if start + slots.len() == prompt_end {
            slots.extend(self.memory.extend(table, &tokens[prompt_end..end], false));
        }
        if slots.is_empty() {
            return None;
        }
        let end = start + slots.len();
        let sequence = &self.running[idx];
        Some(Chunk {
            key: sequence.key,
            positions: start..end,
            tokens: sequence.tokens[start..end].to_vec(),
            slots,
            spans: sequence.table.spans().to_vec(),
            n_samples: if end == sequence.tokens.len() { sequence.n_samples } else { 0 },
        })
    }

    /// Takes the next waiting sequence with at most `n_free` samples; its other samples keep
    /// waiting.
    fn admit(&mut self, n_free: usize) -> Option<Sequence> {
        if n_free == 0 {
            return None;
        }
        let mut sequence = self.waiting.pop()?;
        let n_samples = sequence.n_samples.min(u32::try_from(n_free).unwrap_or(u32::MAX));
        if n_samples < sequence.n_samples {
            let first_sample = sequence.first_sample + n_samples;
            let key = self.next_key();
            let n_left = sequence.n_samples - n_samples;
            self.waiting.push(sequence.of_samples(key, first_sample, n_left));
            sequence.n_samples = n_samples;
        }
        Some(sequence)
    }

    /// Preempts the sequence that came last: it waits again, with its generated tokens.
    fn preempt_last(&mut self) {
        if let Some(last) = self.running.len().checked_sub(1) {
            self.counts.preemptions += 1;
            self.requeue(last);
        }
    }

    /// Releases a running sequence's memory and puts it back into the queue. Where no sequence runs
    /// then, the prefix cache is in the way (short spans that no sequence shares) and is evicted.
    fn requeue(&mut self, idx: usize) {
        let sequence = self.release(idx);
        self.waiting.push(sequence);
        if self.running.is_empty() {
            self.memory.forget();
        }
    }

    fn take_expired(&mut self, now: Duration) -> Vec<Sequence> {
        let is_over = |sequence: &Sequence| sequence.deadline.is_some_and(|end| end <= now);
        let mut expired = self.waiting.remove(is_over);
        for idx in (0..self.running.len()).rev() {
            if is_over(&self.running[idx]) {
                expired.push(self.release(idx));
            }
        }
        expired
    }

    fn next_key(&mut self) -> SequenceKey {
        self.n_keys += 1;
        SequenceKey(self.n_keys)
    }
}

#[cfg(test)]
mod tests;
