//! `joust rate`: recorded matches in, ratings out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use joust_reward::rating::bradley_terry::{BradleyTerryConfig, bradley_terry};
use joust_reward::rating::elo::{EloConfig, elo};
use joust_reward::rating::{ELO_SCALE, MatchVotes, VoteCounts, elo_number, win_rate};
use joust_schema::seed::Seed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::UserError;
use crate::output;

/// Arguments of `joust rate`.
#[derive(Args)]
pub(crate) struct RateArgs {
    /// JSON Lines or Parquet with `group_id`, `member_a`, `member_b`, `votes_a`, `votes_b`, one row
    /// per match. With `a_shown_first`, a row has the votes of one presentation order.
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

/// Id of a group or a member in the file: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum RecordedId {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
struct RecordedMatch {
    group_id: RecordedId,
    member_a: RecordedId,
    member_b: RecordedId,
    votes_a: u32,
    votes_b: u32,
    /// Whether `member_a` was shown first in all votes of the row.
    a_shown_first: Option<bool>,
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
    let (bradley_terry, elo) = settings(&args)?;
    let mut groups: BTreeMap<RecordedId, Vec<RecordedMatch>> = BTreeMap::new();
    for (line, row) in read_matches(&args.input)? {
        if row.member_a == row.member_b {
            return Err(UserError::new(format!(
                "{}:{line}: member_a and member_b are the same",
                args.input.display()
            ))
            .into());
        }
        groups.entry(row.group_id.clone()).or_default().push(row);
    }
    let mut lines = Vec::new();
    for (group_id, rows) in groups {
        let matches = GroupMatches::of(&rows);
        let ratings = match args.method {
            Method::WinRate => matches.win_rates(),
            Method::BradleyTerry => matches.bradley_terry(&bradley_terry),
            Method::Elo => matches.elo(&elo, Seed::new(args.seed)),
        };
        lines.extend(matches.lines(&group_id, ratings));
    }
    output::json_lines(args.output.as_deref(), &lines)
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

fn read_matches(path: &Path) -> anyhow::Result<Vec<(usize, RecordedMatch)>> {
    if path.extension().is_none_or(|ending| ending != "parquet") {
        return Ok(joust_schema::jsonl::read_numbered(path)?);
    }
    let rows: Vec<Value> = joust_schema::parquet::read_json(path)?;
    let parse = |(idx, row)| {
        let row = serde_json::from_value(row).map_err(|error| {
            UserError::new(format!("{}: row {}: {error}", path.display(), idx + 1))
        })?;
        Ok((idx + 1, row))
    };
    rows.into_iter().enumerate().map(parse).collect()
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
    /// Whether the presentation order of all votes is known.
    knows_order: bool,
}

impl<'a> GroupMatches<'a> {
    fn of(rows: &'a [RecordedMatch]) -> Self {
        let mut members: Vec<&RecordedId> =
            rows.iter().flat_map(|row| [&row.member_a, &row.member_b]).collect();
        members.sort();
        members.dedup();
        let idx_of = |name: &RecordedId| members.binary_search(&name).unwrap_or_default();
        let match_votes = |row: &RecordedMatch| {
            let votes = VoteCounts { a: row.votes_a, b: row.votes_b };
            let (a_first, b_first) = match row.a_shown_first {
                Some(false) => (VoteCounts::default(), votes),
                _ => (votes, VoteCounts::default()),
            };
            MatchVotes { a: idx_of(&row.member_a), b: idx_of(&row.member_b), a_first, b_first }
        };
        let matches: Vec<MatchVotes> = rows.iter().map(match_votes).collect();
        let mut n_votes = vec![0; members.len()];
        for votes in &matches {
            for member in [votes.a, votes.b] {
                n_votes[member] += votes.votes_a() + votes.votes_b();
            }
        }
        let knows_order = rows.iter().all(|row| row.a_shown_first.is_some());
        Self { members, matches, n_votes, knows_order }
    }

    fn win_rates(&self) -> Vec<MemberRating> {
        let shares = win_rate(self.members.len(), &self.matches);
        let rating = |win_rate| MemberRating { win_rate, ..MemberRating::default() };
        shares.into_iter().map(rating).collect()
    }

    fn bradley_terry(&self, config: &BradleyTerryConfig) -> Vec<MemberRating> {
        // the position bias can be fitted only if the order of all votes is known
        let position_bias = config.position_bias && self.knows_order;
        let config = BradleyTerryConfig { position_bias, ..*config };
        let fit = bradley_terry(self.members.len(), &self.matches, &config);
        let theta = |member: usize| fit.ratings[member].theta;
        let beats = |a: usize, b: usize| 1.0 / (1.0 + (theta(b) - theta(a)).exp());
        let to_elo = ELO_SCALE / std::f64::consts::LN_10;
        let rating = |member: usize| MemberRating {
            rating: Some(elo_number(theta(member))),
            stderr: Some(fit.ratings[member].stderr * to_elo),
            win_rate: self.mean_win_chance(&beats, member),
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
        let rating = |member: usize| MemberRating {
            rating: Some(numbers[member]),
            stderr: None,
            win_rate: self.mean_win_chance(&beats, member),
        };
        (0..self.members.len()).map(rating).collect()
    }

    /// Mean probability that a member wins against the other members with votes.
    fn mean_win_chance(&self, beats: &dyn Fn(usize, usize) -> f64, member: usize) -> Option<f64> {
        let others = 0..self.members.len();
        let others = others.filter(|&other| other != member && self.n_votes[other] > 0);
        let chances: Vec<f64> = others.map(|other| beats(member, other)).collect();
        (!chances.is_empty()).then(|| chances.iter().sum::<f64>() / chances.len() as f64)
    }

    /// The output lines of the members, ranked by rating or else by win rate.
    fn lines(&self, group_id: &RecordedId, mut ratings: Vec<MemberRating>) -> Vec<RatingLine> {
        for (rating, &n_votes) in ratings.iter_mut().zip(&self.n_votes) {
            if n_votes == 0 {
                *rating = MemberRating::default();
            }
        }
        let value = |rating: &MemberRating| rating.rating.or(rating.win_rate);
        let values: Vec<f64> = ratings.iter().filter_map(value).collect();
        let rank = |value: f64| values.iter().filter(|&&other| other > value + 1e-9).count() + 1;
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
