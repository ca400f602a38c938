//! Requests between their submission and their last finished sample: the tokens' log-probabilities
//! so far, the seed of each draw, and the conditions that end a sample.
//!
//! It knows neither the model nor which requests run; sequences are the scheduler's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;

use crate::request::{RequestId, Sample};
use crate::sampler::{Drawn, RowSampling};
use crate::scheduler::{Sequence, SequenceKey};
use crate::settings::SamplingParams;
use crate::tokenizer::Tokenizer;

use super::sample_end::sample_text;
use super::stop_search::StopSearch;

/// A submitted request with at least one unfinished sample.
struct OpenRequest {
    id: RequestId,
    params: Arc<SamplingParams>,
    prompt_tokens: usize,
    /// Time of the first step that computed one of its tokens.
    started: Option<Instant>,
    n_unfinished: u32,
}

/// Output of a running sample; its tokens are in the scheduler's sequence.
#[derive(Default)]
struct RunningSample {
    request: u64,
    cached_prompt_tokens: usize,
    /// One per generated token.
    logprobs: Vec<f32>,
    behaviour_logprobs: Vec<f32>,
    /// Search for stop strings, where there are some.
    search: Option<StopSearch>,
}

/// All open requests of an engine, by the number that the scheduler knows them by.
pub(super) struct OpenRequests {
    tokenizer: Arc<Tokenizer>,
    /// End tokens of the model and of its tokenizer.
    end_tokens: BTreeSet<u32>,
    /// Maximum number of tokens of prompt and sample together.
    max_context: usize,
    requests: BTreeMap<u64, OpenRequest>,
    samples: BTreeMap<SequenceKey, RunningSample>,
    n_submitted: u64,
}

impl OpenRequests {
    pub(super) fn new(
        tokenizer: Arc<Tokenizer>,
        end_tokens: BTreeSet<u32>,
        max_context: usize,
    ) -> Self {
        Self {
            tokenizer,
            end_tokens,
            max_context,
            requests: BTreeMap::new(),
            samples: BTreeMap::new(),
            n_submitted: 0,
        }
    }

    pub(super) fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Maximum number of tokens of prompt and sample together.
    pub(super) fn max_context(&self) -> usize {
        self.max_context
    }

    /// Number that the next opened request gets.
    pub(super) fn next_number(&self) -> u64 {
        self.n_submitted
    }

    /// Opens a request under [`OpenRequests::next_number`].
    pub(super) fn open(&mut self, id: RequestId, params: SamplingParams, prompt_tokens: usize) {
        let request = OpenRequest {
            id,
            n_unfinished: params.n,
            params: Arc::new(params),
            prompt_tokens,
            started: None,
        };
        self.requests.insert(self.n_submitted, request);
        self.n_submitted += 1;
    }

    /// Closes all requests with this id, without samples. Returns their numbers.
    pub(super) fn cancel(&mut self, id: RequestId) -> Vec<u64> {
        let cancelled = self.requests.iter().filter(|(_, request)| request.id == id);
        let numbers: Vec<u64> = cancelled.map(|(&number, _)| number).collect();
        for &number in &numbers {
            self.requests.remove(&number);
            self.samples.retain(|_, sample| sample.request != number);
        }
        numbers
    }

    /// Closes all requests without samples.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.samples.clear();
    }

    /// Starts the clock of a request's latency, unless it runs already.
    pub(super) fn mark_started(&mut self, number: u64, now: Instant) {
        if let Some(request) = self.requests.get_mut(&number) {
            request.started.get_or_insert(now);
        }
    }

    /// How to sample the next token of `sequence`, the request's sample `index`, from `row` of the
    /// logits.
    pub(super) fn row_sampling(
        &mut self,
        sequence: &Sequence,
        index: u32,
        row: usize,
    ) -> RowSampling {
        let request = self.requests.get(&sequence.request);
        let request = request.expect("a running sequence belongs to a request. This is a bug.");
        let params = &request.params;
        let n_generated = sequence.tokens.len() - sequence.n_prompt;
        self.samples.entry(sequence.key).or_insert_with(|| RunningSample {
            request: sequence.request,
            cached_prompt_tokens: sequence.n_cached,
            logprobs: Vec::new(),
            behaviour_logprobs: Vec::new(),
            search: StopSearch::new(&self.tokenizer, &params.stop),
        });
        let seed = Seed(params.seed).child("sample", u64::from(index));
        RowSampling {
            row,
            temperature: params.temperature,
            top_p: params.top_p,
            top_k: params.top_k,
            uniform: seed.child("position", n_generated as u64).unit(),
        }
    }

    /// Adds a token to a sample. Returns the reason if the token ends the sample.
    pub(super) fn append(&mut self, key: SequenceKey, drawn: Drawn) -> Option<FinishReason> {
        let sample = self.samples.get_mut(&key)?;
        sample.logprobs.push(drawn.logprob);
        sample.behaviour_logprobs.push(drawn.behaviour_logprob);
        let request = self.requests.get(&sample.request)?;
        if is_end_token(&self.end_tokens, &request.params, drawn.token) {
            return Some(FinishReason::Stop);
        }
        if sample.search.as_mut().is_some_and(|search| search.push(drawn.token)) {
            return Some(FinishReason::Stop);
        }
        let n_generated = sample.logprobs.len();
        let is_full = request.prompt_tokens + n_generated >= self.max_context;
        (is_full || n_generated >= request.params.max_tokens).then_some(FinishReason::Length)
    }

    /// Makes the finished sample of a sequence, and closes its request after the last sample.
    pub(super) fn finish(
        &mut self,
        sequence: &Sequence,
        index: u32,
        finish_reason: FinishReason,
    ) -> Option<Sample> {
        let sample = self.samples.remove(&sequence.key);
        let request = self.requests.get_mut(&sequence.request)?;
        let (id, params) = (request.id, Arc::clone(&request.params));
        let latency = request.started.map_or(Duration::ZERO, |started| started.elapsed());
        request.n_unfinished -= 1;
        if request.n_unfinished == 0 {
            self.requests.remove(&sequence.request);
        }
        let sample = sample.unwrap_or_default();
        let token_ids = sequence.tokens[sequence.n_prompt..].to_vec();
        Some(Sample {
            request_id: id,
            index,
            text: self.text(&token_ids, sample.search.as_ref(), &params),
            finish_reason,
            prompt_tokens: sequence.n_prompt,
            cached_prompt_tokens: sample.cached_prompt_tokens,
            latency_ms: latency.as_secs_f64() * 1e3,
            token_ids,
            logprobs: sample.logprobs,
            behaviour_logprobs: sample.behaviour_logprobs,
        })
    }

    fn text(
        &self,
        token_ids: &[u32],
        search: Option<&StopSearch>,
        params: &SamplingParams,
    ) -> String {
        let is_end = |token: u32| is_end_token(&self.end_tokens, params, token);
        sample_text(&self.tokenizer, token_ids, search, &is_end)
    }
}

fn is_end_token(end_tokens: &BTreeSet<u32>, params: &SamplingParams, token: u32) -> bool {
    (!params.ignore_eos && end_tokens.contains(&token)) || params.stop_token_ids.contains(&token)
}
