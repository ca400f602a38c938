//! The formats of a tournament, as settings name them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Format of a tournament: the pairs of a group that meet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum TournamentKind {
    /// Few rounds; each round pairs members with similar scores, without rematches. It has most of
    /// the information of a round robin with about half of its matches.
    Swiss,
    /// A random bracket of n - 1 matches. For best-of-n; it has too little information for a
    /// reward.
    Knockout,
    /// Every pair meets once: n(n-1)/2 matches.
    RoundRobin,
}
