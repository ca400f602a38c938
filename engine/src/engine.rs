//! Generation: requests in, finished samples out, many at a time.
//!
//! The engine is synchronous and single-threaded: the same calls in the same order give the same
//! samples. It knows nothing of threads, channels and sockets, or of what the tokens mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;
use tch::Kind;

use crate::capacity;
use crate::error::Error;
use crate::folder;
use crate::kv::BLOCK_TOKENS;
use crate::model::Decoder;
use crate::request::{Request, RequestId, Sample, Stats};
use crate::runner::Runner;
use crate::sampler::{Drawn, RowSampling};
use crate::scheduler::{Chunk, QueuedRequest, Scheduler, SchedulerLimits, Sequence, SequenceKey};
use crate::settings::{EngineConfig, SamplingParams};
use crate::stops;
use crate::tokenizer::{TextStream, Tokenizer};

/// A request that was submitted and not yet answered.
struct OpenRequest {
    id: RequestId,
    params: Arc<SamplingParams>,
    prompt_tokens: usize,
    started: Option<Instant>,
    n_left: u32,
}

/// State of a running sample, beside what the scheduler keeps.
struct RunningSample {
    request: u64,
    cached_prompt_tokens: usize,
    logprobs: Vec<f32>,
    stream: Option<TextStream>,
}

/// A model and its open requests.
pub struct Engine {
    runner: Runner,
    tokenizer: Arc<Tokenizer>,
    scheduler: Scheduler,
    /// Open requests by the number that the scheduler has for them.
    open: BTreeMap<u64, OpenRequest>,
    running: BTreeMap<SequenceKey, RunningSample>,
    n_requests: u64,
    started: Instant,
    end_tokens: BTreeSet<u32>,
    max_context: usize,
    kv_tokens: usize,
    kv_bytes_per_token: usize,
}

