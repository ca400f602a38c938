//! A judge that is a reasoning reward model in this process: renders the prompt, samples a thought,
//! reads the verdict.
//!
//! It does not know how tokens are computed.

use std::collections::BTreeMap;

use joust_engine::tokenizer::Tokenizer;
use joust_engine::{Engine, Request, RequestId, Sample, SamplingParams};
use joust_schema::prompt::Message;
use joust_schema::tables::FinishReason;

use super::chat::{ChatId, ChatModel, ChatOutcome, ChatReply, ChatRequest};
use super::interface::Judge;
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::config::judge::{EngineJudgeConfig, JudgeConfig};
use crate::error::Error;
use crate::{prompt, verdict};

/// Maximum number of engine steps in one [`Judge::poll`] while no sample ends. A count and not a
/// time, which would make the composition of batches depend on the machine's load.
const MAX_STEPS_PER_POLL: usize = 8;

/// A judge around an engine in this process.
pub struct EngineJudge {
    engine: Engine,
    name: String,
    params: SamplingParams,
    in_flight: InFlight,
    /// Votes that the engine refused, until the next poll.
    refused: Vec<VoteOutcome>,
    /// Conversations that finished since they were last taken.
    finished_chats: Vec<ChatOutcome>,
}

/// The vote or conversation that an engine request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Vote(VoteId),
    Chat(ChatId),
}

/// Requests that the engine works on.
#[derive(Default)]
struct InFlight {
    purposes: BTreeMap<RequestId, Purpose>,
    request_ids: BTreeMap<Purpose, RequestId>,
    n_requests: u64,
}

impl InFlight {
    fn next_id(&self) -> RequestId {
        RequestId(self.n_requests)
    }

    fn insert(&mut self, purpose: Purpose) {
        let id = self.next_id();
        self.n_requests += 1;
        self.purposes.insert(id, purpose);
        self.request_ids.insert(purpose, id);
    }

    fn remove(&mut self, id: RequestId) -> Option<Purpose> {
        let purpose = self.purposes.remove(&id)?;
        self.request_ids.remove(&purpose);
        Some(purpose)
    }

    /// Removes all requests, and returns what they were for in the order of their submission.
    fn take_all(&mut self) -> impl Iterator<Item = Purpose> + use<> {
        self.request_ids.clear();
        std::mem::take(&mut self.purposes).into_values()
    }
}

impl EngineJudge {
    /// Loads the judge's model.
    ///
    /// # Errors
    /// [`Error::Model`] for wrong files; [`Error::Config`] if the model has no chat template.
    pub fn open(model: &EngineJudgeConfig, config: &JudgeConfig) -> Result<Self, Error> {
        let key = "reward.judge.model";
        let engine = Engine::open(&model.model, &model.engine)
            .map_err(|source| Error::Model { key, source })?;
        let name = model.model.file_stem().unwrap_or_default().to_string_lossy();
        Self::new(engine, &name, config)
    }

