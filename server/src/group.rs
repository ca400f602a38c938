//! A group to be scored: the checks and the defaults that are the same in every protocol.
//!
//! Knows no protocol.

#[cfg(test)]
pub(crate) mod fixture;

use joust_schema::ids::GroupId;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::problem::Problem;
use joust_reward::arena::{GroupRequest, GroupWork};
use joust_reward::tournament::TournamentKind;
use joust_reward::{TournamentConfig, VoteRule};

/// Maximum number of completions per group; also that of `serve.group_size`.
const MAX_COMPLETIONS: usize = 1024;

/// Maximum number of votes per match and of rounds.
const MAX_VOTES: u32 = 1024;

/// Maximum number of votes of a group: all votes of all its matches.
const MAX_GROUP_VOTES: u64 = 1 << 18;

/// Maximum size of the prompts of these votes, in bytes.
const MAX_GROUP_TEXT: u64 = 4 << 30;

/// A group as a protocol hands it over. What the client leaves out, the server's settings decide.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NewGroup {
    question: String,
    completions: Vec<String>,
    /// Known answer, for rules.
    pub(crate) reference: Option<String>,
    pub(crate) tournament: Option<TournamentKind>,
    pub(crate) rounds: Option<u32>,
    pub(crate) votes: Option<VoteRule>,
    /// Seed of every draw; `None` for a hash of the group.
    pub(crate) seed: Option<u64>,
    /// Name of the group; `None` for a hash of the group.
    pub(crate) group_id: Option<String>,
}

impl NewGroup {
    /// A group without any choice of the client.
    ///
    /// # Errors
    /// [`Problem::Invalid`] for a prompt that no judge can read, no completion or too many of them.
    pub(crate) fn new(prompt: &Prompt, completions: Vec<String>) -> Result<Self, Problem> {
        if let Some(problem) = prompt.problem() {
            return Err(Problem::Invalid(format!("prompt {problem}")));
        }
        if completions.is_empty() {
            return Err(invalid("completions is empty, wanted at least two to compare"));
        }
        if completions.len() > MAX_COMPLETIONS {
            let n = completions.len();
            let reason = format!("completions has {n} entries, wanted at most {MAX_COMPLETIONS}");
            return Err(Problem::Invalid(reason));
        }
        Ok(Self {
            question: prompt.question(),
            completions,
            reference: None,
            tournament: None,
            rounds: None,
            votes: None,
            seed: None,
            group_id: None,
        })
    }

    /// Size of the texts.
    pub(crate) fn n_bytes(&self) -> usize {
        self.question.len() + self.completions.iter().map(String::len).sum::<usize>()
    }

    /// The group with the server's tournament and seed where the client chose none.
    ///
    /// # Errors
    /// [`Problem::Invalid`] for wrong tournament settings.
    pub(crate) fn into_request(
        mut self,
        defaults: &TournamentConfig,
        server_seed: u64,
    ) -> Result<GroupRequest, Problem> {
        let tournament = TournamentConfig {
            kind: self.tournament.unwrap_or(defaults.kind),
            rounds: self.rounds.or(defaults.rounds),
            votes: self.votes.take().unwrap_or_else(|| defaults.votes.clone()),
        };
        check_tournament(&tournament)?;
        let seed = self.seed.map_or_else(|| self.derived_seed(server_seed), Seed::new);
        let group_id = self.group_id.take().unwrap_or_else(|| self.derived_id(seed));
        Ok(GroupRequest {
            step: 0,
            group_id: GroupId(group_id),
            question: self.question,
            completions: self.completions,
            reference: self.reference,
            seed,
            tournament: Some(tournament),
        })
    }

    /// A seed by the server's seed and the texts: the same group always gets the same draws. The
    /// completions are sorted, because their order must not matter.
    fn derived_seed(&self, server_seed: u64) -> Seed {
        let of_prompt = Seed::new(server_seed).child_str("prompt", &self.question);
        let mut sorted: Vec<&String> = self.completions.iter().collect();
        sorted.sort();
        sorted.iter().fold(of_prompt, |seed, text| seed.child_str("completion", text))
    }

