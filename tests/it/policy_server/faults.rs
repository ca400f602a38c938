//! What a policy server does wrong.

use std::path::PathBuf;
use std::time::Duration;

/// Which log-probabilities of sampled tokens it answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum LogprobsOf {
    /// Of the distribution that the tokens were drawn from: `--logprobs-mode processed_logprobs`.
    #[default]
    Drawn,
    /// Of the untempered distribution: vLLM's default.
    Untempered,
}

/// Faults; none by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// It dies at the sampling call after so many.
    pub(crate) dies_after_calls: Option<u64>,
    /// Number of the next reloads that are answered with 500. What is sampled after one, before a
    /// good reload, ends the server.
    pub(crate) failing_reloads: u32,
    /// Its head stays as it was.
    pub(crate) keeps_old_head: bool,
    /// It forgets no prefix, whatever it answers: prompts that it knows are continued with the
    /// weights that it first saw them with.
    pub(crate) keeps_prefixes: bool,
    /// A tensor whose name contains this stays as it was.
    pub(crate) missing_tensor: Option<String>,
    /// It reads this folder in place of the one that is named.
    pub(crate) other_folder: Option<PathBuf>,
    /// The label of its weights stays.
    pub(crate) keeps_label: bool,
    /// One choice less than was asked for.
    pub(crate) one_choice_less: bool,
    /// One log-probability less than there are tokens.
    pub(crate) short_logprobs: bool,
    /// The first log-probability is NaN.
    pub(crate) nan_logprobs: bool,
    /// All samples are ended as aborted.
    pub(crate) aborts: bool,
    /// The routes of the control plane answer with this status: there is no development mode.
    pub(crate) control_status: Option<u16>,
    /// Maximum context that it tells; none: the model's.
    pub(crate) max_model_len: Option<usize>,
    /// Time that a pause takes.
    pub(crate) slow_pause: Duration,
    /// Which log-probabilities it answers with.
    pub(crate) logprobs_of: LogprobsOf,
}
