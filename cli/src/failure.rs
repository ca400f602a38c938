//! Exit codes and messages of failed commands: 2 for errors that the user can correct, 1 for
//! failures.
//!
//! Knows no command.

use std::process::ExitCode;

use crate::process::is_first_rank;

/// An error in the user's input: a config, a file, an argument.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UserError(String);

impl UserError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The end of a command that a signal has asked to stop. It is no error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stopped {
    pub(crate) message: String,
    /// Number of the signal.
    pub(crate) signal: i32,
}

/// What is told of the end of a command, in one line; empty where another process of the run tells
/// it.
pub(crate) fn last_words(error: &anyhow::Error) -> String {
    if is_common(error) && !is_first_rank() {
        return String::new();
    }
    match error.is::<Stopped>() {
        true => error.to_string(),
        false => format!("error: {}", one_line(error)),
    }
}

/// Whether all processes of a run have failed in the same way.
fn is_common(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(joust_run::Error::OfAllRanks(_)))
}

/// The message of an error, in one line.
fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        // some libraries repeat the text of a cause in their own text
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

/// 2 for errors that the user can correct, 1 for failures, 128 and the signal after a signal.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return ExitCode::from(128u8.saturating_add(stopped.signal as u8));
    }
    ExitCode::from(if error.chain().any(is_users) { 2 } else { 1 })
}

fn is_users(cause: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(error) = cause.downcast_ref() {
        return is_users_engine(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return is_users_schema(error);
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return is_users_io(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return is_users_rollout(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return is_users_reward(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return is_users_trainer(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return is_users_run(error);
    }
    cause.is::<UserError>()
}

fn is_users_run(error: &joust_run::Error) -> bool {
    use joust_run::Error;
    match error {
        Error::Input(_) | Error::Ranks(joust_dist::Error::Variable { .. }) => true,
        Error::Rollout(error) => is_users_rollout(error),
        Error::Reward(error) => is_users_reward(error),
        Error::Trainer(error) => is_users_trainer(error),
        Error::Engine(error) => is_users_engine(error),
        Error::Schema(error) => is_users_schema(error),
        Error::BadCheckpoint { source, .. } | Error::OfRank { source, .. } => is_users_run(source),
        Error::OfAllRanks(error) => is_users_run(error),
        _ => false,
    }
}

fn is_users_rollout(error: &joust_rollout::Error) -> bool {
    use joust_rollout::Error;
    match error {
        Error::Engine(error) => is_users_engine(error),
        Error::Schema(error) => is_users_schema(error),
        Error::Prompts { .. } | Error::Config(_) => true,
        _ => false,
    }
}

fn is_users_reward(error: &joust_reward::Error) -> bool {
    use joust_reward::Error;
    match error {
        Error::Engine(error) | Error::Model { source: error, .. } => is_users_engine(error),
        Error::Schema(error) => is_users_schema(error),
        Error::Config(_) | Error::Group { .. } => true,
        _ => false,
    }
}

fn is_users_trainer(error: &joust_trainer::Error) -> bool {
    use joust_trainer::Error;
    match error {
        Error::Engine(error) => is_users_engine(error),
        Error::Schema(error) => is_users_schema(error),
        Error::Config(_) | Error::Checkpoint { .. } => true,
        _ => false,
    }
}

fn is_users_engine(error: &joust_engine::Error) -> bool {
    use joust_engine::Error;
    match error {
        Error::Io { source, .. } => is_users_io(source),
        Error::Tensor(_) | Error::QueueFull { .. } => false,
        _ => true,
    }
}

fn is_users_schema(error: &joust_schema::Error) -> bool {
    use joust_schema::Error;
    match error {
        Error::Io { source, .. } => is_users_io(source),
        Error::Line { .. } | Error::Row { .. } => true,
        Error::BadFile { .. } | Error::Table { .. } => true,
        _ => false,
    }
}

fn is_users_io(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidData
            | ErrorKind::AlreadyExists
    )
}