    /// A name by the seed and the texts, in the order of the members.
    fn derived_id(&self, seed: Seed) -> String {
        let of_prompt = seed.child_str("prompt", &self.question);
        let completions = self.completions.iter();
        let key = completions.fold(of_prompt, |key, text| key.child_str("completion", text));
        format!("{:016x}", key.0)
    }
}

fn check_tournament(tournament: &TournamentConfig) -> Result<(), Problem> {
    if let Some(problem) = tournament.validate().into_iter().next() {
        return Err(Problem::Invalid(problem));
    }
    let limited = [("votes", tournament.votes.max), ("rounds", tournament.rounds.unwrap_or(1))];
    match limited.into_iter().find(|(_, value)| *value > MAX_VOTES) {
        Some((name, value)) => {
            Err(Problem::Invalid(format!("{name} is {value}, wanted at most {MAX_VOTES}")))
        }
        None => Ok(()),
    }
}

/// Reads a known answer. A number whose digits a JSON number of 64 bits does not keep becomes the
/// text of its digits.
pub(crate) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    KnownValue::deserialize(deserializer).map(|known| known.0)
}

/// As [`known`], for an answer that may be missing.
pub(crate) fn perhaps_known<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    known(deserializer).map(Some)
}

/// As [`known`], for a list.
pub(crate) fn known_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Value>, D::Error> {
    let list = Vec::<KnownValue>::deserialize(deserializer)?;
    Ok(list.into_iter().map(|known| known.0).collect())
}

/// A JSON value, with the digits of a number.
struct KnownValue(Value);

impl<'de> Deserialize<'de> for KnownValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        // lists of answers and truth values, as in files; what is no answer is told later
        if text.starts_with(['[', 't', 'f'])
            && let Ok(answer) = joust_schema::known::known_answer(&raw)
        {
            return Ok(Self(answer.map_or(Value::Null, Value::String)));
        }
        let value: Result<Value, _> = serde_json::from_str(text);
        let is_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let digits = value.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_exact = digits == text;
        match value {
            _ if is_number && !is_exact => Ok(Self(Value::String(text.to_owned()))),
            value => value.map(Self).map_err(D::Error::custom),
        }
    }
}

/// The work of judging a group; `defaults` is its tournament if it has none of its own.
pub(crate) fn work_of(group: &GroupRequest, defaults: &TournamentConfig) -> GroupWork {
    let tournament = group.tournament.as_ref().unwrap_or(defaults);
    GroupWork::of(tournament, &group.question, &group.completions)
}

/// Refuses a group whose judging would have no end in sight, before anything of it is built.
///
/// # Errors
/// [`Problem::Invalid`]
pub(crate) fn check_work(work: &GroupWork) -> Result<(), Problem> {
    let GroupWork { n_matches, max_votes, max_text_bytes } = *work;
    let wanted = "; wanted fewer completions, rounds or votes";
    if max_votes > MAX_GROUP_VOTES {
        return Err(Problem::Invalid(format!(
            "the group has {n_matches} matches with up to {max_votes} votes in all, and \
             {MAX_GROUP_VOTES} are the limit{wanted}"
        )));
    }
    if max_text_bytes > MAX_GROUP_TEXT {
        return Err(Problem::Invalid(format!(
            "the prompts of the group's {max_votes} votes have {} MiB, and {} are the \
             limit{wanted}",
            max_text_bytes >> 20,
            MAX_GROUP_TEXT >> 20
        )));
    }
    Ok(())
}

/// The known answer of a JSON body as text. Lists of answers are texts already (see [`known`]).
///
/// # Errors
/// [`Problem::Invalid`] for any other value than a text, a number or null.
pub(crate) fn known_answer(answer: Option<Value>) -> Result<Option<String>, Problem> {
    match answer {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(invalid(NO_ANSWER)),
    }
}

/// What is wrong with an object as an answer.
const NO_ANSWER: &str = "answer is neither a text nor a number, a truth value or a list of those";

fn invalid(reason: &str) -> Problem {
    Problem::Invalid(reason.to_owned())
}
