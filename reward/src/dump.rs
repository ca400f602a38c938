//! The evidence on disk: matches, votes and rewards as Parquet.

use std::path::Path;

use joust_schema::parquet;
use joust_schema::table::Table;
use joust_schema::tables::{Match, Reward, Vote};

use crate::arena::GroupResult;
use crate::error::Error;

/// A written file: its name, its table and its number of rows.
pub type Written = (String, &'static str, usize);

/// Writes `matches.parquet`, `votes.parquet` and `rewards.parquet` into `dir`.
///
/// # Errors
/// [`Error::Schema`]; no file is left half-written.
pub fn write(dir: &Path, results: &[GroupResult]) -> Result<Vec<Written>, Error> {
    let rewards = results.iter().flat_map(|result| result.rewards.iter().cloned()).collect();
    let mut written = write_evidence(dir, results)?;
    written.push(write_table::<Reward>(dir, rewards)?);
    Ok(written)
}

/// Writes `matches.parquet` and `votes.parquet` into `dir`.
///
/// # Errors
/// [`Error::Schema`]; no file is left half-written.
pub fn write_evidence(dir: &Path, results: &[GroupResult]) -> Result<Vec<Written>, Error> {
    let matches = results.iter().flat_map(|result| result.matches.iter().cloned()).collect();
    let votes = results.iter().flat_map(|result| result.votes.iter().cloned()).collect();
    Ok(vec![write_table::<Match>(dir, matches)?, write_table::<Vote>(dir, votes)?])
}

fn write_table<T: Table>(dir: &Path, rows: Vec<T>) -> Result<Written, Error> {
    let file = format!("{}.parquet", T::NAME);
    parquet::write(&dir.join(&file), &rows)?;
    Ok((file, T::NAME, rows.len()))
}