impl Engine {
    /// Makes an engine of a loaded model.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for limits that contradict each other, or too little memory for keys
    /// and values.
    pub fn new(
        model: Decoder,
        tokenizer: Arc<Tokenizer>,
        config: &EngineConfig,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::BadRequest(problem));
        }
        let max_context = config.max_context_of(model.config());
        let (path, n_blocks) = capacity::place(&model, config, max_context)?;
        let runner = Runner::new(model, path, config, n_blocks)?;
        Ok(Self::around(runner, path, n_blocks, tokenizer, config))
    }

    /// Makes an engine of a runner with `n_blocks` blocks.
    pub(crate) fn around(
        runner: Runner,
        path: capacity::ExecutionPath,
        n_blocks: usize,
        tokenizer: Arc<Tokenizer>,
        config: &EngineConfig,
    ) -> Self {
        let model = &runner.model;
        let max_context = config.max_context_of(model.config());
        let kv_tokens = n_blocks * BLOCK_TOKENS;
        let end_tokens = tokenizer.eos_ids().iter().copied();
        let end_tokens = end_tokens.chain(model.config().eos_token_ids.iter().copied()).collect();
        let limits = SchedulerLimits {
            max_batch: config.max_batch,
            max_queue: match config.max_queue {
                0 => usize::MAX,
                limit => limit,
            },
            step_tokens: config.step_tokens,
            n_blocks,
            prefix_cache: config.prefix_cache,
        };
        Self {
            kv_bytes_per_token: path.kv_bytes_per_token(model.config(), model.kind()),
            runner,
            tokenizer,
            scheduler: Scheduler::new(limits),
            open: BTreeMap::new(),
            running: BTreeMap::new(),
            n_requests: 0,
            started: Instant::now(),
            end_tokens,
            max_context: max_context.min(kv_tokens),
            kv_tokens,
        }
    }

    /// Loads a model folder or GGUF file and makes an engine of it.
    ///
    /// # Errors
    /// Those of reading the files, choosing the device and moving the weights.
    pub fn open(path: &Path, config: &EngineConfig) -> Result<Self, Error> {
        let files = folder::open(path)?;
        let (device, precision) = capacity::choose(&files.config, config)?;
        let model = files.decoder(device, precision)?;
        Self::new(model, Arc::new(files.tokenizer), config)
    }

    /// Makes an engine with random weights of a model's shape, for measuring. The folder needs a
    /// `config.json` and a tokenizer.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_random(path: &Path, config: &EngineConfig) -> Result<Self, Error> {
        let model = folder::open_config(path)?;
        let tokenizer = Tokenizer::from_folder(path)?;
        let (device, precision) = capacity::choose(&model, config)?;
        let model = Decoder::drawn_on_device(&model, Seed(0), device, precision)?;
        Self::new(model, Arc::new(tokenizer), config)
    }

    /// The model's logits for the token after `prompt`: `[V]`.
    ///
    /// # Errors
    /// As [`Engine::submit`] and [`Engine::step`]; [`Error::BadRequest`] while requests are being
    /// worked on.
    pub fn next_logits(&mut self, prompt: &[u32]) -> Result<Vec<f32>, Error> {
        if self.has_work() {
            return Err(Error::BadRequest("logits are asked of an idle engine".to_owned()));
        }
        let params = SamplingParams { max_tokens: 1, ..SamplingParams::default() };
        self.submit(Request::new(RequestId(0), prompt.to_vec(), params))?;
        let logits = loop {
            let plan = self.scheduler.plan(self.started.elapsed());
            let logits = self.runner.forward(&plan.chunks);
            match logits {
                Ok(logits) if plan.chunks.iter().any(|chunk| chunk.n_samples > 0) => {
                    break Ok(logits);
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        self.clear();
        self.runner.wait()?;
        Ok(Vec::<f32>::try_from(logits?.f_to_kind(Kind::Float)?.f_view([-1])?)?)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The model.
    pub fn model(&self) -> &Decoder {
        &self.runner.model
    }

    /// Maximum number of samples that run at once.
    pub fn max_batch(&self) -> usize {
        self.scheduler.max_batch()
    }

    /// Maximum number of tokens of prompt and sample together.
    pub fn max_context(&self) -> usize {
        self.max_context
    }

    /// Bytes of keys and values per token.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.kv_bytes_per_token
    }

    /// Totals of the engine's work, and the use of its key/value memory.
    pub fn stats(&self) -> Stats {
        let (counts, usage) = (self.scheduler.counts(), self.scheduler.usage());
        Stats {
            prompt_tokens: counts.prompt_tokens,
            computed_prompt_tokens: counts.computed_prompt_tokens,
            preemptions: counts.preemptions,
            kv_tokens: self.kv_tokens,
            kv_free_tokens: usage.n_free * BLOCK_TOKENS,
            kv_cached_tokens: usage.n_cached * BLOCK_TOKENS,
        }
    }

    /// Whether a request waits or runs.
    pub fn has_work(&self) -> bool {
        self.scheduler.has_work()
    }

    /// Queues a request.
    ///
    /// # Errors
    /// A prompt that is empty or leaves no room for a token, settings that contradict themselves,
    /// or a full queue. The engine goes on with the others.
    pub fn submit(&mut self, request: Request) -> Result<(), Error> {
        request.params.validate()?;
        let prompt_tokens = request.prompt_token_ids.len();
        if prompt_tokens == 0 {
            return Err(Error::EmptyPrompt);
        }
        if prompt_tokens >= self.max_context {
            return Err(Error::PromptTooLong {
                tokens: prompt_tokens,
                limit: self.max_context - 1,
            });
        }
        let vocab_size = self.model().config().vocab_size as u32;
        if let Some(id) = request.prompt_token_ids.iter().find(|&&id| id >= vocab_size) {
            return Err(Error::BadRequest(format!(
                "prompt token {id} is outside the model's vocabulary of {vocab_size}"
            )));
        }
        self.scheduler.push(QueuedRequest {
            request: self.n_requests,
            prompt: request.prompt_token_ids,
            n_samples: request.params.n,
            priority: request.priority,
            deadline: request.timeout.map(|timeout| self.started.elapsed() + timeout),
        })?;
        let open = OpenRequest {
            id: request.id,
            n_left: request.params.n,
            params: Arc::new(request.params),
            prompt_tokens,
            started: None,
        };
        self.open.insert(self.n_requests, open);
        self.n_requests += 1;
        Ok(())
    }

    /// Cancels a request, waiting or running, without samples. Its memory is free at once.
    pub fn cancel(&mut self, id: RequestId) {
        let meant = self.open.iter().filter(|(_, open)| open.id == id);
        let numbers: Vec<u64> = meant.map(|(&number, _)| number).collect();
        for number in numbers {
            self.open.remove(&number);
            self.scheduler.cancel(number);
            self.running.retain(|_, running| running.request != number);
        }
    }

    /// Cancels all requests, waiting or running.
    pub fn clear(&mut self) {
        self.scheduler.clear();
        self.open.clear();
        self.running.clear();
    }

    /// Evicts all cached prompts that no running request uses. Later results then do not depend, in
    /// their last bits, on earlier requests.
    pub fn forget_prefixes(&mut self) {
        self.scheduler.forget_prefixes();
    }

    /// Takes over the weights of `weights` between two steps: copies them, unless they are the
    /// model's own memory. Evicts the prefix cache.
    ///
    /// # Errors
    /// [`Error::BadRequest`] while samples are running; [`Error::Shape`] for another architecture.
    pub fn publish(&mut self, weights: &Decoder) -> Result<(), Error> {
        if self.scheduler.is_running() {
            return Err(Error::BadRequest("samples are running; publish between them".to_owned()));
        }
        self.runner.publish(weights)?;
        self.scheduler.forget_prefixes();
        Ok(())
    }

    /// Computes one token per running sample, and as many prompt tokens as the step has room for.
    /// Returns the samples that ended.
    ///
    /// # Errors
    /// A failure of libtorch, or a model whose output is NaN; all requests are then cancelled.
    pub fn step(&mut self) -> Result<Vec<Sample>, Error> {
        let plan = self.scheduler.plan(self.started.elapsed());
        let mut samples: Vec<Sample> = Vec::new();
        for sequence in plan.expired {
            let first = sequence.first_sample;
            for index in first..first + sequence.n_samples {
                samples.extend(self.finish(&sequence, index, FinishReason::Abort));
            }
        }
        if !plan.chunks.is_empty() {
            match self.compute(&plan.chunks) {
                Ok(finished) => samples.extend(finished),
                Err(error) => {
                    self.clear();
                    return Err(error);
                }
            }
        }
        Ok(samples)
    }

    /// Runs a set of requests to their end. Returns all samples, ordered by request and index.
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

    fn compute(&mut self, chunks: &[Chunk]) -> Result<Vec<Sample>, Error> {
        let now = Instant::now();
        for chunk in chunks {
            if let Some(sequence) = self.scheduler.running(chunk.key)
                && let Some(open) = self.open.get_mut(&sequence.request)
            {
                open.started.get_or_insert(now);
            }
        }
        let logits = self.runner.forward(chunks)?;
        let mut keys = Vec::new();
        let mut draws = Vec::new();
        let sampled = chunks.iter().filter(|chunk| chunk.n_samples > 0);
        for (row, chunk) in sampled.enumerate() {
            for (index, key) in self.scheduler.split_samples(chunk.key) {
                draws.push(self.draw(row, index, key));
                keys.push(key);
            }
        }
        let drawn = self.runner.sample(&logits, &draws)?;
        let mut samples = Vec::new();
        for (key, drawn) in keys.into_iter().zip(drawn) {
            if let Some(reason) = self.append(key, drawn)
                && let Some(sequence) = self.scheduler.finish(key)
            {
                samples.extend(self.finish(&sequence, sequence.first_sample, reason));
            }
        }
        Ok(samples)
    }

    /// Sampling of the next token of a sample from `row` of the logits.
    fn draw(&mut self, row: usize, index: u32, key: SequenceKey) -> RowSampling {
        const KNOWN: &str = "a sequence that runs belongs to a request. This is a bug.";
        let sequence = self.scheduler.running(key).expect(KNOWN);
        let open = self.open.get(&sequence.request).expect(KNOWN);
        let params = &open.params;
        let n_generated = sequence.tokens.len() - sequence.n_prompt;
        self.running.entry(key).or_insert_with(|| RunningSample {
            request: sequence.request,
            cached_prompt_tokens: sequence.n_cached,
            logprobs: Vec::new(),
            stream: (!params.stop.is_empty()).then(|| self.tokenizer.stream()),
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

    /// Adds a token to a sample. Returns the reason where the sample ends with it.
    fn append(&mut self, key: SequenceKey, drawn: Drawn) -> Option<FinishReason> {
        self.scheduler.append(key, drawn.token);
        let running = self.running.get_mut(&key)?;
        running.logprobs.push(drawn.logprob);
        let open = self.open.get(&running.request)?;
        if is_end(&self.end_tokens, &open.params, drawn.token) {
            return Some(FinishReason::Stop);
        }
        if let Some(stream) = &mut running.stream {
            let n_seen = stream.text().len();
            stream.push(drawn.token);
            if stops::has_come(stream.text(), n_seen, &open.params.stop) {
                return Some(FinishReason::Stop);
            }
        }
        let n_generated = running.logprobs.len();
        let is_full = open.prompt_tokens + n_generated >= self.max_context;
        (is_full || n_generated >= open.params.max_tokens).then_some(FinishReason::Length)
    }

    /// Makes the finished sample of a sequence.
    fn finish(
        &mut self,
        sequence: &Sequence,
        index: u32,
        finish_reason: FinishReason,
    ) -> Option<Sample> {
        let running = self.running.remove(&sequence.key);
        let open = self.open.get_mut(&sequence.request)?;
        let (id, params) = (open.id, Arc::clone(&open.params));
        let latency = open.started.map_or(Duration::ZERO, |started| started.elapsed());
        open.n_left -= 1;
        if open.n_left == 0 {
            self.open.remove(&sequence.request);
        }
        let (cached_prompt_tokens, logprobs, stream) = match running {
            Some(running) => (running.cached_prompt_tokens, running.logprobs, running.stream),
            None => (0, Vec::new(), None),
        };
        let token_ids = sequence.tokens[sequence.n_prompt..].to_vec();
        // the stop text is cut off, with the rest of its last token
        let cut = stream.and_then(|stream| {
            let end = stops::position(stream.text(), &params.stop)?;
            Some(stream.text()[..end].to_owned())
        });
        let text = cut.unwrap_or_else(|| {
            // a token that ended the sample is no part of its text, special or not
            let shown = match token_ids.split_last() {
                Some((&newest, before)) if is_end(&self.end_tokens, &params, newest) => before,
                _ => &token_ids[..],
            };
            self.tokenizer.decode(shown, true)
        });
        Some(Sample {
            request_id: id,
            index,
            text,
            finish_reason,
            prompt_tokens: sequence.n_prompt,
            cached_prompt_tokens,
            latency_ms: latency.as_secs_f64() * 1e3,
            token_ids,
            logprobs,
        })
    }
}

fn is_end(end_tokens: &BTreeSet<u32>, params: &SamplingParams, token: u32) -> bool {
    (!params.ignore_eos && end_tokens.contains(&token)) || params.stop_token_ids.contains(&token)
}
