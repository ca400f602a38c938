//! The check of an answer: choices that are completions of the policy, or a reason why not.
//!
//! A wrong answer is never mended: no token, number or completion is made up. It does not know how
//! a kind of server is spoken to.

use joust_engine::SamplingParams;
use joust_fleet::BadAnswer;
use joust_schema::tables::FinishReason;

use super::policy::ServedPolicy;
use crate::sampling::group_job::SampledCompletion;

/// Largest log-probability that rounding can give.
const MAX_LOGPROB: f64 = 1e-3;

/// An answer as a kind of server writes it.
pub(super) struct Answered {
    pub(super) choices: Vec<GivenChoice>,
    /// What the server calls its weights, if its answers say so.
    pub(super) label: Option<String>,
}

/// A completion as a server gives it.
#[derive(Clone, Debug)]
pub(super) struct GivenChoice {
    pub(super) prompt: Echo,
    pub(super) token_ids: Vec<u32>,
    pub(super) logprobs: Vec<f64>,
    pub(super) finish_reason: String,
}

/// The prompt as an answer repeats it.
#[derive(Clone, Debug)]
pub(super) enum Echo {
    /// All of its tokens.
    TokenIds(Vec<u32>),
    /// Their number.
    NTokens(usize),
}

/// What an answer has to be.
pub(super) struct Expected<'a> {
    pub(super) prompt_token_ids: &'a [u32],
    pub(super) params: &'a SamplingParams,
    pub(super) n_choices: usize,
    pub(super) policy: &'a ServedPolicy,
}

impl Expected<'_> {
    /// The completions, in the order of the choices.
    ///
    /// # Errors
    /// [`BadAnswer::Defect`] with the first thing that is wrong.
    pub(super) fn completions(
        &self,
        choices: Vec<GivenChoice>,
    ) -> Result<Vec<SampledCompletion>, BadAnswer> {
        let (n_given, n_wanted) = (choices.len(), self.n_choices);
        if n_given != n_wanted {
            let reason = format!("the answer has {n_given} choices, wanted {n_wanted}");
            return Err(BadAnswer::Defect(reason));
        }
        let completion = |(idx, choice): (usize, GivenChoice)| {
            let named = |reason| BadAnswer::Defect(format!("choice {idx} {reason}"));
            self.completion(choice).map_err(named)
        };
        choices.into_iter().enumerate().map(completion).collect()
    }

    fn completion(&self, choice: GivenChoice) -> Result<SampledCompletion, String> {
        self.check(&choice)?;
        let GivenChoice { mut token_ids, logprobs, finish_reason, .. } = choice;
        let ended = self.policy.end.find(&token_ids);
        let (n_given, max_tokens) = (token_ids.len(), self.params.max_tokens);
        let finish_reason = match ended.is_ended {
            true => FinishReason::Stop,
            false if n_given == max_tokens => FinishReason::Length,
            false if finish_reason == "stop" => {
                let last = token_ids.last().copied().unwrap_or_default();
                return Err(format!(
                    "ended by itself with token {last}, which is no end token of the policy, and \
                     its text has no text of rollout.stop: the server's model has other end tokens"
                ));
            }
            false => {
                return Err(format!(
                    "was cut off after {n_given} tokens, wanted up to {max_tokens}: serve with a \
                     longer context (--max-model-len, --context-length)"
                ));
            }
        };
        // what a server adds after the end was not to be sampled
        token_ids.truncate(ended.n_tokens);
        let given: Vec<f32> =
            logprobs.iter().take(ended.n_tokens).map(|&logprob| logprob as f32).collect();
        let (logprobs, behaviour_logprobs) = self.columns(given);
        Ok(SampledCompletion {
            token_ids,
            logprobs,
            behaviour_logprobs: Some(behaviour_logprobs),
            text: ended.text,
            finish_reason,
        })
    }

    fn check(&self, choice: &GivenChoice) -> Result<(), String> {
        let GivenChoice { prompt, token_ids, logprobs, finish_reason } = choice;
        match prompt {
            Echo::TokenIds(ids) if *ids == self.prompt_token_ids => {}
            Echo::NTokens(n) if *n == self.prompt_token_ids.len() => {}
            _ => return Err("continues another prompt than the one that was sent".to_owned()),
        }
        if !["stop", "length"].contains(&&**finish_reason) {
            return Err(format!("ended by {finish_reason:?}, wanted \"stop\" or \"length\""));
        }
        let (n_tokens, n_logprobs) = (token_ids.len(), logprobs.len());
        if n_tokens == 0 || n_tokens > self.params.max_tokens {
            let max = self.params.max_tokens;
            return Err(format!("has {n_tokens} tokens, wanted 1 to {max}"));
        }
        if n_tokens != n_logprobs {
            return Err(format!("has {n_logprobs} log-probabilities for {n_tokens} tokens"));
        }
        let vocab_size = self.policy.vocab_size;
        if let Some(id) = token_ids.iter().find(|id| **id as usize >= vocab_size) {
            return Err(format!("has token {id}, outside the policy's vocabulary of {vocab_size}"));
        }
        let is_logprob = |logprob: f64| logprob.is_finite() && logprob <= MAX_LOGPROB;
        match logprobs.iter().find(|logprob| !is_logprob(**logprob)) {
            Some(logprob) => Err(format!("has the log-probability {logprob}")),
            None => Ok(()),
        }
    }

    /// The columns `completion_logprobs` and `behaviour_logprobs` of what a server gave. Without a
    /// temperature or a filter both are the same; with them a server tells the second alone, as
    /// the start of a run has checked.
    fn columns(&self, given: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let unknown = vec![f32::NAN; given.len()];
        match self.params.temperature {
            0.0 => (unknown, vec![0.0; given.len()]),
            1.0 if !is_filtered(self.params) => (given.clone(), given),
            _ => (unknown, given),
        }
    }
}

/// Whether tokens are left out of the distribution that is drawn from.
fn is_filtered(params: &SamplingParams) -> bool {
    params.top_p < 1.0 || params.top_k > 0
}
