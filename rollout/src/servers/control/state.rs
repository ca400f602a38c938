//! What is known of the weights that a server holds, and whether it may be given new ones.
//!
//! Pure: it makes no calls.

use super::endpoint::UpdateError;

/// The weights of a server, as far as its answers tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum HeldVersion {
    /// It holds the newest ones, and its numbers were compared.
    Newest,
    /// It does not, for this reason; it may be given them.
    Behind(String),
    /// A change of its weights failed half-way, for this reason: it gets no calls, and no weights
    /// before it was restarted.
    Tainted(String),
}

impl HeldVersion {
    /// After an update that failed.
    pub(super) fn after_failure(error: UpdateError) -> Self {
        match error {
            UpdateError::Unchanged(reason) | UpdateError::NoControl(reason) => Self::Behind(reason),
            UpdateError::Broken(reason) => Self::Tainted(reason),
        }
    }

    /// By what a server calls its weights, for who gives it none.
    pub(super) fn of_label(seen: Result<&str, String>, newest: &str) -> Self {
        match seen {
            Ok(label) if label == newest => Self::Newest,
            Ok(label) => Self::Behind(other_weights(label, newest)),
            Err(reason) => Self::Behind(reason),
        }
    }

    /// Why it does not hold the newest weights; none if it does.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Newest => None,
            Self::Behind(reason) | Self::Tainted(reason) => Some(reason),
        }
    }

    /// What follows from what a server calls its weights now; `seen` is the reason where it does
    /// not answer. `is_own` tells labels that this program has given.
    pub(super) fn after_look(
        self,
        seen: Result<&str, String>,
        newest: &str,
        is_own: impl Fn(&str) -> bool,
    ) -> Self {
        match (self, seen) {
            (Self::Newest, Ok(label)) if label == newest => Self::Newest,
            (Self::Newest | Self::Behind(_), Ok(label)) => {
                Self::Behind(other_weights(label, newest))
            }
            // a restart has made it forget the label
            (Self::Tainted(_), Ok(label)) if !is_own(label) => {
                Self::Behind(format!("it was restarted, and holds the weights {label:?}"))
            }
            (tainted @ Self::Tainted(_), _) => tainted,
            (_, Err(reason)) => Self::Behind(reason),
        }
    }
}

fn other_weights(seen: &str, wanted: &str) -> String {
    format!("it holds the weights {seen:?}, wanted {wanted:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(state: HeldVersion, seen: Result<&str, String>) -> HeldVersion {
        state.after_look(seen, "7-ab", |label| label.ends_with("-ab"))
    }

    #[test]
    fn server_with_another_label_is_behind_and_one_without_answer_too() {
        assert_eq!(look(HeldVersion::Newest, Ok("7-ab")), HeldVersion::Newest);
        for seen in [Ok("default"), Ok("6-ab"), Err("refused".to_owned())] {
            let found = look(HeldVersion::Newest, seen);
            assert!(matches!(found, HeldVersion::Behind(_)), "{found:?}");
        }
        // the label alone is no sign: the weights were not compared
        let behind = HeldVersion::Behind("gone".to_owned());
        assert!(matches!(look(behind, Ok("7-ab")), HeldVersion::Behind(_)));
    }

    #[test]
    fn tainted_server_stays_so_until_it_has_forgotten_its_label() {
        let tainted = HeldVersion::after_failure(UpdateError::Broken("500".to_owned()));
        for seen in [Ok("unfinished-7-ab"), Ok("7-ab"), Err("refused".to_owned())] {
            assert_eq!(look(tainted.clone(), seen), tainted);
        }
        assert!(matches!(look(tainted, Ok("default")), HeldVersion::Behind(_)));
        let gone = HeldVersion::after_failure(UpdateError::Unchanged("gone".to_owned()));
        assert_eq!(gone, HeldVersion::Behind("gone".to_owned()));
    }
}
