//! Generation: requests in, finished samples out, many at a time.
//!
//! The engine is synchronous and single-threaded: the same calls in the same order give the same
//! samples. Threads, channels and sockets are its users' business, and so is what the tokens mean.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::folder;
use crate::model::Decoder;
use crate::runner::Runner;
use crate::sampler::{self, Drawn, RowSampling};
use crate::scheduler::{Admission, Limits, Scheduler};
use crate::settings::{EngineConfig, SamplingParams};
use crate::tokenizer::{TextStream, Tokenizer};

/// Identifies a request among those of one engine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Chosen by the caller; samples carry it.
    pub id: RequestId,
    /// The prompt, special tokens included.
    pub prompt_token_ids: Vec<u32>,
    /// How to sample.
    pub params: SamplingParams,
}

/// A finished sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// Its index among the request's samples.
    pub index: u32,
    /// The sampled tokens, the stop token included where one ended the sample.
    pub token_ids: Vec<u32>,
    /// Log-probability of each sampled token under the untempered softmax over the whole
    /// vocabulary: `logprobs[t]` belongs to `token_ids[t]`.
    pub logprobs: Vec<f32>,
    /// The tokens as text, without special tokens and without the stop text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation was shared with another sample.
    pub cached_prompt_tokens: usize,
    /// From the first computation on the request to the end of the sample.
    pub latency_ms: f64,
}

/// A sample on its way.
struct Running {
    request_id: RequestId,
    index: u32,
    seed: Seed,
    params: Arc<SamplingParams>,
    prompt_tokens: usize,
    cached_prompt_tokens: usize,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    stream: Option<TextStream>,
    started: Instant,
}

impl Running {
    fn sampling(&self) -> RowSampling {
        RowSampling {
            temperature: self.params.temperature,
            top_p: self.params.top_p,
            top_k: self.params.top_k,
            uniform: self.seed.child("position", self.token_ids.len() as u64).unit(),
        }
    }

    /// Tokens of it that the key/value memory holds: all but the newest.
    fn stored_tokens(&self) -> usize {
        self.prompt_tokens + self.token_ids.len() - 1
    }
}

/// A model with the requests that it is working on.
pub struct Engine {
    runner: Runner,
    tokenizer: Arc<Tokenizer>,
    scheduler: Scheduler,
    running: Vec<Running>,
    end_tokens: BTreeSet<u32>,
    max_context: usize,
}

