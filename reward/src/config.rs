//! Settings of scoring: the judge, the tournament, the rating, and what becomes the reward.

pub(crate) mod judge;
pub(crate) mod part;

use std::sync::LazyLock;

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use joust_schema::prompt::PromptUse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::judge::{JudgeConfig, JudgeKind};
use self::part::{Combine, PartOf, RewardPart};
use crate::rating::bradley_terry::BradleyTerryConfig;
use crate::rating::elo::EloConfig;
use crate::tournament::{TournamentKind, TournamentPlan};
use crate::votes::VoteRule;

/// Scoring of groups of completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// Value that becomes the reward of a completion. A reward of `parts` has this key at its
    /// default.
    pub kind: RewardKind,
    /// Parts that the reward is made of, each a table with a `kind`. Only for `joust train`.
    /// Default: one part, the value of `reward.kind`.
    pub parts: Vec<RewardPart>,
    /// How the numbers of the parts become one reward.
    pub combine: Combine,
    /// Largest share of the judged completions of a training step that may have no reward, and
    /// largest share of its votes that may have no reply from the judge: lost votes also change
    /// the rewards of completions that have other votes. A vote that is asked for again counts
    /// once, as lost where its last attempt has no reply. Also largest share of the completions for
    /// which a part of the reward may fail, `optional` or not. With more of them the run stops
    /// before it learns from the step, with exit code 1; `--resume` repeats the step. `joust score`
    /// ends with exit code 1 where more votes are lost, after it has written its files. 1: never
    /// stops.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_failed: f64,
    /// The judge that compares two completions.
    pub judge: JudgeConfig,
    /// The matches of a group.
    pub tournament: TournamentConfig,
    /// The rating that is computed from the votes.
    pub rating: RatingConfig,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self {
            kind: RewardKind::default(),
            parts: Vec::new(),
            combine: Combine::default(),
            max_failed: 0.5,
            judge: JudgeConfig::default(),
            tournament: TournamentConfig::default(),
            rating: RatingConfig::default(),
        }
    }
}

/// Value that becomes the reward of a completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// Expected share of wins against the other completions of the group, 0 to 1.
    #[default]
    WinRate,
    /// Elo number: base 10, scale 400, centre 1000.
    Rating,
    /// 1 if the final answer equals the known answer, else 0. No match is played.
    Correct,
}

/// The matches of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TournamentConfig {
    /// Format of the tournament.
    pub kind: TournamentKind,
    /// Number of rounds of a Swiss tournament. Default: ⌈log₂ n⌉ + 1 for a group of n.
    #[schemars(range(min = 1))]
    pub rounds: Option<u32>,
    /// Number of votes per match, and the condition that ends the voting. `votes = 3` is short for
    /// `votes.max = 3`.
    pub votes: VoteRule,
}

impl Default for TournamentConfig {
    fn default() -> Self {
        Self { kind: TournamentKind::Swiss, rounds: None, votes: VoteRule::default() }
    }
}

impl TournamentConfig {
    /// The tournament of a group.
    pub(crate) fn plan(&self) -> TournamentPlan {
        TournamentPlan {
            kind: self.kind,
            rounds: self.rounds,
            balances_openings: !self.votes.max.is_multiple_of(2),
        }
    }

    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        // read for every group
        static KEYS: LazyLock<ConfigKeys> = LazyLock::new(ConfigKeys::of::<TournamentConfig>);
        let mut problems = validate(self, &KEYS);
        problems.extend(self.contradictions());
        problems
    }

    fn contradictions(&self) -> Vec<String> {
        self.votes.contradictions()
    }
}

/// Method that computes ratings from votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatingMethod {
    /// Bradley-Terry: strengths that make the votes most probable, with a prior and a term for the
    /// position bias.
    #[default]
    BradleyTerry,
    /// Online Elo over the votes in a seeded order.
    Elo,
    /// Share of the votes that a completion won.
    WinRate,
}

impl RatingMethod {
    /// The name in configs.
    fn name(self) -> &'static str {
        match self {
            Self::BradleyTerry => "bradley_terry",
            Self::Elo => "elo",
            Self::WinRate => "win_rate",
        }
    }
}

/// The rating that is computed from the votes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RatingConfig {
    /// Method that computes ratings from votes.
    pub method: RatingMethod,
    /// Whether win rate, rating and reward are those at equal length: the judge's preference for
    /// longer answers, a slope of the strengths on the number of characters, is fitted to all
    /// groups that are rated together and removed. Only with the method `bradley_terry`. The slope
    /// is measured in any case (`judge/length_slope`); docs/rewards.md says what the control costs.
    pub length_control: bool,
    /// Settings of `bradley_terry`.
    pub bradley_terry: BradleyTerryConfig,
    /// Settings of `elo`.
    pub elo: EloConfig,
}

