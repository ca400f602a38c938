//! The interface of all parts but the judge's.

use super::group::PartGroup;
use super::outcome::PartOutcome;

/// A source of numbers for the members of groups.
pub(super) trait PartSource: Send {
    /// What the part says about each group, in their order. It does not depend on time, as far as
    /// the source itself does not.
    fn score(&mut self, groups: &[PartGroup]) -> Vec<PartOutcome>;
}
