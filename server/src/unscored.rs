//! Why there is no result, and what that is in HTTP.

use std::sync::Arc;

use axum::http::StatusCode;

use super::load::Full;
use super::results::{Judged, Outcome, Unjudged};

/// Why nothing came of what was asked, as every protocol tells it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unscored {
    /// There is no room for it now.
    #[error("{}", .0.reason)]
    Full(Full),
    /// The judge's thread has ended.
    #[error("the judge has stopped")]
    Stopped,
    /// It took longer than the time limit; the work goes on, and who asks again finds it.
    #[error("{0}")]
    TooLate(String),
    /// It was cancelled.
    #[error("the group's judging was cancelled")]
    Cancelled,
    /// It is not to be cancelled: others wait for it.
    #[error("others want the same group ({0}); its judging goes on")]
    Wanted(usize),
    /// It is nothing that the judge can do.
    #[error("{0}")]
    Bad(String),
    /// The judge failed; another try may do better.
    #[error("{0}")]
    Failed(String),
}

impl Unscored {
    /// What it is in HTTP.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stopped | Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLate(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Cancelled | Self::Wanted(_) => StatusCode::CONFLICT,
            Self::Bad(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

/// What an outcome means to who waited for it.
pub(crate) fn of_outcome(outcome: Outcome) -> Result<Arc<Judged>, Unscored> {
    outcome.map_err(|why| match why {
        Unjudged::Bad(reason) => Unscored::Bad(reason),
        Unjudged::Cancelled => Unscored::Cancelled,
    })
}
