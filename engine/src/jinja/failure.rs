//! Why a template does not parse, or refuses to render.

/// The reason, as a sentence without the template's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateFailure(pub(crate) String);

/// A failure with this reason, in one line: it may quote a template or a message.
pub(super) fn failure<T>(reason: impl AsRef<str>) -> Result<T, TemplateFailure> {
    let mut line = String::new();
    for c in reason.as_ref().chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    Err(TemplateFailure(line))
}
