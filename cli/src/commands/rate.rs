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
    /// JSON Lines or Parquet with `group_id`, `member_a`, `member_b`, `votes_a`, `votes_b`: one row
    /// a match. Rows may tell votes by order of presentation: `a_shown_first`.
    #[arg(long)]
    input: PathBuf,
    /// How votes become ratings.
    #[arg(long, value_enum, default_value_t = Method::BradleyTerry)]
    method: Method,
    /// Where the JSON lines go; standard output if left out.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Spread of the Gaussian prior on Bradley-Terry strengths, in log-odds; large means none.
    #[arg(long)]
    prior_sd: Option<f64>,
    /// Elo's step.
    #[arg(long)]
    k: Option<f64>,
    /// Key of the order in which Elo sees the votes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    BradleyTerry,
    Elo,
    WinRate,
}

/// A member by whatever name the file gives it: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Number(i64),
    Text(String),
}

#[derive(Deserialize)]
struct InputRow {
    group_id: Name,
    member_a: Name,
    member_b: Name,
    votes_a: u32,
    votes_b: u32,
    /// Whether `member_a` was shown first in all votes of the row.
    a_shown_first: Option<bool>,
}

#[derive(Serialize)]
struct OutputRow {
    group_id: Name,
    member: Name,
    rating: Option<f64>,
    rating_stderr: Option<f64>,
    win_rate: Option<f64>,
    rank: Option<usize>,
}

pub(crate) fn run(args: RateArgs) -> anyhow::Result<()> {
    let (bradley_terry, elo) = settings(&args)?;
    let mut groups: BTreeMap<Name, Vec<InputRow>> = BTreeMap::new();
    for (line, row) in read(&args.input)? {
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
        lines.extend(rate(group_id, &rows, &args, &bradley_terry, &elo));
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

fn read(path: &Path) -> anyhow::Result<Vec<(usize, InputRow)>> {
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

fn rate(
    group_id: Name,
    rows: &[InputRow],
    args: &RateArgs,
    bt_config: &BradleyTerryConfig,
    elo_config: &EloConfig,
) -> Vec<OutputRow> {
    let mut members: Vec<&Name> =
        rows.iter().flat_map(|row| [&row.member_a, &row.member_b]).collect();
    members.sort();
    members.dedup();
    let idx_of = |name: &Name| members.binary_search(&name).unwrap_or_default();
    let knows_order = rows.iter().all(|row| row.a_shown_first.is_some());
    let matches: Vec<MatchVotes> = rows
        .iter()
        .map(|row| {
            let votes = VoteCounts { a: row.votes_a, b: row.votes_b };
            let (a_first, b_first) = match row.a_shown_first {
                Some(false) => (VoteCounts::default(), votes),
                _ => (votes, VoteCounts::default()),
            };
            MatchVotes { a: idx_of(&row.member_a), b: idx_of(&row.member_b), a_first, b_first }
        })
        .collect();
    let shares = win_rate(members.len(), &matches);
    let n_votes: Vec<u64> = (0..members.len())
        .map(|member| {
            let of_member = matches.iter().filter(|votes| votes.a == member || votes.b == member);
            of_member.map(|votes| votes.votes_a() + votes.votes_b()).sum()
        })
        .collect();
    let mean_of_others = |beats: &dyn Fn(usize, usize) -> f64, member: usize| {
        let others = (0..members.len()).filter(|&other| other != member && n_votes[other] > 0);
        let chances: Vec<f64> = others.map(|other| beats(member, other)).collect();
        (!chances.is_empty()).then(|| chances.iter().sum::<f64>() / chances.len() as f64)
    };
    let mut found: Vec<(Option<f64>, Option<f64>, Option<f64>)> = match args.method {
        Method::WinRate => shares.iter().map(|&share| (None, None, share)).collect(),
        Method::BradleyTerry => {
            // which answer was shown first is known for all votes or it cannot be fitted
            let position_bias = bt_config.position_bias && knows_order;
            let config = BradleyTerryConfig { position_bias, ..*bt_config };
            let fit = bradley_terry(members.len(), &matches, &config);
            let theta: Vec<f64> = fit.ratings.iter().map(|rating| rating.theta).collect();
            let beats = |a: usize, b: usize| 1.0 / (1.0 + (theta[b] - theta[a]).exp());
            let to_elo = ELO_SCALE / std::f64::consts::LN_10;
            let rating =
                |(member, rating): (usize, &joust_reward::rating::bradley_terry::Strength)| {
                    (
                        Some(elo_number(rating.theta)),
                        Some(rating.stderr * to_elo),
                        mean_of_others(&beats, member),
                    )
                };
            fit.ratings.iter().enumerate().map(rating).collect()
        }
        Method::Elo => {
            let name = |member: &&Name| serde_json::to_string(member).unwrap_or_default();
            let key = |member: &&Name| Seed::new(0).child_str("member", &name(member)).0;
            let keys: Vec<u64> = members.iter().map(key).collect();
            let numbers = elo(&keys, &matches, elo_config, Seed::new(args.seed));
            let beats = |a: usize, b: usize| {
                1.0 / (1.0 + 10f64.powf((numbers[b] - numbers[a]) / ELO_SCALE))
            };
            (0..members.len())
                .map(|member| (Some(numbers[member]), None, mean_of_others(&beats, member)))
                .collect()
        }
    };
    for (member, found) in found.iter_mut().enumerate() {
        if n_votes[member] == 0 {
            // without a valid vote nothing is known
            *found = (None, None, None);
        }
    }
    let by = |(rating, _, win_rate): &(Option<f64>, Option<f64>, Option<f64>)| rating.or(*win_rate);
    let values: Vec<Option<f64>> = found.iter().map(by).collect();
    let rank =
        |value: f64| values.iter().flatten().filter(|&&other| other > value + 1e-9).count() + 1;
    let lines = members.iter().zip(&found).zip(&values);
    lines
        .map(|((member, &(rating, rating_stderr, win_rate)), value)| OutputRow {
            group_id: group_id.clone(),
            member: (*member).clone(),
            rating,
            rating_stderr,
            win_rate,
            rank: value.map(rank),
        })
        .collect()
}
