//! `joust rate`: recorded matches in, ratings out.
//!
//! A dump's own matches give the ratings and win rates of the dump: they hold the votes by
//! presentation order, the position bias that the ratings were fitted with, and the number of
//! members with equal completions, which play as one. They hold no lengths: of a dump with
//! `reward.rating.length_control` the ratings are those without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use joust_reward::rating::bradley_terry::{
    BradleyTerry, BradleyTerryConfig, PositionBias, bradley_terry_of_groups,
    bradley_terry_with_bias,
};
use joust_reward::rating::elo::{EloConfig, elo};
use joust_reward::rating::{
    ELO_SCALE, GroupVotes, MatchVotes, VoteCounts, elo_number, expected_win_rate, win_rate,
};
use joust_schema::rows::{Place, Row};
use joust_schema::seed::Seed;
use serde::Serialize;

use crate::commands::{data_rows, written};
use crate::failure::UserError;
use crate::output;

/// Arguments of `joust rate`.
#[derive(Args)]
pub(crate) struct RateArgs {
    /// JSON Lines, a JSON array or Parquet with `group_id`, `member_a`, `member_b`, `votes_a`,
    /// `votes_b`, one row per match. The presentation order is known with `a_shown_first`, if a row
    /// has the votes of one order, or with `a_first_votes_a` and `a_first_votes_b`, the votes of
    /// the order with `member_a` first, as in the `matches.parquet` of a dump. `copies_a` and
    /// `copies_b` are the members of the group with the completion of `member_a` and `member_b`,
    /// which count in win rates and ranks; 1 each if left out. Of a dump with
    /// `reward.rating.length_control` the ratings are those without it.
    #[arg(long)]
    input: PathBuf,
    /// Rating method.
    #[arg(long, value_enum, default_value_t = Method::BradleyTerry)]
    method: Method,
    /// File for the JSON lines; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Standard deviation of the Gaussian prior on Bradley-Terry strengths, in log-odds; a large
    /// one has no effect.
    #[arg(long)]
    prior_sd: Option<f64>,
    /// Position bias of the judge, which the Bradley-Terry ratings leave out.
    #[arg(long, value_enum, default_value_t = BiasSource::Recorded)]
    position_bias: BiasSource,
    /// Elo points at stake per vote.
    #[arg(long)]
    k: Option<f64>,
    /// Seed of the order of votes for Elo.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    BradleyTerry,
    Elo,
    WinRate,
}

/// Where the position bias comes from. Without the presentation order of votes there is none.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BiasSource {
    /// `position_bias` and `position_bias_stderr` of the rows, which a dump has; where they are
    /// missing, as `fit`.
    Recorded,
    /// Fitted to the votes of all groups of the file together.
    Fit,
    /// None.
    Off,
}

/// Id of a group or a member in the file: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
enum RecordedId {
    Number(i64),
    Text(String),
}

struct RecordedMatch {
    group_id: RecordedId,
    member_a: RecordedId,
    member_b: RecordedId,
    votes_a: u32,
    votes_b: u32,
    /// Whether `member_a` was shown first in all votes of the row.
    a_shown_first: Option<bool>,
    /// Those of `votes_a` with `member_a` shown first.
    a_first_votes_a: Option<u32>,
    /// Those of `votes_b` with `member_a` shown first.
    a_first_votes_b: Option<u32>,
    /// Log-odds by which the judge prefers the answer shown first.
    position_bias: Option<f64>,
    position_bias_stderr: Option<f64>,
    /// Number of members of the group with the completion of `member_a`, and of `member_b`.
    copies: [u32; 2],
}

#[derive(Serialize)]
struct RatingLine {
    group_id: RecordedId,
    member: RecordedId,
    rating: Option<f64>,
    rating_stderr: Option<f64>,
    win_rate: Option<f64>,
    rank: Option<usize>,
}

