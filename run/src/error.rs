//! Failures of a run, named by what the caller can do about them.

use std::path::{Path, PathBuf};

use crate::counted::counted;

/// A failure of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mistake in the user's config, files or folders.
    #[error("{0}")]
    Input(String),
    /// The run's folder is no longer the one that this process began to write.
    #[error(
        "{}: this folder was deleted or replaced while the run wrote it; the run ends here",
        dir.display()
    )]
    Lost {
        /// The folder.
        dir: PathBuf,
    },
    /// Too few completions of a step got a reward. Nothing was learned from the step.
    #[error(
        "step {step}: {n_failed} of {n_judged} judged completions have no reward, more than \
         reward.max_failed = {max_failed} allows: {reason}; mend it and go on with --resume, which \
         repeats the step"
    )]
    TooManyFailures {
        /// The step.
        step: u64,
        /// Number of completions without a reward.
        n_failed: usize,
        /// Number of completions that needed a judgement.
        n_judged: usize,
        /// The configured share.
        max_failed: f64,
        /// Why the first of them has none.
        reason: String,
    },
    /// A part of the reward failed for too many completions of a step. Nothing was learned from the
    /// step.
    #[error(
        "step {step}: part `{part}` of the reward failed for {n_failed} of {n_asked} completions, \
         more than reward.max_failed = {max_failed} allows: {reason}; {mend}"
    )]
    TooManyPartFailures {
        /// The step.
        step: u64,
        /// Name of the part.
        part: String,
        /// Number of completions for which it failed.
        n_failed: usize,
        /// Number of completions that it was asked for.
        n_asked: usize,
        /// The configured share.
        max_failed: f64,
        /// Why it failed first.
        reason: String,
        /// How the run goes on.
        mend: &'static str,
    },
    /// Too many votes of a step have no reply. Nothing was learned from the step.
    #[error(
        "step {step}: {n_lost} of {n_asked} votes have no reply of the judge, more than \
         reward.max_failed = {max_failed} allows, so that the rewards made of the others may be \
         wrong: {reason}; mend it and go on with --resume, which repeats the step"
    )]
    TooManyLostVotes {
        /// The step.
        step: u64,
        /// Number of votes without a reply.
        n_lost: usize,
        /// Number of votes that were asked for.
        n_asked: usize,
        /// The configured share.
        max_failed: f64,
        /// Why the first of them has none.
        reason: String,
    },
    /// No completion of a step ended by itself, truncated ones are left out of the loss, and
    /// nothing was learned before.
    #[error(
        "step {step}: all {n_completions} completions reached rollout.max_completion_length = \
         {max_tokens}, and trainer.mask_truncated_completions leaves them out of the loss: nothing \
         has been learned so far; allow more tokens, or learn from truncated completions too, and \
         go on with --resume"
    )]
    AllTruncated {
        /// The step.
        step: u64,
        /// Number of completions.
        n_completions: usize,
        /// The configured length.
        max_tokens: usize,
    },
    /// The whole run made no update, so that its model is not exported.
    #[error(
        "no update was made in {}: the rewards of completions in the loss never differed within a \
         group{reason};{} look at the completions and rewards in {}",
        counted(*steps, "step"),
        if *is_exported { " the model is not exported;" } else { "" },
        dir.display()
    )]
    NothingLearned {
        /// Number of steps.
        steps: u64,
        /// What the last step looked like, in brackets; empty if this start made none.
        reason: String,
        /// Whether the config names a folder for the model.
        is_exported: bool,
        /// The run's folder.
        dir: PathBuf,
    },
    /// The checkpoint that the run would go on from cannot be read.
    #[error("checkpoint {} cannot be used: {source}; {}", path.display(), advice(older.as_deref()))]
    BadCheckpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The newest checkpoint before it.
        older: Option<PathBuf>,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A failure of this rank alone. The others end with it.
    #[error("rank {rank}: {source}")]
    OfRank {
        /// This rank.
        rank: usize,
        /// What it failed with.
        source: Box<Error>,
    },
    /// A failure that all ranks have at the same time, for the same reason.
    #[error("{0}")]
    OfAllRanks(Box<Error>),
    /// A config cannot be written as TOML.
    #[error("config: {0}")]
    Config(#[from] toml::ser::Error),
    /// Prompts or rollouts.
    #[error(transparent)]
    Rollout(#[from] joust_rollout::Error),
    /// Judging.
    #[error(transparent)]
    Reward(#[from] joust_reward::Error),
    /// The other ranks of the run.
    #[error(transparent)]
    Ranks(#[from] joust_dist::Error),
    /// Training or checkpoints.
    #[error(transparent)]
    Trainer(#[from] joust_trainer::Error),
    /// The model or its files.
    #[error(transparent)]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
}

/// How a run goes on without its newest checkpoint.
fn advice(older: Option<&Path>) -> String {
    match older {
        Some(older) => {
            format!("delete that folder, and --resume goes on from {}", older.display())
        }
        None => "there is no older one; start over with --clean".to_owned(),
    }
}

impl Error {
    /// What keeps this rank from the others, or what another one has told it.
    fn of_other_ranks(&self) -> Option<&joust_dist::Error> {
        match self {
            Self::Ranks(error) | Self::Trainer(joust_trainer::Error::Ranks(error)) => Some(error),
            Self::Reward(joust_reward::Error::Pool(error)) => error.downcast_ref(),
            _ => None,
        }
    }

    /// Whether the other ranks know of the failure, or cannot be told.
    pub(crate) fn is_known_to_ranks(&self) -> bool {
        matches!(self, Self::OfRank { .. } | Self::OfAllRanks(_)) || self.of_other_ranks().is_some()
    }

    /// Whether all ranks are there after the failure, so that they can save the state together.
    pub(crate) fn leaves_ranks(&self) -> bool {
        let of_other_ranks = self.of_other_ranks();
        of_other_ranks.is_none_or(|it| matches!(it, joust_dist::Error::RankFailed { .. }))
    }

    /// An error in a file that a config key names: with the key, unless the machine has failed.
    pub(crate) fn in_file_of(key: &str, error: joust_schema::Error) -> Self {
        use std::io::ErrorKind;
        const OF_USERS: [ErrorKind; 4] = [
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::IsADirectory,
            ErrorKind::NotADirectory,
        ];
        match &error {
            joust_schema::Error::Io { source, .. } if !OF_USERS.contains(&source.kind()) => {
                error.into()
            }
            _ => Self::input(format!("{key}: {error}")),
        }
    }

    /// An error in a file of prompts that a config key names: with the key.
    pub(crate) fn in_prompts_of(key: &str, error: joust_rollout::Error) -> Self {
        match error {
            joust_rollout::Error::Schema(error) => Self::in_file_of(key, error),
            error @ joust_rollout::Error::Prompts { .. } => Self::input(format!("{key}: {error}")),
            error => error.into(),
        }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}
