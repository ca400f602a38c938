//! The files of a step: its tables, listed in the manifest.

use joust_reward::dump;
use joust_schema::manifest::{self, ManifestEntry};
use joust_schema::parquet;
use joust_schema::table::Table as _;
use joust_schema::tables::{Completion, Reward, Rollout};

use super::scored::ScoredStep;
use super::tables::StepTables;
use crate::error::Error;
use crate::run_folder::RunFolder;

/// Writes the tables of a step and lists them in the manifest.
pub(super) fn write(
    run: &RunFolder,
    step: u64,
    scored: &ScoredStep,
    tables: &StepTables,
) -> Result<(), Error> {
    let folder = format!("step_{step:05}");
    let dir = run.dir().join(&folder);
    let mut entries = Vec::new();
    let mut add_entry = |file: String, table: &str, n_rows: usize| {
        entries.push(ManifestEntry::of(run.dir(), &file, table, step as i64, n_rows)?);
        Ok::<(), Error>(())
    };
    for (name, table, n_rows) in dump::write_evidence(&dir, scored.results())? {
        add_entry(format!("{folder}/{name}"), table, n_rows)?;
    }
    let completions = tables.completions(scored)?;
    let files = [
        (format!("{folder}/rollouts.parquet"), Rollout::NAME, &tables.rollouts),
        (format!("{folder}/rewards.parquet"), Reward::NAME, &tables.rewards),
        (format!("completions/completions_{step:05}.parquet"), Completion::NAME, &completions),
    ];
    for (file, table, batch) in files {
        parquet::write_batch(&run.dir().join(&file), batch)?;
        add_entry(file, table, batch.num_rows())?;
    }
    manifest::append(run.dir(), &entries)?;
    Ok(())
}
