//! Why a template does not parse, or refuses to render.

/// The reason, as a sentence without the template's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateFailure(pub(crate) String);

/// A failure with this reason.
pub(super) fn failure<T>(reason: impl Into<String>) -> Result<T, TemplateFailure> {
    Err(TemplateFailure(reason.into()))
}
