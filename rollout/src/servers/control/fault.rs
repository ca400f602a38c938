//! What is wrong with a policy server: which one, what was seen, and the remedy.

use std::path::PathBuf;

/// A policy server that cannot be sampled from, or whose numbers are not those of the policy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerFault {
    /// No server holds the newest weights.
    #[error("no server has taken the policy's weights in {waited_s:.0} s; {reasons}")]
    NoServer {
        /// Time for which one was waited for.
        waited_s: f64,
        /// Reason of each server.
        reasons: String,
    },
    /// A server does not answer at the start of a run.
    #[error("{reason}; waited {waited_s:.0} s (rollout.servers.outage_s)")]
    NotUp {
        /// The last failure, with the address.
        reason: String,
        /// Time for which it was waited for.
        waited_s: f64,
    },
    /// A server has no routes to change its weights.
    #[error(
        "{reason}: it takes no weights; start vLLM with VLLM_SERVER_DEV_MODE=1, on a private \
         network, and SGLang without an admin key of its own"
    )]
    NoControl {
        /// The answer, with the address.
        reason: String,
    },
    /// A server does not have the model of the config.
    #[error("{server}: it serves {seen}, wanted rollout.servers.model = {wanted:?}")]
    UnknownModel {
        /// Address.
        server: String,
        /// Names of its models.
        seen: String,
        /// The configured name.
        wanted: String,
    },
    /// A server would cut long prompts and completions off.
    #[error(
        "{server}: its maximum context is {seen} tokens, wanted at least {wanted}: start it with a \
         longer one (vLLM: --max-model-len {wanted}), or lower rollout.engine.max_context"
    )]
    ShortContext {
        /// Address.
        server: String,
        /// Its maximum number of tokens.
        seen: usize,
        /// The policy's.
        wanted: usize,
    },
    /// A server fails at new weights.
    #[error("{reason}: the server has not taken the policy's weights; see its log, and restart it")]
    NotUpdated {
        /// The last failure, with the address.
        reason: String,
    },
    /// A server has taken weights, and does not say so.
    #[error(
        "{server}: it calls its weights {seen:?} after they were named {wanted:?}: does another \
         program give it weights?"
    )]
    OtherLabel {
        /// Address.
        server: String,
        /// What it calls its weights.
        seen: String,
        /// What it was told to call them.
        wanted: String,
    },
    /// A server computes with the weights that it held before.
    #[error(
        "{server}: after new weights from {} it computes with those before (log-probabilities \
         differ by {seen:.2e} per token from the new ones, by {before:.2e} from the old ones): the \
         server must see the same folder under this path; set rollout.servers.weights_dir to a \
         shared disk, or rollout.servers.weights_dir_on_server", folder.display()
    )]
    OldWeights {
        /// Address.
        server: String,
        /// The folder as the server was told.
        folder: PathBuf,
        /// Mean difference from the new weights, per token.
        seen: f64,
        /// Mean difference from the old weights, per token.
        before: f64,
    },
    /// A server has new weights, and its output head is the old one.
    #[error(
        "{server}: after new weights its output head is still the old one, as of vLLM on CPUs with \
         tied embeddings; start it with the model at {}, whose head is a tensor of its own",
        folder.display()
    )]
    OldHead {
        /// Address.
        server: String,
        /// A folder with an untied copy of the policy.
        folder: PathBuf,
    },
    /// A server has taken some of the weights.
    #[error(
        "{server}: after new weights from {} its log-probabilities are neither those of the new \
         nor of the old ones (differences of {seen:.2e} and {before:.2e} per token, {allowed:.2e} \
         allowed): some tensors have not arrived; restart it with this folder as its model",
        folder.display()
    )]
    PartialWeights {
        /// Address.
        server: String,
        /// The folder as the server was told.
        folder: PathBuf,
        /// Mean difference from the new weights, per token.
        seen: f64,
        /// Mean difference from the old weights, per token.
        before: f64,
        /// Maximum difference.
        allowed: f64,
    },
    /// A server continues known prompts with keys and values of old weights.
    #[error(
        "{server}: it continues a prompt that it knew before with keys and values of the old \
         weights (log-probabilities differ by {seen:.2e} per token): its cache of prefixes was not \
         emptied; start vLLM with --no-enable-prefix-caching, SGLang with --disable-radix-cache"
    )]
    StalePrefixes {
        /// Address.
        server: String,
        /// Mean difference, per token.
        seen: f64,
    },
    /// A server answers with log-probabilities of another distribution than it draws from.
    #[error(
        "{server}: its log-probabilities are those before temperature, top_p and top_k, and \
         training needs those of the distribution that tokens are drawn from: start vLLM with \
         --logprobs-mode processed_logprobs"
    )]
    UntemperedLogprobs {
        /// Address.
        server: String,
    },
    /// A server's numbers are not those of the policy.
    #[error(
        "{server}: with version {version} of the policy its log-probabilities differ by {seen:.2e} \
         per token from the trainer's, {allowed:.2e} are allowed \
         (rollout.servers.max_logprob_difference): it computes with other weights, or too coarsely"
    )]
    Difference {
        /// Address.
        server: String,
        /// The version.
        version: i64,
        /// Mean difference, per token.
        seen: f64,
        /// Maximum difference.
        allowed: f64,
    },
    /// A server takes weights and does not follow them.
    #[error(
        "{server}: of what the policy has changed since version {since}, {:.0} % are seen at the \
         server with version {version}: updates of its weights get lost", share * 100.0
    )]
    LostUpdates {
        /// Address.
        server: String,
        /// The version that is compared with.
        since: i64,
        /// The version.
        version: i64,
        /// Share of the change that is seen.
        share: f64,
    },
    /// A server's answer is none.
    #[error("{0}")]
    BadAnswer(String),
}
