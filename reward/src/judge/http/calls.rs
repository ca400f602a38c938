//! Votes and conversations as calls of a fleet.
//!
//! It does not know the judge's interface: it reports the end of each call over a channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use joust_fleet::{BadAnswer, Call, CallError, Exhausted, Finished, Fleet};
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::ChatCompletion;
use super::shared::WantedVotes;
use super::thoughts::ThoughtWatch;
use super::wire::{ChatBody, TokenLimit, disarmed, vote_messages};
use crate::config::judge::{HttpJudgeConfig, JudgeConfig, SentThought, TokenLimitName};
use crate::judge::chat::{ChatOutcome, ChatReply, ChatRequest};
use crate::judge::interface::JudgeServers;
use crate::judge::vote::{JudgeError, VoteOutcome, VoteReply, VoteRequest};

/// Report of a call to the judge.
pub(super) enum CallReport {
    /// A vote is over.
    VoteOver(VoteOutcome),
    /// The server gave fewer choices than votes: request this vote alone, after this number of
    /// attempts.
    AskAlone(VoteRequest, u32),
    /// A conversation is over.
    ChatOver(ChatOutcome),
}

/// The model and its sampling, as every call names them.
struct CalledModel {
    name: String,
    temperature: f64,
    top_p: f64,
    max_tokens: usize,
    limit_name: TokenLimitName,
    thought: SentThought,
    extra: Map<String, Value>,
}

/// The fleet and the settings that all calls share.
pub(super) struct JudgeCalls {
    fleet: Fleet,
    model: CalledModel,
    /// Per server: whether the warning about fewer choices than asked for was logged.
    has_warned: Vec<AtomicBool>,
    /// Per server: whether the warning about a thought that was cut off early was logged.
    has_warned_of_context: Vec<AtomicBool>,
    thoughts: ThoughtWatch,
}

impl JudgeServers for JudgeCalls {
    fn n_servers(&self) -> usize {
        self.fleet.n_servers()
    }

    fn n_resting(&self) -> usize {
        self.fleet.n_resting()
    }
}

impl JudgeCalls {
    pub(super) fn new(fleet: Fleet, http: &HttpJudgeConfig, config: &JudgeConfig) -> Self {
        let unset = || (0..fleet.n_servers()).map(|_| AtomicBool::new(false)).collect();
        let (has_warned, has_warned_of_context) = (unset(), unset());
        let model = CalledModel {
            name: http.model.clone(),
            temperature: config.temperature,
            top_p: config.top_p,
            max_tokens: config.max_thinking_tokens,
            limit_name: http.max_tokens_field,
            thought: http.thought,
            extra: http.extra_body.clone(),
        };
        let thoughts = ThoughtWatch::default();
        Self { fleet, model, has_warned, has_warned_of_context, thoughts }
    }

    /// Makes a call for votes with the same prompt, after `n_tried` attempts, and reports on each
    /// vote that is still wanted at its end.
    pub(super) async fn ask_votes(
        &self,
        votes: Vec<VoteRequest>,
        n_tried: u32,
        wanted: &WantedVotes,
        reports: &Sender<CallReport>,
    ) {
        // if the judge is gone, its reports are not needed
        let report = |report| drop(reports.send(report));
        let mut call = VoteCall { model: &self.model, wanted, votes };
        let outcome = self.fleet.call(&mut call, n_tried).await;
        let mut votes = call.votes;
        let (left, error) = match outcome {
            Ok(Finished { reply: replies, server, attempt }) => {
                let (n_given, n_wanted) = (replies.len(), votes.len());
                self.warn_of_missing_choices(server, n_given, n_wanted);
                self.warn_of_short_context(server, &replies);
                self.warn_of_missing_thoughts(server, &replies);
                let left = votes.split_off(n_given);
                for (vote, reply) in votes.into_iter().zip(replies) {
                    report(CallReport::VoteOver((vote.id, Ok(reply))));
                }
                if attempt + 1 < self.fleet.config().tries {
                    for vote in left {
                        report(CallReport::AskAlone(vote, attempt + 1));
                    }
                    return;
                }
                let tries = self.fleet.config().tries;
                let reason = format!("{tries} calls; {n_given} choices for {n_wanted} votes");
                (left, JudgeError::Failed(format!("no vote after {reason}")))
            }
            Err(CallError::Refused(reason)) => (votes, JudgeError::Refused(reason)),
            Err(CallError::Rejected(reason)) => (votes, JudgeError::Failed(reason)),
            Err(CallError::Exhausted(failed)) => (votes, no_reply("vote", &failed)),
            Err(CallError::Unwanted) => return,
        };
        for vote in left {
            report(CallReport::VoteOver((vote.id, Err(error.clone()))));
        }
    }