impl RewardConfig {
    /// Who reads prompts: a rule compares known answers, and no other judge sees those.
    pub fn prompt_use(&self) -> PromptUse {
        let is_rule = matches!(self.judge.kind, JudgeKind::Rule);
        if self.parts.is_empty() {
            return match self.kind == RewardKind::Correct || is_rule {
                true => PromptUse::Answers,
                false => PromptUse::Judge,
            };
        }
        let has_correct = self.parts.iter().any(|part| matches!(part.of, PartOf::Correct));
        let compares = has_correct || (is_rule && self.plays_matches());
        match (self.plays_matches() && !is_rule, compares) {
            (true, true) => PromptUse::JudgeAndAnswers,
            (true, false) => PromptUse::Judge,
            (false, true) => PromptUse::Answers,
            (false, false) => PromptUse::Nothing,
        }
    }

    /// Whether every prompt needs a known answer, because the reward is made of it.
    pub fn needs_answers(&self) -> bool {
        if self.parts.is_empty() {
            return self.prompt_use() == PromptUse::Answers;
        }
        let is_rule = matches!(self.judge.kind, JudgeKind::Rule);
        let needed = self.parts.iter().filter(|part| !part.optional && part.weight != 0.0);
        needed.into_iter().any(|part| match part.of {
            PartOf::Correct => true,
            PartOf::Judge(_) => is_rule,
            _ => false,
        })
    }

    /// Whether a judge compares completions.
    pub fn plays_matches(&self) -> bool {
        match self.parts.is_empty() {
            true => self.kind != RewardKind::Correct,
            false => self.parts.iter().any(|part| matches!(part.of, PartOf::Judge(_))),
        }
    }

    /// Why rewards may be below 0, by the key that makes them so; none where only the numbers of a
    /// program or a server may be.
    pub fn negative_part(&self) -> Option<String> {
        if self.combine == Combine::Gdpo && !self.parts.is_empty() {
            return Some("combine is gdpo, which centres the numbers of each part".to_owned());
        }
        let parts = self.parts.iter().enumerate();
        let mut reasons = parts.filter_map(|(idx, part)| match (&part.of, part.weight) {
            (PartOf::Length(_), weight) if weight > 0.0 => {
                Some(format!("parts[{idx}] is a length part, from 0 down to -1"))
            }
            (PartOf::Length(_), _) => None,
            (_, weight) if weight < 0.0 => Some(format!("parts[{idx}].weight is {weight}")),
            _ => None,
        });
        reasons.next()
    }

    /// The same reward without parts, of one kind.
    pub(crate) fn of_kind(&self, kind: RewardKind) -> Self {
        Self { kind, parts: Vec::new(), combine: Combine::default(), ..self.clone() }
    }

    /// Whether a part reads all columns of a prompt's row.
    pub fn reads_rows(&self) -> bool {
        let reads = |part: &RewardPart| matches!(part.of, PartOf::Command(_) | PartOf::Http(_));
        self.parts.iter().any(reads)
    }

    /// All problems, each named by its key. The judge has none where no match is played.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        if !self.plays_matches() {
            problems.retain(|problem| !problem.starts_with("judge."));
        }
        problems.extend(self.contradictions());
        problems
    }

    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut under = |prefix: &str, found: Vec<String>| {
            problems.extend(found.iter().map(|problem| format!("{prefix}.{problem}")));
        };
        under("tournament", self.tournament.contradictions());
        if self.plays_matches() {
            under("judge", self.judge.contradictions());
        }
        problems.extend(part::contradictions(&self.parts, self.combine));
        if !self.parts.is_empty() && self.kind != RewardKind::default() {
            problems.push(
                "kind and parts are both set, wanted one: the kind of a reward of parts is that of \
                 each part"
                    .to_owned(),
            );
        }
        for (idx, part) in self.parts.iter().enumerate() {
            if part.wants_rating() && self.rating.method == RatingMethod::WinRate {
                let text = "value is rating, but rating.method win_rate gives no rating";
                problems.push(format!("parts[{idx}].{text}"));
            }
        }
        if self.rating.length_control && self.rating.method != RatingMethod::BradleyTerry {
            let method = self.rating.method.name();
            problems.push(format!(
                "rating.length_control is true, but rating.method {method} has no length term, \
                 wanted bradley_terry"
            ));
        }
        if self.kind == RewardKind::Rating && self.rating.method == RatingMethod::WinRate {
            problems.push("kind is rating, but rating.method win_rate gives no rating".to_owned());
        }
        problems
    }
}