    /// A judge around a loaded engine.
    ///
    /// # Errors
    /// [`Error::Config`] if the model has no chat template.
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
            in_flight: InFlight::default(),
            refused: Vec::new(),
            finished_chats: Vec::new(),
        })
    }

    /// Counters of the engine.
    pub fn stats(&self) -> joust_engine::Stats {
        self.engine.stats()
    }

    /// The judge's prompt for a vote.
    ///
    /// # Errors
    /// If the texts are too long for the context by their size alone, or the chat template or the
    /// tokenizer refuses them.
    pub fn prompt_token_ids(&self, request: &VoteRequest) -> Result<Vec<u32>, joust_engine::Error> {
        let tokenizer = self.engine.tokenizer();
        let texts = [&request.question, &request.answer_first, &request.answer_second];
        // strangers write texts of any size, which no template shortens but by the blanks around
        self.engine.check_size(texts.iter().map(|text| text.trim().len()).sum())?;
        // control tokens in a policy's text are read as text
        let [question, first, second] = texts.map(|text| tokenizer.mark_controls(text));
        let messages = prompt::messages(&question, &first, &second);
        // the template writes the only BOS
        let text = tokenizer.render_chat(&messages, true)?;
        tokenizer.encode_marked(&text)
    }

    /// Submits a request with its prompt, the result of [`EngineJudge::prompt_token_ids`].
    pub(super) fn submit_prompt(
        &mut self,
        request: &VoteRequest,
        prompt: Result<Vec<u32>, joust_engine::Error>,
    ) {
        let params = SamplingParams { seed: request.seed.0, ..self.params.clone() };
        let submitted = prompt
            .and_then(|prompt| self.submit_to_engine(Purpose::Vote(request.id), prompt, params));
        if let Err(error) = submitted {
            self.refused.push((request.id, Err(JudgeError::Refused(error.to_string()))));
        }
    }

    fn submit_to_engine(
        &mut self,
        purpose: Purpose,
        prompt: Vec<u32>,
        params: SamplingParams,
    ) -> Result<(), joust_engine::Error> {
        self.engine.submit(Request::new(self.in_flight.next_id(), prompt, params))?;
        self.in_flight.insert(purpose);
        Ok(())
    }

    fn cancel_request(&mut self, purpose: Purpose) {
        if let Some(&id) = self.in_flight.request_ids.get(&purpose) {
            self.in_flight.remove(id);
            self.engine.cancel(id);
        }
    }

    /// Computes one step and returns the votes that ended with it.
    fn step(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = Vec::new();
        match self.engine.step() {
            Ok(samples) => {
                for sample in samples {
                    match self.in_flight.remove(sample.request_id) {
                        Some(Purpose::Vote(id)) => outcomes.push((id, Ok(vote_reply(sample)))),
                        Some(Purpose::Chat(id)) => {
                            self.finished_chats.push((id, Ok(chat_reply(sample))));
                        }
                        None => {}
                    }
                }
            }
            Err(error) => {
                let error = JudgeError::Failed(error.to_string());
                self.engine.clear();
                for purpose in self.in_flight.take_all() {
                    match purpose {
                        Purpose::Vote(id) => outcomes.push((id, Err(error.clone()))),
                        Purpose::Chat(id) => self.finished_chats.push((id, Err(error.clone()))),
                    }
                }
            }
        }
        outcomes
    }
}

impl Judge for EngineJudge {
    fn name(&self) -> &str {
        &self.name
    }

    fn capacity(&self) -> usize {
        self.engine.max_batch()
    }

    fn submit(&mut self, request: VoteRequest) {
        let prompt = self.prompt_token_ids(&request);
        self.submit_prompt(&request, prompt);
    }

    fn cancel(&mut self, id: VoteId) {
        self.refused.retain(|(refused, _)| *refused != id);
        self.cancel_request(Purpose::Vote(id));
    }

    fn is_batch_dependent(&self) -> bool {
        true
    }

    fn clear_caches(&mut self) {
        self.engine.forget_prefixes();
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let mut outcomes = std::mem::take(&mut self.refused);
        let mut n_steps = 0;
        // a poll ends before a long thought does, so that new groups do not wait for it
        while outcomes.is_empty()
            && self.finished_chats.is_empty()
            && self.engine.has_work()
            && n_steps < MAX_STEPS_PER_POLL
        {
            n_steps += 1;
            outcomes.extend(self.step());
        }
        outcomes
    }

    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        Some(self)
    }
}

impl ChatModel for EngineJudge {
    fn submit_chat(&mut self, id: ChatId, request: ChatRequest) -> Result<(), JudgeError> {
        let tokenizer = self.engine.tokenizer();
        let marked = |message: Message| message.map_texts(|text| tokenizer.mark_controls(text));
        let messages: Vec<Message> = request.messages.into_iter().map(marked).collect();
        let params = SamplingParams {
            max_tokens: request.max_tokens.unwrap_or(self.params.max_tokens),
            temperature: request.temperature.unwrap_or(self.params.temperature),
            top_p: request.top_p.unwrap_or(self.params.top_p),
            stop: request.stop,
            seed: request.seed.0,
            ..self.params.clone()
        };
        let prompt = tokenizer.render_chat(&messages, true).and_then(|text| {
            self.engine.check_size(Tokenizer::marked_bytes(&text))?;
            tokenizer.encode_marked(&text)
        });
        prompt
            .and_then(|prompt| self.submit_to_engine(Purpose::Chat(id), prompt, params))
            .map_err(|error| JudgeError::Refused(error.to_string()))
    }

    fn cancel_chat(&mut self, id: ChatId) {
        self.cancel_request(Purpose::Chat(id));
    }

    fn take_finished_chats(&mut self) -> Vec<ChatOutcome> {
        std::mem::take(&mut self.finished_chats)
    }
}

fn vote_reply(sample: Sample) -> VoteReply {
    VoteReply {
        verdict: verdict::parse(&sample.text),
        is_swapped: false,
        prompt_tokens: sample.prompt_tokens,
        cached_prompt_tokens: sample.cached_prompt_tokens,
        completion_tokens: sample.token_ids.len(),
        latency_ms: sample.latency_ms,
        is_cut_off: sample.finish_reason == FinishReason::Length,
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
