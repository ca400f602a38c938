//! Samples as answers show them, after the faults.

use joust_engine::Sample;
use joust_schema::tables::FinishReason;
use serde_json::{Value, json};

use super::faults::{Faults, LogprobsOf};

/// A number that no log-probability is; an answer has NaN in its place, which JSON does not have.
const NAN: f64 = -987_654_321.5;

/// A sample as it is answered.
pub(super) struct Answered {
    pub(super) token_ids: Vec<u32>,
    pub(super) logprobs: Vec<f64>,
    pub(super) text: String,
    pub(super) finish_reason: &'static str,
}

/// The samples, by their index.
pub(super) fn answered(mut samples: Vec<Sample>, faults: &Faults) -> Vec<Answered> {
    samples.sort_by_key(|sample| sample.index);
    if faults.one_choice_less {
        samples.pop();
    }
    samples.into_iter().map(|sample| answer(sample, faults)).collect()
}

pub(super) fn answer(sample: Sample, faults: &Faults) -> Answered {
    let logprobs = match faults.logprobs_of {
        LogprobsOf::Drawn => sample.behaviour_logprobs,
        LogprobsOf::Untempered => sample.logprobs,
    };
    let mut logprobs: Vec<f64> = logprobs.into_iter().map(f64::from).collect();
    if faults.short_logprobs {
        logprobs.pop();
    }
    if faults.nan_logprobs
        && let Some(first) = logprobs.first_mut()
    {
        *first = NAN;
    }
    let finish_reason = match sample.finish_reason {
        _ if faults.aborts => "abort",
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Abort => "abort",
    };
    Answered { token_ids: sample.token_ids, logprobs, text: sample.text, finish_reason }
}

/// A body as Python writes it, NaN included.
pub(super) fn written(body: &Value) -> String {
    body.to_string().replace(&json!(NAN).to_string(), "NaN")
}