    /// Makes a call for a conversation.
    pub(super) async fn ask_chat(&self, request: ChatRequest) -> Result<ChatReply, JudgeError> {
        let mut call = ChatCall { model: &self.model, request };
        let outcome = self.fleet.call(&mut call, 0).await;
        outcome.map(|finished| finished.reply).map_err(|error| match error {
            CallError::Refused(reason) => JudgeError::Refused(reason),
            CallError::Exhausted(failed) => no_reply("answer", &failed),
            error @ (CallError::Rejected(_) | CallError::Unwanted) => {
                JudgeError::Failed(error.to_string())
            }
        })
    }

    /// Logs once per server that it cuts thoughts off before `judge.max_thinking_tokens`: vLLM does
    /// so without an error where prompt and thought together exceed its context.
    fn warn_of_short_context(&self, server: usize, replies: &[VoteReply]) {
        let max = self.model.max_tokens;
        let is_early =
            |reply: &&VoteReply| reply.is_cut_off && (1..max).contains(&reply.completion_tokens);
        // a shared call gives estimated numbers
        let early = replies.iter().find(is_early).filter(|_| replies.len() == 1);
        if let Some(VoteReply { prompt_tokens, completion_tokens, .. }) = early
            && !self.has_warned_of_context[server].swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                url = self.fleet.config().urls[server],
                prompt_tokens,
                completion_tokens,
                max_thinking_tokens = max,
                "A server cut a thought off before the limit: its context is full. Such votes are \
                 counted as cut off. Serve with a longer context (vLLM: --max-model-len)."
            );
        }
    }

    /// Logs once that answers have no thought, so that none is a vote.
    fn warn_of_missing_thoughts(&self, server: usize, replies: &[VoteReply]) {
        if self.thoughts.is_news(replies) {
            let said = replies.last().map_or("", |reply| &reply.text);
            let said: String = said.chars().take(200).collect();
            tracing::warn!(
                url = self.fleet.config().urls[server],
                said,
                "The last {} votes ended by themselves and have no thought (`</think>`), so that \
                 they count as invalid. For a model that does not think, or a server that sends \
                 no thoughts, set judge.thought = \"none\".",
                ThoughtWatch::N_IN_ROW
            );
        }
    }

    /// Logs once per server that it gives fewer choices than it is asked for.
    fn warn_of_missing_choices(&self, server: usize, n_given: usize, n_wanted: usize) {
        if n_given < n_wanted && !self.has_warned[server].swap(true, Ordering::Relaxed) {
            tracing::warn!(
                url = self.fleet.config().urls[server],
                n_wanted,
                n_given,
                "A server gives fewer choices than it is asked for; each missing vote is asked for \
                 alone. judge.samples_per_call = 1 avoids the wait."
            );
        }
    }
}

/// A failure after all attempts.
fn no_reply(wanted: &str, failed: &Exhausted) -> JudgeError {
    JudgeError::Failed(format!("no {wanted} after {failed}"))
}

/// A call for votes that all have the prompt of the first.
struct VoteCall<'a> {
    model: &'a CalledModel,
    wanted: &'a WantedVotes,
    votes: Vec<VoteRequest>,
}

