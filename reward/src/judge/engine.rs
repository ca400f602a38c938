//! A reasoning reward model in this process: renders the prompt, samples a thought, reads the
//! verdict.

use std::collections::BTreeSet;
use std::path::Path;

use joust_engine::{Engine, EngineConfig, Request, RequestId, Sample, SamplingParams};
use joust_schema::prompt::Message;
use joust_schema::tables::FinishReason;

use super::{
    ChatOutcome, ChatReply, ChatRequest, Judge, JudgeError, VoteId, VoteOutcome, VoteReply,
    VoteRequest,
};
use crate::config::JudgeConfig;
use crate::error::Error;
use crate::{prompt, verdict};

/// Steps that [`Judge::poll`] works on thoughts none of which ends: a number, for a time would make what is
/// computed together depend on the machine's mood.
const TURN: usize = 8;

/// The judge around an engine.
pub struct EngineJudge {
    engine: Engine,
    name: String,
    params: SamplingParams,
    in_flight: Vec<VoteId>,
    /// Requests that could not be served, until the next poll.
    refused: Vec<VoteOutcome>,
    /// Conversations that are under way, and those that are finished.
    chats_in_flight: BTreeSet<VoteId>,
    chats: Vec<ChatOutcome>,
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
                shared_attention: config.shared_attention,
                fetch_ahead_mib: config.fetch_ahead_mib,
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
        Ok(Self {
            engine,
            name: format!("{name} prompt:{}", prompt::template_hash()),
            params: SamplingParams {
                max_tokens: config.max_thinking_tokens,
                temperature: config.temperature,
                top_p: config.top_p,
                ..SamplingParams::default()
            },
            in_flight: Vec::new(),
            refused: Vec::new(),
            chats_in_flight: BTreeSet::new(),
            chats: Vec::new(),
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
        self.chats_in_flight.remove(&id);
    }

    fn forget(&mut self) {
        self.engine.forget_prefixes();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = std::mem::take(&mut self.refused);
        let mut n_steps = 0;
        // others are let in between, so that a new group need not wait for the end of a thought
        while outcomes.is_empty()
            && self.chats.is_empty()
            && self.engine.has_work()
            && n_steps < TURN
        {
            n_steps += 1;
            match self.engine.step() {
                Ok(samples) => {
                    for sample in samples {
                        let id = VoteId(sample.request_id.0);
                        match self.chats_in_flight.remove(&id) {
                            true => self.chats.push((id, Ok(chat_reply(sample)))),
                            false => outcomes.push((id, Ok(vote_reply(sample)))),
                        }
                    }
                }
                Err(error) => {
                    let error = JudgeError::Failed(error.to_string());
                    self.engine.clear();
                    outcomes.extend(self.in_flight.iter().map(|&id| (id, Err(error.clone()))));
                    let chats = std::mem::take(&mut self.chats_in_flight);
                    self.chats.extend(chats.into_iter().map(|id| (id, Err(error.clone()))));
                }
            }
        }
        self.in_flight.retain(|id| !outcomes.iter().any(|(finished, _)| finished == id));
        outcomes
    }

    fn chat(&mut self, id: VoteId, request: ChatRequest) -> Result<(), JudgeError> {
        let tokenizer = self.engine.tokenizer();
        let disarmed =
            |message: Message| Message::new(message.role, tokenizer.disarm(&message.content));
        let messages: Vec<Message> = request.messages.into_iter().map(disarmed).collect();
        let params = SamplingParams {
            max_tokens: request.max_tokens.unwrap_or(self.params.max_tokens),
            temperature: request.temperature.unwrap_or(self.params.temperature),
            top_p: request.top_p.unwrap_or(self.params.top_p),
            stop: request.stop,
            seed: request.seed.0,
            ..self.params.clone()
        };
        let prompt =
            tokenizer.render_chat(&messages, true).and_then(|text| tokenizer.encode(&text));
        let taken = prompt
            .and_then(|prompt| self.engine.submit(Request::new(RequestId(id.0), prompt, params)));
        taken.map_err(|error| JudgeError::Refused(error.to_string()))?;
        self.chats_in_flight.insert(id);
        Ok(())
    }

    fn chats(&mut self) -> Vec<ChatOutcome> {
        std::mem::take(&mut self.chats)
    }
}

fn vote_reply(sample: Sample) -> VoteReply {
    VoteReply {
        verdict: verdict::parse(&sample.text),
        prompt_tokens: sample.prompt_tokens,
        cached_prompt_tokens: sample.cached_prompt_tokens,
        completion_tokens: sample.token_ids.len(),
        latency_ms: sample.latency_ms,
        text: sample.text,
    }
}

fn chat_reply(sample: Sample) -> ChatReply {
    ChatReply {
        prompt_tokens: sample.prompt_tokens,
        completion_tokens: sample.token_ids.len(),
        is_whole: sample.finish_reason == FinishReason::Stop,
        text: sample.text,
    }
}
