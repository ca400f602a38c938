//! Votes and conversations as calls of a fleet.
//!
//! It does not know the judge's interface: it reports the end of each call over a channel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;
use joust_fleet::{Call, CallError, Finished, Fleet};
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use serde::Serialize;

use super::shared::WantedVotes;
use super::wire::{ChatBody, ChatCompletion, disarmed, vote_messages};
use crate::config::judge::JudgeConfig;
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
}

/// The fleet and the settings that all calls share.
pub(super) struct JudgeCalls {
    fleet: Fleet,
    model: CalledModel,
    /// Per server: whether the warning about fewer choices than asked for was logged.
    has_warned: Vec<AtomicBool>,
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
    pub(super) fn new(fleet: Fleet, model: &str, config: &JudgeConfig) -> Self {
        let has_warned = (0..fleet.n_servers()).map(|_| AtomicBool::new(false)).collect();
        let model = CalledModel {
            name: model.to_owned(),
            temperature: config.temperature,
            top_p: config.top_p,
            max_tokens: config.max_thinking_tokens,
        };
        Self { fleet, model, has_warned }
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
                (left, self.no_vote(&format!("{n_given} choices for {n_wanted} votes")))
            }
            Err(CallError::Refused(reason)) => (votes, JudgeError::Refused(reason)),
            Err(CallError::Rejected(reason)) => (votes, JudgeError::Failed(reason)),
            Err(CallError::Exhausted(last)) => (votes, self.no_vote(&last)),
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
            CallError::Exhausted(last) => {
                let tries = self.fleet.config().tries;
                JudgeError::Failed(format!("no answer after {tries} tries; last: {last}"))
            }
            error @ (CallError::Rejected(_) | CallError::Unwanted) => {
                JudgeError::Failed(error.to_string())
            }
        })
    }

    fn no_vote(&self, last: &str) -> JudgeError {
        let tries = self.fleet.config().tries;
        JudgeError::Failed(format!("no vote after {tries} tries; last: {last}"))
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

/// A call for votes that all have the prompt of the first.
struct VoteCall<'a> {
    model: &'a CalledModel,
    wanted: &'a WantedVotes,
    votes: Vec<VoteRequest>,
}

impl Call for VoteCall<'_> {
    type Answer = ChatCompletion;
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

    fn read(
        &mut self,
        answer: ChatCompletion,
        latency: Duration,
    ) -> Result<Vec<VoteReply>, String> {
        let replies = answer.into_replies(self.votes.len(), latency.as_secs_f64() * 1e3);
        match replies.is_empty() {
            true => Err("no choices".to_owned()),
            false => Ok(replies),
        }
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
    type Answer = ChatCompletion;
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
            max_tokens: request.max_tokens.unwrap_or(self.model.max_tokens),
            stop: request.stop.clone(),
            ..plain_body(self.model, messages, request.seed)
        })
    }

    fn read(&mut self, answer: ChatCompletion, _latency: Duration) -> Result<ChatReply, String> {
        answer.into_chat_reply().ok_or_else(|| "no choices".to_owned())
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
        max_tokens: model.max_tokens,
        // servers refuse negative seeds
        seed: (seed.0 >> 1) as i64,
        stop: Vec::new(),
        n: None,
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