impl Call for VoteCall<'_> {
    /// In the order of the votes; at least one, and at most as many as votes.
    type Reply = Vec<VoteReply>;

    fn n_slots(&self) -> usize {
        self.votes.len()
    }

    /// Leaves out votes that are no longer wanted.
    fn body(&mut self) -> Option<impl Serialize> {
        self.votes.retain(|vote| self.wanted.contains(vote.id));
        let first = self.votes.first()?;
        let n = (self.votes.len() > 1).then_some(self.votes.len());
        let body = plain_body(self.model, vote_messages(first).to_vec(), self.seed());
        Some(ChatBody { n, ..body })
    }

    fn read(&mut self, answer: Value, latency: Duration) -> Result<Vec<VoteReply>, BadAnswer> {
        let answer = ChatCompletion::read(&answer)?;
        let latency_ms = latency.as_secs_f64() * 1e3;
        Ok(answer.into_replies(self.votes.len(), latency_ms, self.model.thought))
    }

    fn seed(&self) -> Seed {
        seed_of(&self.votes)
    }
}

/// A call for the answer to a conversation.
struct ChatCall<'a> {
    model: &'a CalledModel,
    request: ChatRequest,
}

impl Call for ChatCall<'_> {
    type Reply = ChatReply;

    fn n_slots(&self) -> usize {
        1
    }

    fn body(&mut self) -> Option<impl Serialize> {
        let request = &self.request;
        let turn = |said: &Message| said.clone().map_texts(disarmed);
        let messages = request.messages.iter().map(turn).collect();
        Some(ChatBody {
            temperature: request.temperature.unwrap_or(self.model.temperature),
            top_p: request.top_p.unwrap_or(self.model.top_p),
            limit: limit(self.model, request.max_tokens.unwrap_or(self.model.max_tokens)),
            stop: request.stop.clone(),
            ..plain_body(self.model, messages, request.seed)
        })
    }

    fn read(&mut self, answer: Value, _latency: Duration) -> Result<ChatReply, BadAnswer> {
        ChatCompletion::read(&answer)?.into_chat_reply()
    }

    fn seed(&self) -> Seed {
        self.request.seed
    }
}

/// A body with the judge's own sampling settings.
fn plain_body(model: &CalledModel, messages: Vec<Message>, seed: Seed) -> ChatBody<'_> {
    ChatBody {
        model: &model.name,
        messages,
        temperature: model.temperature,
        top_p: model.top_p,
        limit: limit(model, model.max_tokens),
        // servers refuse negative seeds
        seed: (seed.0 >> 1) as i64,
        stop: Vec::new(),
        n: None,
        extra: &model.extra,
    }
}

fn limit(model: &CalledModel, n_tokens: usize) -> TokenLimit {
    match model.limit_name {
        TokenLimitName::MaxTokens => TokenLimit::MaxTokens(n_tokens),
        TokenLimitName::MaxCompletionTokens => TokenLimit::MaxCompletionTokens(n_tokens),
    }
}

/// Seed of a call's draws: that of its vote, or of all its votes together.
fn seed_of(votes: &[VoteRequest]) -> Seed {
    let seeds = votes.iter().map(|vote| vote.seed);
    seeds.reduce(|seed, vote| seed.child("beside", vote.0)).unwrap_or(Seed(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::judge::vote::VoteId;

    #[test]
    fn vote_call_has_the_seed_of_its_vote_or_one_of_all_its_votes() {
        let vote = |seed| VoteRequest {
            id: VoteId(seed),
            match_id: joust_schema::ids::MatchId("g/1-0-1".to_owned()),
            pair: crate::judge::ShownPair::new("g", 0, 1),
            vote: 0,
            attempt: 0,
            question: String::new(),
            answer_first: String::new(),
            answer_second: String::new(),
            reference: None,
            seed: Seed(seed),
        };
        assert_eq!(seed_of(&[vote(7)]), Seed(7));
        let calls = [vec![vote(7), vote(8)], vec![vote(8), vote(7)], vec![vote(7), vote(9)]];
        let seeds: BTreeSet<u64> = calls.iter().map(|votes| seed_of(votes).0).collect();
        assert_eq!(seeds.len(), 3);
    }
}
