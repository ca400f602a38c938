//! The rule that ends the voting in a match, and how many votes to request. Pure counting.
//!
//! The two votes of a pair show the answers in opposite orders. A match ends early only after a
//! whole number of pairs, and what counts then are the pairs with two valid votes: a judge that
//! only prefers the first position puts no side ahead. Only the votes before the first unfinished
//! pair are known to the rule, so that the order in which votes arrive changes nothing. The rule
//! does not know judges.

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
    /// One side is `lead` votes ahead, counted over pairs of votes in both orders.
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
    /// Maximum number of votes per match, at least 1; the order in which the two answers are shown
    /// alternates. An even number shows both orders equally often; its matches may be drawn.
    pub max: u32,
    /// Condition that ends the voting before `max` votes.
    pub stop: Stop,
    /// Number of votes that one side must be ahead for `lead`, at least 1 there.
    pub lead: u32,
    /// Probability at which `posterior` stops, above 0.5 and below 1.
    pub threshold: f64,
    /// Number of votes that are requested in advance, beyond the votes that are certainly needed.
    /// If the match is decided without them, they are cancelled; those that were cast by then are
    /// neither counted nor recorded.
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
        }
        if self.stop == Stop::Lead && self.lead == 0 {
            problems.push("votes.lead is 0, wanted at least 1".to_owned());
        }
        if !(self.threshold > 0.5 && self.threshold < 1.0) {
            problems.push(format!(
                "votes.threshold is {}, wanted above 0.5 and below 1",
                self.threshold
            ));
        }
        problems
    }

    /// Whether the finished pairs decide the match.
    pub(crate) fn is_decided(&self, finished: &FinishedPairs) -> bool {
        if finished.n_votes >= self.max {
            return true;
        }
        let FinishedPairs { for_a, for_b, unpaired, n_votes } = *finished;
        let lead = for_a.abs_diff(for_b);
        match self.stop {
            Stop::Never => false,
            Stop::Majority => lead > self.max - n_votes + unpaired,
            Stop::Lead => lead >= self.lead,
            Stop::Posterior => posterior(for_a, for_b) >= self.threshold,
        }
    }

    /// Number of votes of the match that should be requested by now: the finished pairs, the
    /// smallest number of further votes that could decide it, and `ahead`.
    pub(crate) fn n_wanted(&self, finished: &FinishedPairs) -> u32 {
        if self.is_decided(finished) {
            return finished.n_votes;
        }
        // more pairs for the side that leads never undo a decision
        let (mut too_few, mut enough) = (0, (self.max - finished.n_votes).div_ceil(2));
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            match self.is_decided(&finished.with_pairs_for_the_leader(middle)) {
                true => enough = middle,
                false => too_few = middle,
            }
        }
        let more = enough.saturating_mul(2).saturating_add(self.ahead);
        finished.n_votes.saturating_add(more).min(self.max)
    }
}

/// The votes of a match before its first pair that has an unfinished vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FinishedPairs {
    /// Votes for player a, of the pairs with two valid votes.
    pub(crate) for_a: u32,
    /// Votes for player b, of the same pairs.
    pub(crate) for_b: u32,
    /// Valid votes whose partner is invalid.
    pub(crate) unpaired: u32,
    /// Number of votes, invalid ones included.
    pub(crate) n_votes: u32,
}

impl FinishedPairs {
    /// Adds the next pair. A vote is for a (true), for b, or invalid.
    pub(crate) fn add(&mut self, pair: [Option<bool>; 2]) {
        match pair {
            [Some(one), Some(other)] => {
                let for_a = u32::from(one) + u32::from(other);
                self.for_a += for_a;
                self.for_b += 2 - for_a;
            }
            [None, None] => {}
            _ => self.unpaired += 1,
        }
        self.n_votes += 2;
    }

    /// Adds the last vote of an odd number of votes.
    pub(crate) fn add_last(&mut self, vote: Option<bool>) {
        self.unpaired += u32::from(vote.is_some());
        self.n_votes += 1;
    }

    fn with_pairs_for_the_leader(&self, n_pairs: u32) -> Self {
        let (more, less) = (self.for_a.max(self.for_b), self.for_a.min(self.for_b));
        let n_votes = 2 * n_pairs;
        Self { for_a: more + n_votes, for_b: less, n_votes: self.n_votes + n_votes, ..*self }
    }
}

/// Probability that the judge prefers the side with more votes in more than half of all votes,
/// given a uniform prior: P(p > 1/2) for p ~ Beta(1 + more, 1 + less).
///
/// For whole numbers the regularised incomplete beta function is a binomial sum (NIST DLMF 8.17.5):
/// the share of the outcomes of n = more + less + 1 fair coins with at most `more` heads. The terms
/// are summed as multiples of the one for `more` heads, which neither overflow nor vanish.
fn posterior(for_a: u32, for_b: u32) -> f64 {
    let more = f64::from(for_a.max(for_b));
    let n = f64::from(for_a) + f64::from(for_b) + 1.0;
    // both directions: the next count of heads, the ratio of its term, and the last count
    let sum = |mut heads: f64, step: f64, last: f64| {
        let (mut sum, mut term) = (0.0, 1.0);
        while heads != last && term > sum * f64::EPSILON {
            term *=
                if step > 0.0 { (n - heads) / (heads + 1.0) } else { heads / (n - heads + 1.0) };
            sum += term;
            heads += step;
        }
        sum
    };
    let (above, below) = (sum(more, 1.0, n), 1.0 + sum(more, -1.0, 0.0));
    // a sum below that is beyond all numbers is all there is
    1.0 / (1.0 + above / below)
}

#[cfg(test)]
mod tests;
