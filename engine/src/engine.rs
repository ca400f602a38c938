//! Generation: requests in, finished samples out, in continuous batches.
//!
//! The engine is synchronous and single-threaded: the same calls in the same order give the same
//! samples. It knows nothing of threads, channels and sockets, or of what the tokens mean.

mod open_requests;
mod sample_end;
mod stop_search;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

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
use crate::scheduler::{Chunk, QueuedRequest, Scheduler, SchedulerLimits};
use crate::settings::{EngineConfig, SamplingParams};
use crate::tokenizer::Tokenizer;
use open_requests::OpenRequests;
pub use sample_end::{EndedSample, SampleEnd};

/// A model and its open requests.
pub struct Engine {
    runner: Runner,
    scheduler: Scheduler,
    requests: OpenRequests,
    /// Origin of the scheduler's clock.
    started: Instant,
    kv_tokens: usize,
    kv_bytes_per_token: usize,
}

impl Engine {
    /// Makes an engine around a loaded model, and allocates the memory for keys and values.
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
        if let Some(notice) = config.dtype.notice(model.device()) {
            // workers make engines alike: one line for all of them
            static TOLD: std::sync::Once = std::sync::Once::new();
            TOLD.call_once(|| tracing::warn!("{notice}."));
        }
        let tokenizer = tokenizer.with_template_date(&config.template_date)?;
        let tokenizer = Arc::new(tokenizer.with_template_kwargs(&config.chat_template_kwargs));
        let max_context = config.max_context_of(model.config());
        let (path, n_blocks) = capacity::path_and_blocks(&model, config, max_context)?;
        let runner = Runner::new(model, path, config, n_blocks)?;
        Ok(Self::around(runner, path, n_blocks, tokenizer, config))
    }

    /// Makes an engine around a runner with `n_blocks` blocks of keys and values.
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
        let end_tokens = sample_end::end_tokens(&tokenizer, model.config());
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
            scheduler: Scheduler::new(limits),
            requests: OpenRequests::new(tokenizer, end_tokens, max_context.min(kv_tokens)),
            started: Instant::now(),
            kv_tokens,
        }
    }

    /// Loads a model folder or GGUF file and makes an engine of it.
    ///
    /// # Errors
    /// As [`folder::open`] and [`Engine::new`]; [`Error::Device`] or [`Error::OutOfMemory`] where
    /// the device is missing or too small.
    pub fn open(path: &Path, config: &EngineConfig) -> Result<Self, Error> {
        let files = folder::open(path)?;
        let (device, precision) = capacity::choose(&files.config, config)?;
        let model = files.decoder(device, precision)?;
        Self::new(model, Arc::new(files.tokenizer), config)
    }

    /// Makes an engine with random weights in a model's shapes, for benchmarks. The folder needs a
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
    /// As [`Engine::submit`] and [`Engine::step`]; [`Error::BadRequest`] while requests wait or
    /// run.
    pub fn next_logits(&mut self, prompt: &[u32]) -> Result<Vec<f32>, Error> {
        if self.has_work() {
            return Err(Error::BadRequest(
                "the engine is busy; ask for logits when no request is open".to_owned(),
            ));
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
        // a GPU's rows are longer than the vocabulary
        let logits = logits?.f_narrow(-1, 0, self.model().config().vocab_size as i64)?;
        Ok(Vec::<f32>::try_from(logits.f_to_kind(Kind::Float)?.f_reshape([-1])?)?)
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.requests.tokenizer()
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
        self.requests.max_context()
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

    /// Refuses a text that surely does not fit into the context, before it is encoded.
    ///
    /// # Errors
    /// [`Error::PromptTooLarge`]
    pub fn check_size(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.max_context() - 1;
        match self.tokenizer().least_tokens(bytes) > limit {
            true => Err(Error::PromptTooLarge { bytes, limit }),
            false => Ok(()),
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::PromptTooLong`] where the prompt leaves no room for a
    /// token, [`Error::BadRequest`] for contradictory settings or tokens outside the vocabulary,
    /// [`Error::QueueFull`]. Other requests are not affected.
    pub fn submit(&mut self, request: Request) -> Result<(), Error> {
        request.params.validate()?;
        let prompt_tokens = request.prompt_token_ids.len();
        if prompt_tokens == 0 {
            return Err(Error::EmptyPrompt);
        }
        let max_context = self.max_context();
        if prompt_tokens >= max_context {
            return Err(Error::PromptTooLong { tokens: prompt_tokens, limit: max_context - 1 });
        }
        let vocab_size = self.model().config().vocab_size as u32;
        if let Some(id) = request.prompt_token_ids.iter().find(|&&id| id >= vocab_size) {
            return Err(Error::BadRequest(format!(
                "prompt token {id} is outside the model's vocabulary of {vocab_size}"
            )));
        }
        self.scheduler.push(QueuedRequest {
            request: self.requests.next_number(),
            prompt: request.prompt_token_ids,
            n_samples: request.params.n,
            priority: request.priority,
            deadline: request.timeout.map(|timeout| self.started.elapsed() + timeout),
        })?;
        self.requests.open(request.id, request.params, prompt_tokens);
        Ok(())
    }

    /// Cancels a request, waiting or running, without samples, and frees its memory at once.
    pub fn cancel(&mut self, id: RequestId) {
        for number in self.requests.cancel(id) {
            self.scheduler.cancel(number);
        }
    }

    /// Cancels all requests, waiting or running.
    pub fn clear(&mut self) {
        self.scheduler.clear();
        self.requests.clear();
    }

    /// Evicts all cached prompts that no running request uses. The last bits of later results then
    /// do not depend on earlier requests.
    pub fn forget_prefixes(&mut self) {
        self.scheduler.forget_prefixes();
    }

    /// Frees memory that the next weights make anew, where it is large: packed weights, and cached
    /// keys and values. What is sampled next needs [`Engine::publish`] first.
    ///
    /// # Errors
    /// [`Error::BadRequest`] while samples are running.
    pub fn release(&mut self) -> Result<(), Error> {
        if self.scheduler.is_running() {
            return Err(Error::BadRequest("samples are running; release between them".to_owned()));
        }
        self.scheduler.forget_prefixes();
        self.runner.release();
        Ok(())
    }

    /// Takes over the parameters of `weights` between two steps and evicts the prefix cache.
    /// Parameters that share the model's memory are not copied.
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
    /// [`Error::Tensor`] or [`Error::Device`] for a failure of libtorch, [`Error::NotFinite`] where
    /// the model's output is NaN. All requests are then cancelled.
    pub fn step(&mut self) -> Result<Vec<Sample>, Error> {
        let plan = self.scheduler.plan(self.started.elapsed());
        let mut samples: Vec<Sample> = Vec::new();
        for sequence in plan.expired {
            let first = sequence.first_sample;
            for index in first..first + sequence.n_samples {
                samples.extend(self.requests.finish(&sequence, index, FinishReason::Abort));
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

    /// Computes the chunks of one step and appends the sampled tokens. Returns the samples that
    /// ended.
    fn compute(&mut self, chunks: &[Chunk]) -> Result<Vec<Sample>, Error> {
        let now = Instant::now();
        for chunk in chunks {
            if let Some(sequence) = self.scheduler.running(chunk.key) {
                self.requests.mark_started(sequence.request, now);
            }
        }
        let logits = self.runner.forward(chunks)?;
        let mut keys = Vec::new();
        let mut draws = Vec::new();
        let sampled = chunks.iter().filter(|chunk| chunk.n_samples > 0);
        for (row, chunk) in sampled.enumerate() {
            for (index, key) in self.scheduler.split_samples(chunk.key) {
                let sequence = self.scheduler.running(key);
                let sequence = sequence.expect("a split sample is running. This is a bug.");
                draws.push(self.requests.row_sampling(sequence, index, row));
                keys.push(key);
            }
        }
        let drawn = self.runner.sample(&logits, &draws)?;
        let mut samples = Vec::new();
        for (key, drawn) in keys.into_iter().zip(drawn) {
            self.scheduler.append(key, drawn.token);
            if let Some(reason) = self.requests.append(key, drawn)
                && let Some(sequence) = self.scheduler.finish(key)
            {
                samples.extend(self.requests.finish(&sequence, sequence.first_sample, reason));
            }
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests;