impl Engine {
    /// Puts an engine around a model that is loaded already.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where the limits make no sense.
    pub fn new(
        model: Decoder,
        tokenizer: Arc<Tokenizer>,
        config: &EngineConfig,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::BadRequest(problem));
        }
        let own_limit = model.config().max_position;
        let max_context = match config.max_context {
            0 => own_limit,
            limit => limit.min(own_limit),
        };
        let end_tokens = tokenizer.eos_ids().iter().copied();
        let end_tokens = end_tokens.chain(model.config().eos_token_ids.iter().copied()).collect();
        let limits = Limits {
            max_batch: config.max_batch,
            max_queue: config.max_queue,
            prefill_tokens: config.prefill_tokens,
        };
        Ok(Self {
            runner: Runner::new(model),
            tokenizer,
            scheduler: Scheduler::new(limits),
            running: Vec::new(),
            end_tokens,
            max_context,
        })
    }

    /// Loads a model folder or GGUF file and puts an engine around it.
    ///
    /// # Errors
    /// Whatever reading the files, choosing the device or moving the weights can give.
    pub fn open(path: &Path, config: &EngineConfig) -> Result<Self, Error> {
        let device = config.device.resolve()?;
        let kind = config.dtype.resolve(device);
        let files = folder::open(path)?;
        let model = Decoder::from_weights(&files.config, &files.weights, device, kind)?;
        Self::new(model, Arc::new(files.tokenizer), config)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The model.
    pub fn model(&self) -> &Decoder {
        &self.runner.model
    }

    /// Most tokens of prompt and sample together.
    pub fn max_context(&self) -> usize {
        self.max_context
    }

    /// Whether anything waits or runs.
    pub fn has_work(&self) -> bool {
        self.scheduler.has_waiting() || !self.running.is_empty()
    }

    /// Queues a request.
    ///
    /// # Errors
    /// A prompt that is empty or leaves no room for a token, settings that contradict themselves,
    /// or a full queue. The engine goes on with the others.
    pub fn submit(&mut self, request: Request) -> Result<(), Error> {
        request.params.validate()?;
        let n_tokens = request.prompt_token_ids.len();
        if n_tokens == 0 {
            return Err(Error::EmptyPrompt);
        }
        if n_tokens >= self.max_context {
            return Err(Error::PromptTooLong { tokens: n_tokens, limit: self.max_context - 1 });
        }
        let vocab_size = self.model().config().vocab_size as u32;
        if let Some(id) = request.prompt_token_ids.iter().find(|&&id| id >= vocab_size) {
            return Err(Error::BadRequest(format!(
                "prompt token {id} is outside the model's vocabulary of {vocab_size}"
            )));
        }
        self.scheduler.push(request)
    }

    /// Drops a request, waiting or running; its samples never come.
    pub fn cancel(&mut self, id: RequestId) {
        self.scheduler.cancel(id);
        while let Some(row) = self.running.iter().position(|running| running.request_id == id) {
            self.remove(row);
        }
    }

    /// Drops all requests, waiting or running.
    pub fn clear(&mut self) {
        self.scheduler.clear();
        self.running.clear();
    }

    /// Replaces the weights, between steps.
    ///
    /// # Errors
    /// [`Error::BadRequest`] while samples are running; [`Error::Shape`] for another architecture.
    pub fn publish(&mut self, weights: &Decoder) -> Result<(), Error> {
        if !self.running.is_empty() {
            return Err(Error::BadRequest("samples are running; publish between them".to_owned()));
        }
        self.runner.model.copy_from(weights)
    }

    /// Computes one prefill of newcomers or one token of every running sample, and returns the
    /// samples that ended with it.
    ///
    /// # Errors
    /// A failure of libtorch; the engine's state is undefined after it.
    pub fn step(&mut self) -> Result<Vec<Sample>, Error> {
        let admitted = self.scheduler.admit(self.running.len());
        let first_row = if admitted.is_empty() { 0 } else { self.running.len() };
        let logits = if admitted.is_empty() {
            if self.running.is_empty() {
                return Ok(Vec::new());
            }
            let newest = self.running.iter().map(|running| {
                *running.token_ids.last().expect("a running sample has a token. This is a bug.")
            });
            let tokens: Vec<u32> = newest.collect();
            let lengths: Vec<usize> = self.running.iter().map(Running::stored_tokens).collect();
            self.runner.decode(&tokens, &lengths)?
        } else {
            self.start(admitted)?
        };
        let rows: Vec<RowSampling> =
            self.running[first_row..].iter().map(Running::sampling).collect();
        let drawn = sampler::sample(&logits, &rows)?;
        let mut finished = Vec::new();
        for (row, drawn) in (first_row..).zip(&drawn) {
            if let Some(reason) = self.append(row, *drawn) {
                finished.push((row, reason));
            }
        }
        // from the back, so that the rows still to be removed keep their places
        let mut samples = Vec::with_capacity(finished.len());
        for (row, reason) in finished.into_iter().rev() {
            let running = self.remove(row);
            samples.push(self.finish(running, reason));
        }
        samples.reverse();
        Ok(samples)
    }

    /// Runs a set of requests to their end: all samples, ordered by request and index.
    ///
    /// # Errors
    /// As [`Engine::submit`] and [`Engine::step`].
    pub fn generate(&mut self, requests: Vec<Request>) -> Result<Vec<Sample>, Error> {
        for request in requests {
            self.submit(request)?;
        }
        let mut samples = Vec::new();
        while self.has_work() {
            samples.extend(self.step()?);
        }
        samples.sort_by_key(|sample| (sample.request_id, sample.index));
        Ok(samples)
    }

    fn start(&mut self, admitted: Vec<Admission>) -> Result<tch::Tensor, Error> {
        let started = Instant::now();
        let prompts: Vec<&[u32]> =
            admitted.iter().map(|admission| &admission.request.prompt_token_ids[..]).collect();
        let n_copies: Vec<usize> =
            admitted.iter().map(|admission| admission.n_samples as usize).collect();
        let logits = self.runner.prefill(&prompts, &n_copies, self.running.len())?;
        for Admission { request, first_sample, n_samples } in admitted {
            let prompt_tokens = request.prompt_token_ids.len();
            let params = Arc::new(request.params);
            for index in first_sample..first_sample + n_samples {
                let stream = (!params.stop.is_empty()).then(|| self.tokenizer.stream());
                self.running.push(Running {
                    request_id: request.id,
                    index,
                    seed: Seed(params.seed).child("sample", u64::from(index)),
                    params: Arc::clone(&params),
                    prompt_tokens,
                    cached_prompt_tokens: if index == first_sample { 0 } else { prompt_tokens },
                    token_ids: Vec::new(),
                    logprobs: Vec::new(),
                    stream,
                    started,
                });
            }
        }
        Ok(logits)
    }

    /// Adds a token to the sample in `row` and says whether it ends there.
    fn append(&mut self, row: usize, drawn: Drawn) -> Option<FinishReason> {
        let running = &mut self.running[row];
        running.token_ids.push(drawn.token);
        running.logprobs.push(drawn.logprob);
        let params = Arc::clone(&running.params);
        if self.is_end(&params, drawn.token) {
            return Some(FinishReason::Stop);
        }
        let running = &mut self.running[row];
        if let Some(stream) = &mut running.stream {
            stream.push(drawn.token);
            if stop_position(stream.text(), &params.stop).is_some() {
                return Some(FinishReason::Stop);
            }
        }
        let is_full = running.prompt_tokens + running.token_ids.len() >= self.max_context;
        (is_full || running.token_ids.len() >= params.max_tokens).then_some(FinishReason::Length)
    }

    fn is_end(&self, params: &SamplingParams, token: u32) -> bool {
        (!params.ignore_eos && self.end_tokens.contains(&token))
            || params.stop_token_ids.contains(&token)
    }

    /// Takes the sample out of `row`; the last row moves into its place.
    fn remove(&mut self, row: usize) -> Running {
        let last_row = self.running.len() - 1;
        let n_tokens = self.running[last_row].stored_tokens();
        self.runner.replace_row(row, last_row, n_tokens);
        self.running.swap_remove(row)
    }

    fn finish(&self, running: Running, finish_reason: FinishReason) -> Sample {
        let text = match &running.stream {
            // the stop text is cut off, and what came with it in the same token
            Some(stream) => stop_position(stream.text(), &running.params.stop)
                .map(|end| stream.text()[..end].to_owned()),
            None => None,
        };
        let text = text.unwrap_or_else(|| {
            // a token that ended the sample is no part of its text, special or not
            let (newest, before) = running.token_ids.split_last().unwrap_or((&0, &[]));
            let ended = self.is_end(&running.params, *newest);
            self.tokenizer.decode(if ended { before } else { &running.token_ids }, true)
        });
        Sample {
            request_id: running.request_id,
            index: running.index,
            text,
            finish_reason,
            prompt_tokens: running.prompt_tokens,
            cached_prompt_tokens: running.cached_prompt_tokens,
            latency_ms: running.started.elapsed().as_secs_f64() * 1e3,
            token_ids: running.token_ids,
            logprobs: running.logprobs,
        }
    }
}

/// Where the first of the stop texts begins.
fn stop_position(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}