pub(crate) fn run(args: RateArgs) -> anyhow::Result<()> {
    written::check_other_file(&args.input, args.output.as_deref())?;
    let (bradley_terry, elo) = settings(&args)?;
    let mut rows: BTreeMap<RecordedId, Vec<RecordedMatch>> = BTreeMap::new();
    for (place, row) in read_matches(&args.input)? {
        if let Some(problem) = row.problem() {
            return Err(place.error(&args.input, problem).into());
        }
        rows.entry(row.group_id.clone()).or_default().push(row);
    }
    let groups: Vec<(&RecordedId, GroupMatches<'_>)> =
        rows.iter().map(|(id, rows)| (id, GroupMatches::of(rows))).collect();
    let ratings: Vec<Vec<MemberRating>> = match args.method {
        Method::WinRate => groups.iter().map(|(_, matches)| matches.win_rates()).collect(),
        Method::Elo => {
            groups.iter().map(|(_, matches)| matches.elo(&elo, Seed::new(args.seed))).collect()
        }
        Method::BradleyTerry => {
            warn_of_unknown_order(&args, &groups);
            let matches: Vec<&GroupMatches<'_>> =
                groups.iter().map(|(_, matches)| matches).collect();
            fit_groups(&matches, &bradley_terry, args.position_bias)
        }
    };
    let lines: Vec<RatingLine> = groups
        .iter()
        .zip(ratings)
        .flat_map(|((group_id, matches), ratings)| matches.lines(group_id, ratings))
        .collect();
    output::json_lines(args.output.as_deref(), &lines)
}

/// Says which ratings cannot leave the position bias out.
fn warn_of_unknown_order(args: &RateArgs, groups: &[(&RecordedId, GroupMatches<'_>)]) {
    let n_unknown = groups.iter().filter(|(_, matches)| !matches.knows_order).count();
    if n_unknown > 0 && args.position_bias != BiasSource::Off {
        output::note(format!(
            "{}: {n_unknown} of {} groups do not say which member was shown first: the position \
             bias of the judge stays in their ratings. a_first_votes_a and a_first_votes_b, or \
             a_shown_first, would say it.",
            args.input.display(),
            groups.len()
        ));
    }
}

/// Bradley-Terry ratings of all groups. Groups that are fitted share one position bias.
fn fit_groups(
    groups: &[&GroupMatches<'_>],
    config: &BradleyTerryConfig,
    source: BiasSource,
) -> Vec<Vec<MemberRating>> {
    let known_bias = |group: &GroupMatches<'_>| match source {
        BiasSource::Recorded if group.recorded_bias.is_some() => group.recorded_bias,
        BiasSource::Recorded | BiasSource::Fit if group.knows_order => None,
        _ => Some(PositionBias::default()),
    };
    let fitted: Vec<GroupVotes<'_>> = groups
        .iter()
        .filter(|group| known_bias(group).is_none())
        .map(|group| GroupVotes { n: group.members.len(), matches: &group.matches })
        .collect();
    let mut fits = bradley_terry_of_groups(&fitted, config).into_iter();
    let of_group = |group: &&GroupMatches<'_>| {
        let fit = match known_bias(group) {
            Some(bias) => {
                bradley_terry_with_bias(group.members.len(), &group.matches, config, bias)
            }
            None => fits.next().expect("each fitted group has a fit. This is a bug."),
        };
        group.ratings(&fit)
    };
    groups.iter().map(of_group).collect()
}

impl RecordedMatch {
    /// Why the row makes no sense.
    fn problem(&self) -> Option<String> {
        if self.member_a == self.member_b {
            return Some("member_a and member_b are the same".to_owned());
        }
        let firsts = [
            ("a_first_votes_a", self.a_first_votes_a, "votes_a", self.votes_a),
            ("a_first_votes_b", self.a_first_votes_b, "votes_b", self.votes_b),
        ];
        let too_many = firsts.into_iter().find_map(|(name, of_order, all_name, all)| {
            let of_order = of_order.filter(|&of_order| of_order > all)?;
            Some(format!("{name} is {of_order}, wanted at most {all_name}, {all}"))
        });
        if self.copies.contains(&0) {
            return Some("copies_a or copies_b is 0, wanted at least 1".to_owned());
        }
        let bias = [self.position_bias, self.position_bias_stderr];
        let is_wrong = |value: f64| !value.is_finite();
        too_many.or_else(|| {
            let wrong = bias.into_iter().flatten().find(|&value| is_wrong(value))?;
            Some(format!("position_bias is {wrong}, wanted a finite number"))
        })
    }

    /// The votes by presentation order, and whether that order is known.
    fn votes(&self) -> ([VoteCounts; 2], bool) {
        let all = VoteCounts { a: self.votes_a, b: self.votes_b };
        let none = VoteCounts::default();
        match (self.a_first_votes_a, self.a_first_votes_b, self.a_shown_first) {
            (Some(a), Some(b), _) => {
                ([VoteCounts { a, b }, VoteCounts { a: all.a - a, b: all.b - b }], true)
            }
            (_, _, Some(true)) => ([all, none], true),
            (_, _, Some(false)) => ([none, all], true),
            // without votes there is no order
            (_, _, None) => ([all, none], all == none),
        }
    }

    fn recorded_bias(&self) -> Option<PositionBias> {
        let (logits, stderr) = (self.position_bias?, self.position_bias_stderr?);
        Some(PositionBias { logits, stderr })
    }
}

fn settings(args: &RateArgs) -> anyhow::Result<(BradleyTerryConfig, EloConfig)> {
    let mut bradley_terry = BradleyTerryConfig::default();
    bradley_terry.prior_sd = args.prior_sd.unwrap_or(bradley_terry.prior_sd);
    let mut elo = EloConfig::default();
    elo.k = args.k.unwrap_or(elo.k);
    let mut problems = bradley_terry.validate();
    problems.extend(elo.validate());
    match problems.is_empty() {
        true => Ok((bradley_terry, elo)),
        false => Err(UserError::new(problems.join("; ")).into()),
    }
}

fn read_matches(path: &Path) -> anyhow::Result<Vec<(Place, RecordedMatch)>> {
    const COLUMNS: [&str; 12] = [
        "group_id",
        "member_a",
        "member_b",
        "votes_a",
        "votes_b",
        "a_shown_first",
        "a_first_votes_a",
        "a_first_votes_b",
        "position_bias",
        "position_bias_stderr",
        "copies_a",
        "copies_b",
    ];
    let matches = data_rows::read_all(path, &COLUMNS, |row| {
        let row_match = RecordedMatch {
            group_id: recorded_id(row, "group_id")?,
            member_a: recorded_id(row, "member_a")?,
            member_b: recorded_id(row, "member_b")?,
            votes_a: row.required("votes_a")?,
            votes_b: row.required("votes_b")?,
            a_shown_first: row.optional("a_shown_first")?,
            a_first_votes_a: row.optional("a_first_votes_a")?,
            a_first_votes_b: row.optional("a_first_votes_b")?,
            position_bias: row.optional("position_bias")?,
            position_bias_stderr: row.optional("position_bias_stderr")?,
            copies: [
                row.optional("copies_a")?.unwrap_or(1),
                row.optional("copies_b")?.unwrap_or(1),
            ],
        };
        Ok((row.place(), row_match))
    })?;
    Ok(matches)
}

/// A number within 64 bits, or else a text: larger numbers keep their digits.
fn recorded_id(row: &Row, column: &str) -> Result<RecordedId, joust_schema::Error> {
    let id = row.id(column)?.ok_or_else(|| row.missing(column))?;
    let is_number = row.get(column).is_some_and(|cell| !cell.get().starts_with('"'));
    Ok(match id.parse() {
        Ok(number) if is_number => RecordedId::Number(number),
        _ => RecordedId::Text(id),
    })
}

/// Rating of a member; nothing is known without a valid vote.
#[derive(Clone, Copy, Default)]
struct MemberRating {
    rating: Option<f64>,
    stderr: Option<f64>,
    win_rate: Option<f64>,
}

/// The matches of a group, with its members numbered.
struct GroupMatches<'a> {
    members: Vec<&'a RecordedId>,
    matches: Vec<MatchVotes>,
    /// Number of valid votes per member.
    n_votes: Vec<u64>,
    /// Per member: number of members with its completion; 0 without a valid vote.
    n_rated: Vec<u32>,
    /// Whether the presentation order of all votes is known.
    knows_order: bool,
    /// The position bias in the rows, if all have the same.
    recorded_bias: Option<PositionBias>,
}

impl<'a> GroupMatches<'a> {
    fn of(rows: &'a [RecordedMatch]) -> Self {
        let mut members: Vec<&RecordedId> =
            rows.iter().flat_map(|row| [&row.member_a, &row.member_b]).collect();
        members.sort();
        members.dedup();
        let idx_of = |name: &RecordedId| members.binary_search(&name).unwrap_or_default();
        let match_votes = |row: &RecordedMatch| {
            let ([a_first, b_first], _) = row.votes();
            MatchVotes { a: idx_of(&row.member_a), b: idx_of(&row.member_b), a_first, b_first }
        };
        let matches: Vec<MatchVotes> = rows.iter().map(match_votes).collect();
        let mut n_votes = vec![0; members.len()];
        for votes in &matches {
            for member in [votes.a, votes.b] {
                n_votes[member] += votes.votes_a() + votes.votes_b();
            }
        }
        let mut n_rated = vec![0; members.len()];
        for row in rows {
            for (name, copies) in [&row.member_a, &row.member_b].into_iter().zip(row.copies) {
                let member = idx_of(name);
                n_rated[member] = if n_votes[member] > 0 { copies } else { 0 };
            }
        }
        let knows_order = rows.iter().all(|row| row.votes().1);
        let mut biases = rows.iter().map(RecordedMatch::recorded_bias);
        let first = biases.next().flatten();
        let recorded_bias = first.filter(|_| knows_order && biases.all(|bias| bias == first));
        Self { members, matches, n_votes, n_rated, knows_order, recorded_bias }
    }

    fn win_rates(&self) -> Vec<MemberRating> {
        let shares = win_rate(self.members.len(), &self.matches);
        let rating = |win_rate| MemberRating { win_rate, ..MemberRating::default() };
        shares.into_iter().map(rating).collect()
    }

    fn ratings(&self, fit: &BradleyTerry) -> Vec<MemberRating> {
        let theta = |member: usize| fit.ratings[member].theta;
        let beats = |a: usize, b: usize| 1.0 / (1.0 + (theta(b) - theta(a)).exp());
        let to_elo = ELO_SCALE / std::f64::consts::LN_10;
        let win_rates = expected_win_rate(&self.n_rated, &beats);
        let rating = |member: usize| MemberRating {
            rating: Some(elo_number(theta(member))),
            stderr: Some(fit.ratings[member].stderr * to_elo),
            win_rate: win_rates[member],
        };
        (0..self.members.len()).map(rating).collect()
    }

    fn elo(&self, config: &EloConfig, seed: Seed) -> Vec<MemberRating> {
        let name = |member: &&RecordedId| serde_json::to_string(member).unwrap_or_default();
        let key = |member: &&RecordedId| Seed::new(0).child_str("member", &name(member)).0;
        let keys: Vec<u64> = self.members.iter().map(key).collect();
        let numbers = elo(&keys, &self.matches, config, seed);
        let beats =
            |a: usize, b: usize| 1.0 / (1.0 + 10f64.powf((numbers[b] - numbers[a]) / ELO_SCALE));
        let win_rates = expected_win_rate(&self.n_rated, &beats);
        let rating = |member: usize| MemberRating {
            rating: Some(numbers[member]),
            stderr: None,
            win_rate: win_rates[member],
        };
        (0..self.members.len()).map(rating).collect()
    }

    /// The output lines of the members, ranked by rating or else by win rate.
    fn lines(&self, group_id: &RecordedId, mut ratings: Vec<MemberRating>) -> Vec<RatingLine> {
        for (rating, &n_votes) in ratings.iter_mut().zip(&self.n_votes) {
            if n_votes == 0 {
                *rating = MemberRating::default();
            }
        }
        let value = |rating: &MemberRating| rating.rating.or(rating.win_rate);
        let values: Vec<(f64, u32)> = ratings
            .iter()
            .zip(&self.n_rated)
            .filter_map(|(rating, &n_rated)| Some((value(rating)?, n_rated)))
            .collect();
        let rank = |value: f64| {
            let better = values.iter().filter(|(other, _)| *other > value + 1e-9);
            better.map(|(_, n_rated)| *n_rated as usize).sum::<usize>() + 1
        };
        let line = |(member, rating): (&&RecordedId, &MemberRating)| RatingLine {
            group_id: group_id.clone(),
            member: (*member).clone(),
            rating: rating.rating,
            rating_stderr: rating.stderr,
            win_rate: rating.win_rate,
            rank: value(rating).map(rank),
        };
        self.members.iter().zip(&ratings).map(line).collect()
    }
}
