//! The rule that ends the voting in a match, and how many votes to request next. Pure counting.
//!
//! Rules that stop by the votes so far are checked after pairs of votes, one per presentation
//! order. If the judge only prefers the first position, no side is ahead after a pair, and the
//! match does not end early. The rule does not know judges.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Condition that ends the voting in a match before its last vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// None: all votes are requested.
    Never,
    /// The remaining votes cannot change which side has more.
    #[default]
    Majority,
    /// One side is `lead` votes ahead.
    Lead,
    /// The side with more votes is the better one with probability `threshold`: the judge's
    /// preference has a uniform prior, and a Beta posterior after the votes.
    Posterior,
}

/// Votes per match. A plain number n stands for `{ max = n, stop = "majority" }`.
// A type of the wire too, whose schema has no bounds: `contradictions` checks them.
// `remote` makes the derived functions inherent: they read the table form, `deserialize` both forms
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct VoteRule {
    /// Maximum number of votes per match; the order in which the two answers are shown alternates.
    /// At least 1, and an odd number for `majority`.
    pub max: u32,
    /// Condition that ends the voting before `max` votes.
    pub stop: Stop,
    /// Number of votes that one side must be ahead for `lead`, at least 1 there.
    pub lead: u32,
    /// Probability at which `posterior` stops, above 0.5 and below 1.
    pub threshold: f64,
    /// Number of votes that are requested in advance, beyond the votes that are certainly needed;
    /// they are cancelled if the match is decided without them.
    pub ahead: u32,
}

impl Default for VoteRule {
    fn default() -> Self {
        Self { max: 1, stop: Stop::Majority, lead: 2, threshold: 0.85, ahead: 0 }
    }
}

impl From<u32> for VoteRule {
    fn from(max: u32) -> Self {
        Self { max, ..Self::default() }
    }
}

impl Serialize for VoteRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for VoteRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrTable;
        impl<'de> Visitor<'de> for NumberOrTable {
            type Value = VoteRule;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of votes, or a table with max, stop, lead, threshold, ahead")
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<VoteRule, E> {
                number(n)
            }

            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<VoteRule, E> {
                number(n)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VoteRule, A::Error> {
                VoteRule::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(NumberOrTable)
    }
}

fn number<N, E>(n: N) -> Result<VoteRule, E>
where
    N: TryInto<u32> + Copy + Display,
    E: serde::de::Error,
{
    let max = n.try_into().map_err(|_| E::custom(format!("{n} is no number of votes")))?;
    Ok(VoteRule::from(max))
}

impl VoteRule {
    /// All problems, each named by its key.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.max == 0 {
            problems.push("votes is 0, wanted at least 1".to_owned());
        } else if self.stop == Stop::Majority && self.max.is_multiple_of(2) {
            problems.push(format!("votes is {}, wanted an odd number", self.max));
        }
        if self.stop == Stop::Lead && self.lead == 0 {
            problems.push("votes.lead is 0, wanted at least 1".to_owned());
        }
        if !(self.threshold > 0.5 && self.threshold < 1.0) {
            problems.push(format!(
                "votes.threshold is {:?}, wanted above 0.5 and below 1",
                self.threshold
            ));
        }
        problems
    }

    /// Whether `for_a` against `for_b` valid votes decide the match after `n_finished` votes.
    pub(crate) fn is_decided(&self, for_a: u32, for_b: u32, n_finished: u32) -> bool {
        if n_finished >= self.max {
            return true;
        }
        let lead = for_a.abs_diff(for_b);
        match self.stop {
            Stop::Never => false,
            Stop::Majority => lead > self.max - n_finished,
            Stop::Lead => n_finished.is_multiple_of(2) && lead >= self.lead,
            Stop::Posterior => {
                n_finished.is_multiple_of(2) && posterior(for_a, for_b) >= self.threshold
            }
        }
    }

    /// Number of votes to request after `n_finished` votes, if none is in flight: the smallest
    /// number that could decide the match, plus `ahead`.
    pub(crate) fn n_wanted(&self, for_a: u32, for_b: u32, n_finished: u32) -> u32 {
        if self.is_decided(for_a, for_b, n_finished) {
            return 0;
        }
        let left = self.max - n_finished;
        let (more, less) = (for_a.max(for_b), for_a.min(for_b));
        let decides = |n: &u32| self.is_decided(more + n, less, n_finished + n);
        let least = (1..=left).find(decides).unwrap_or(left);
        (least + self.ahead).min(left)
    }
}

/// Probability that the judge prefers the side with more votes in more than half of all votes,
/// given a uniform prior: P(p > 1/2) for p ~ Beta(1 + more, 1 + less).
///
/// For whole numbers the regularised incomplete beta function is a binomial sum (NIST DLMF 8.17.5):
/// the share of the outcomes of n = more + less + 1 fair coins with at most `more` heads.
fn posterior(for_a: u32, for_b: u32) -> f64 {
    let (more, n) = (for_a.max(for_b), for_a + for_b + 1);
    let mut ways = 1.0;
    let mut sum = 0.0;
    for heads in 0..=more {
        sum += ways;
        ways *= f64::from(n - heads) / f64::from(heads + 1);
    }
    sum / 2f64.powi(n as i32)
}

#[cfg(test)]
mod tests;
