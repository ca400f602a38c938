//! JSON of a group and of its result in the native protocol.
//!
//! Knows neither the judge nor the server's settings.

use std::collections::BTreeMap;

use joust_schema::ids::{GroupId, MatchId, Member};
use joust_schema::prompt::{Completion, Message, Prompt};
use joust_schema::tables::{Match, Reward, Status, Verdict, Vote};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::group::{NewGroup, known_answer, perhaps_known};
use crate::problem::Problem;
use joust_reward::VoteRule;
use joust_reward::arena::GroupResult;
use joust_reward::tournament::TournamentKind;

/// Body of `POST /v1/score_group`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreGroupRequest {
    /// The prompt, as a text or as chat messages.
    pub prompt: Option<Prompt>,
    /// The prompt as chat messages; instead of `prompt`.
    pub messages: Option<Vec<Message>>,
    /// The completions to compare, at least two: texts, or chat messages, of which the last of the
    /// assistant is the completion.
    #[schemars(with = "Vec<Prompt>")]
    pub completions: Vec<Completion>,
    /// The known answer, a text or a number, for rules.
    #[serde(default, deserialize_with = "perhaps_known")]
    #[schemars(with = "Option<Known>")]
    pub answer: Option<Value>,
    /// `swiss`, `knockout` or `round_robin`, instead of the server's.
    pub tournament: Option<TournamentKind>,
    /// Number of rounds of a Swiss tournament, instead of the server's.
    pub rounds: Option<u32>,
    /// Votes per match, a number or a rule, instead of the server's.
    pub votes: Option<VoteRule>,
    /// Seed of every draw; a hash of the group if left out.
    #[serde(default, deserialize_with = "seed")]
    pub seed: Option<u64>,
    /// Name of the group in answer and dump; a hash of the group if left out.
    pub group_id: Option<String>,
    /// Adds the judge's outputs to the answer.
    #[serde(default, deserialize_with = "null_as_false")]
    #[schemars(with = "Option<bool>")]
    pub traces: bool,
}

/// A truth value; null as if it was left out.
fn null_as_false<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(false))
}

/// The known answer in a description of a body.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum Known {
    Text(String),
    Number(f64),
}

/// Answer of `POST /v1/score_group`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScoreGroupResponse {
    /// Name of the group.
    pub group_id: GroupId,
    /// One number per completion, in order; null for a completion without a reward.
    pub rewards: Vec<Option<f64>>,
    /// One status per completion, in order.
    pub statuses: Vec<Status>,
    /// One rating per completion, in order.
    pub ratings: Vec<Rating>,
    /// Matches of the tournament.
    pub matches: Vec<MatchReport>,
    /// Member that won the tournament.
    pub winner: Option<Member>,
    /// Log-odds by which the judge prefers the completion shown first.
    pub position_bias: Option<f64>,
    /// Log-odds by which the judge prefers longer completions, per unit of the length term. It
    /// is fitted to this group alone, so that chance is most of it. Null where all lengths are
    /// equal, and without a Bradley-Terry rating.
    #[serde(default)]
    pub length_slope: Option<f64>,
    /// Name of the judge.
    pub judge: String,
    /// Judge outputs, if requested, by match and vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<Vec<Trace>>,
}

/// One vote with the judge's output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// Member shown as Assistant 1.
    pub shown_first: Member,
    /// Member shown as Assistant 2.
    pub shown_second: Member,
    /// Preferred completion of the two, or `invalid`.
    pub verdict: Verdict,
    /// Whole output of the judge, or the reason why there is none.
    pub text: String,
}

/// Rating of one completion.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rating {
    /// Index in the group.
    pub member: Member,
    /// Elo number: base 10, scale 400, centre 1000.
    pub rating: Option<f64>,
    /// Standard error of `rating`.
    pub rating_stderr: Option<f64>,
    /// Expected share of wins against the rest of the group.
    pub win_rate: Option<f64>,
    /// Number of matches won.
    pub wins: i32,
    /// Number of matches lost.
    pub losses: i32,
    /// Rank in the group, 1 for the best.
    pub rank: Option<i32>,
    /// `scored`, or the reason why there is no reward.
    pub status: Status,
}

