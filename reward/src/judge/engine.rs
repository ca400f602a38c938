//! A reasoning reward model in this process: renders the prompt, samples a thought, reads the
//! verdict.

use std::path::Path;

use joust_engine::{Engine, EngineConfig, Request, RequestId, Sample, SamplingParams};

use super::{Judge, JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::config::JudgeConfig;
use crate::error::Error;
use crate::{prompt, verdict};

/// The judge around an engine.
pub struct EngineJudge {
    engine: Engine,
    name: String,
    params: SamplingParams,
    in_flight: Vec<VoteId>,
    /// Requests that could not be served, until the next poll.
    refused: Vec<VoteOutcome>,
}

impl EngineJudge {
    /// Loads the judge's model.
    ///
    /// # Errors
    /// [`Error::Engine`] for what is wrong with its files; [`Error::Config`] where it has no chat
    /// template.
    pub fn open(path: &Path, config: &JudgeConfig) -> Result<Self, Error> {
        let engine = Engine::open(
            path,
            &EngineConfig {
                max_batch: config.max_batch,
                max_context: config.max_context,
                dtype: config.dtype,
                quantization: config.quantization,
                device: config.device,
                max_queue: usize::MAX,
                step_tokens: config.step_tokens,
                kv_memory_mib: config.kv_memory_mib,
                prefix_cache: config.prefix_cache,
                kv_dtype: config.kv_dtype,
                gpu_kernels: config.gpu_kernels,
                cuda_graphs: config.cuda_graphs,
            },
        )?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(engine, &name, config)
    }

    /// Takes an engine that is loaded already.
    ///
    /// # Errors
    /// [`Error::Config`] where the model has no chat template.
    pub fn new(engine: Engine, name: &str, config: &JudgeConfig) -> Result<Self, Error> {
        if !engine.tokenizer().has_chat_template() {
            return Err(Error::Config(format!("judge {name} has no chat template")));
        }
        let template = prompt::messages("{question}", "{answer_first}", "{answer_second}");
        let template = template.map(|message| message.content).concat();
        let hash = &blake3::hash(template.as_bytes()).to_hex()[..8];
        Ok(Self {
            engine,
            name: format!("{name} prompt:{hash}"),
            params: SamplingParams {
                max_tokens: config.max_thinking_tokens,
                temperature: config.temperature,
                top_p: config.top_p,
                ..SamplingParams::default()
            },
            in_flight: Vec::new(),
            refused: Vec::new(),
        })
    }

    /// What the engine has done.
    pub fn stats(&self) -> joust_engine::Stats {
        self.engine.stats()
    }

    /// The prompt that a vote is asked with.
    ///
    /// # Errors
    /// What the chat template or the tokenizer refuses.
    pub fn prompt_token_ids(&self, request: &VoteRequest) -> Result<Vec<u32>, joust_engine::Error> {
        let tokenizer = self.engine.tokenizer();
        // a policy that spells out the judge's control tokens must not take its turn
        let [question, first, second] =
            [&request.question, &request.answer_first, &request.answer_second]
                .map(|text| tokenizer.disarm(text));
        let messages = prompt::messages(&question, &first, &second);
        // the template writes the one BOS
        let text = tokenizer.render_chat(&messages, true)?;
        tokenizer.encode(&text)
    }

    /// Takes a request whose prompt is made already, by [`EngineJudge::prompt_token_ids`].
    pub(super) fn submit_prompt(
        &mut self,
        request: &VoteRequest,
        prompt: Result<Vec<u32>, joust_engine::Error>,
    ) {
        let params = SamplingParams { seed: request.seed.0, ..self.params.clone() };
        let id = RequestId(request.id.0);
        let taken = prompt.and_then(|prompt| self.engine.submit(Request::new(id, prompt, params)));
        match taken {
            Ok(()) => self.in_flight.push(request.id),
            Err(error) => {
                self.refused.push((request.id, Err(JudgeError::Refused(error.to_string()))));
            }
        }
    }
}

impl Judge for EngineJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn submit(&mut self, request: VoteRequest) {
        let prompt = self.prompt_token_ids(&request);
        self.submit_prompt(&request, prompt);
    }

    fn cancel(&mut self, id: VoteId) {
        self.engine.cancel(RequestId(id.0));
        self.in_flight.retain(|in_flight| *in_flight != id);
    }

    fn forget(&mut self) {
        self.engine.forget_prefixes();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = std::mem::take(&mut self.refused);
        while outcomes.is_empty() && self.engine.has_work() {
            match self.engine.step() {
                Ok(samples) => outcomes.extend(samples.into_iter().map(outcome)),
                Err(error) => {
                    let error = JudgeError::Failed(error.to_string());
                    self.engine.clear();
                    outcomes.extend(self.in_flight.iter().map(|&id| (id, Err(error.clone()))));
                }
            }
        }
        self.in_flight.retain(|id| !outcomes.iter().any(|(finished, _)| finished == id));
        outcomes
    }
}

fn outcome(sample: Sample) -> VoteOutcome {
    let reply = VoteReply {
        verdict: verdict::parse(&sample.text),
        prompt_tokens: sample.prompt_tokens,
        cached_prompt_tokens: sample.cached_prompt_tokens,
        completion_tokens: sample.token_ids.len(),
        latency_ms: sample.latency_ms,
        text: sample.text,
    };
    (VoteId(sample.request_id.0), Ok(reply))
}
