//! Events of a thread, told again by the thread that the observers are on.

use joust_schema::ids::PromptId;

use crate::error::Error;
use crate::observer::{Event, Observer};

/// An event of collecting groups, with what it tells.
pub(super) enum ToldEvent {
    Progressed,
    GroupsRefilled { step: u64, n_groups: usize },
    StepGivenUp { step: u64 },
    StepWithoutServers { step: u64 },
    PromptDropped { step: u64, prompt_id: PromptId, reason: String },
    AllTruncated { step: u64, n_completions: usize, max_tokens: usize },
}

impl From<Event<'_>> for ToldEvent {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Progressed => Self::Progressed,
            Event::GroupsRefilled { step, n_groups } => Self::GroupsRefilled { step, n_groups },
            Event::StepGivenUp { step } => Self::StepGivenUp { step },
            Event::StepWithoutServers { step } => Self::StepWithoutServers { step },
            Event::PromptDropped { step, prompt_id, reason } => {
                let (prompt_id, reason) = (prompt_id.clone(), reason.to_owned());
                Self::PromptDropped { step, prompt_id, reason }
            }
            Event::AllTruncated { step, n_completions, max_tokens } => {
                Self::AllTruncated { step, n_completions, max_tokens }
            }
            _ => unreachable!("collecting groups has no other events. This is a bug."),
        }
    }
}

impl ToldEvent {
    /// Tells it.
    ///
    /// # Errors
    /// Those of the observer.
    pub(super) fn tell(&self, observer: &mut dyn Observer) -> Result<(), Error> {
        observer.observe(match self {
            Self::Progressed => Event::Progressed,
            &Self::GroupsRefilled { step, n_groups } => Event::GroupsRefilled { step, n_groups },
            &Self::StepGivenUp { step } => Event::StepGivenUp { step },
            &Self::StepWithoutServers { step } => Event::StepWithoutServers { step },
            Self::PromptDropped { step, prompt_id, reason } => {
                Event::PromptDropped { step: *step, prompt_id, reason }
            }
            &Self::AllTruncated { step, n_completions, max_tokens } => {
                Event::AllTruncated { step, n_completions, max_tokens }
            }
        })
    }
}