/// One match.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MatchReport {
    /// Round, counted from 1.
    pub round: i32,
    /// First member of the match.
    pub member_a: Member,
    /// Second member of the match.
    pub member_b: Member,
    /// Number of valid votes for `member_a`.
    pub votes_a: i32,
    /// Number of valid votes for `member_b`.
    pub votes_b: i32,
    /// Number of votes without a valid verdict.
    pub votes_invalid: i32,
    /// Member with more votes; null for a draw.
    pub winner: Option<Member>,
}

impl ScoreGroupRequest {
    /// Checks the body and turns it into a group.
    ///
    /// # Errors
    /// [`Problem::Invalid`]
    pub(crate) fn into_group(self) -> Result<NewGroup, Problem> {
        let invalid = |reason: &str| Problem::Invalid(reason.to_owned());
        let prompt = match (self.prompt, self.messages) {
            (Some(prompt), None) => prompt,
            (None, Some(messages)) => Prompt::Messages(messages),
            (Some(_), Some(_)) => {
                return Err(invalid("prompt and messages are both given, wanted one"));
            }
            (None, None) => return Err(invalid("prompt is missing, wanted prompt or messages")),
        };
        let completions = self.completions.into_iter().map(|said| said.0).collect();
        let mut group = NewGroup::new(&prompt, completions)?;
        group.reference = known_answer(self.answer)?;
        group.tournament = self.tournament;
        group.rounds = self.rounds;
        group.votes = self.votes;
        group.seed = self.seed;
        group.group_id = self.group_id;
        Ok(group)
    }
}

/// The votes with the members that were shown.
fn traces(result: &GroupResult) -> Vec<Trace> {
    let members = result.matches.iter().map(|row| (&row.match_id, (row.member_a, row.member_b)));
    let members: BTreeMap<&MatchId, (Member, Member)> = members.collect();
    let trace = |vote: &Vote| {
        let &(a, b) = members.get(&vote.match_id)?;
        let (shown_first, shown_second) = if vote.a_shown_first { (a, b) } else { (b, a) };
        Some(Trace { shown_first, shown_second, verdict: vote.verdict, text: vote.text.clone() })
    };
    result.votes.iter().filter_map(trace).collect()
}

/// Reads a seed; any other number would be told as one of floating point.
fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    let number = |value: Value| {
        let wrong = || format!("seed is {value}, wanted a whole number of 0 to {}", u64::MAX);
        value.as_u64().ok_or_else(|| D::Error::custom(wrong()))
    };
    value.filter(|value| !value.is_null()).map(number).transpose()
}

impl ScoreGroupResponse {
    pub(crate) fn new(result: &GroupResult, judge: String, with_traces: bool) -> Self {
        let rating = |row: &Reward| Rating {
            member: row.member,
            rating: row.rating,
            rating_stderr: row.rating_stderr,
            win_rate: row.win_rate,
            wins: row.wins,
            losses: row.losses,
            rank: row.rank,
            status: row.status,
        };
        let report = |row: &Match| MatchReport {
            round: row.round,
            member_a: row.member_a,
            member_b: row.member_b,
            votes_a: row.votes_a,
            votes_b: row.votes_b,
            votes_invalid: row.votes_invalid,
            winner: row.winner,
        };
        Self {
            group_id: result.group_id.clone(),
            rewards: result.rewards.iter().map(|row| row.reward).collect(),
            statuses: result.rewards.iter().map(|row| row.status).collect(),
            ratings: result.rewards.iter().map(rating).collect(),
            matches: result.matches.iter().map(report).collect(),
            winner: result.winner,
            position_bias: result.position_bias,
            length_slope: result.length_slope,
            judge,
            traces: with_traces.then(|| traces(result)),
        }
    }
}
