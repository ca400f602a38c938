//! What a part says about a group.
//!
//! Plain data. It does not know weights.

/// What a part says about a group.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum PartOutcome {
    /// A number per member; `None`: the part has none for this member. Numbers are finite.
    Given(Vec<Option<f64>>),
    /// The part failed for the whole group, for this reason.
    Failed(String),
    /// The part was not asked for this group.
    NotAsked,
}

impl PartOutcome {
    /// The number of a member.
    pub fn value(&self, member: usize) -> Option<f64> {
        match self {
            Self::Given(values) => values.get(member).copied().flatten(),
            Self::Failed(_) | Self::NotAsked => None,
        }
    }
}

/// What a part says about a group, under the part's name.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PartScores {
    /// The name of the part.
    pub name: String,
    /// Whether the part has an influence on the reward: its weight is not 0.
    pub counts: bool,
    /// What it says.
    pub outcome: PartOutcome,
}
