//! A judged group and its key: the hash of everything that defines a group.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::cohort::terms::{CohortKey, MemberName};
use crate::problem::Problem;
use joust_reward::arena::{GroupRequest, GroupResult};
use joust_schema::tables::Vote;

/// Hash of everything that defines a group, its tenant included: identical groups have the same
/// key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct GroupKey(u128);

impl GroupKey {
    /// The key of a tenant's group, and the group as JSON: the journal writes the same text.
    pub(crate) fn of(tenant: &str, group: &GroupRequest) -> (Self, Arc<RawValue>) {
        let json = to_raw_value(group).expect("a group is plain data. This is a bug.");
        let mut hasher = blake3::Hasher::new();
        hasher.update(json.get().as_bytes());
        if !tenant.is_empty() {
            // JSON ends with a bracket: no group without a tenant has the same text
            hasher.update(tenant.as_bytes());
        }
        let bytes = hasher.finalize().as_bytes()[..16].try_into();
        let number = u128::from_be_bytes(bytes.expect("a hash has 32 bytes. This is a bug."));
        (Self(number), json.into())
    }
}

impl std::fmt::Display for GroupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl From<GroupKey> for String {
    fn from(key: GroupKey) -> Self {
        key.to_string()
    }
}

impl std::str::FromStr for GroupKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u128::from_str_radix(text, 16) {
            Ok(number) if text.len() == 32 => Ok(Self(number)),
            _ => Err(format!("{text:?} is no key, wanted 32 hexadecimal digits")),
        }
    }
}

impl TryFrom<String> for GroupKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Key and member names of a group of single completions, by which a restarted server recognises
/// retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CohortRecord {
    pub(crate) key: CohortKey,
    /// One per member; `None` for a member without a name.
    pub(crate) names: Vec<Option<MemberName>>,
}

/// A judged group with its result.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Judged {
    pub(crate) key: GroupKey,
    /// The tenant whose group it is; empty if no token is required.
    #[serde(default)]
    pub(crate) tenant: String,
    pub(crate) group: GroupRequest,
    pub(crate) result: GroupResult,
    /// Set for a group of single completions.
    #[serde(default)]
    pub(crate) cohort: Option<CohortRecord>,
}

impl Judged {
    /// Approximate size in memory.
    pub(crate) fn n_bytes(&self) -> usize {
        let texts = self.group.completions.iter().map(String::len).sum::<usize>();
        let votes = self.result.votes.iter().map(|vote| vote.text.len() + 200).sum::<usize>();
        texts + votes + self.group.question.len() + 200 * self.result.rewards.len() + 500
    }
}

/// Tokens of the judge's prompts and thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JudgeTokens {
    pub(crate) prompt: i64,
    pub(crate) completion: i64,
}

impl JudgeTokens {
    /// The tokens of a group.
    pub(crate) fn of(result: &GroupResult) -> Self {
        let sum = |tokens: fn(&Vote) -> i32| {
            result.votes.iter().map(|vote| i64::from(tokens(vote))).sum()
        };
        Self {
            prompt: sum(|vote| vote.prompt_tokens),
            completion: sum(|vote| vote.completion_tokens),
        }
    }

    pub(crate) fn total(self) -> i64 {
        self.prompt + self.completion
    }

    /// The share of member `idx` of `n`; the shares add up to the whole.
    pub(crate) fn share(self, idx: usize, n: usize) -> Self {
        let (idx, n) = (idx as i64, n as i64);
        let part = |tokens: i64| tokens * (idx + 1) / n - tokens * idx / n;
        Self { prompt: part(self.prompt), completion: part(self.completion) }
    }
}

impl std::iter::Sum for JudgeTokens {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self { prompt: 0, completion: 0 }, |sum, part| Self {
            prompt: sum.prompt + part.prompt,
            completion: sum.completion + part.completion,
        })
    }
}

/// The problem of a group in which no member has a reward: the judge refused all votes (and would
/// again) or failed at all of them.
pub(crate) fn problem_of(result: &GroupResult) -> Option<Problem> {
    let reason = result.why_all_failed()?;
    Some(match result.is_refused {
        true => Problem::Invalid(reason),
        false => Problem::JudgeFailed(reason),
    })
}
