//! `joust dump show`: rows as a table for people, or as JSON lines.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use joust_schema::table::{TABLE_KEY, VERSION_KEY};
use joust_schema::{parquet, rows};
use serde_json::Value;

use crate::failure::UserError;
use crate::output;

/// Arguments of `joust dump show`.
#[derive(Args)]
pub(crate) struct ShowArgs {
    /// Parquet file, or a folder with Parquet files.
    path: PathBuf,
    /// Number of rows per file; 0 for all.
    #[arg(long, default_value_t = 10)]
    rows: usize,
    /// Only these columns, separated by commas.
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// Prints JSON lines.
    #[arg(long)]
    json: bool,
}

/// Maximum number of characters of a table cell.
const MAX_CELL_CHARS: usize = 48;

pub(crate) fn run(args: ShowArgs) -> anyhow::Result<()> {
    let files = super::files::parquet_files(&args.path)?;
    check_columns(&args.columns, &files, &args.path)?;
    for file in files {
        let schema = parquet::schema(&file)?;
        let columns: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|name| args.columns.is_empty() || args.columns.contains(name))
            .collect();
        let rows = first_rows(&file, &columns, args.rows)?;
        if args.json {
            for row in rows {
                let picked = columns.iter().cloned().zip(row);
                output::line(Value::Object(picked.collect()).to_string());
            }
            continue;
        }
        let metadata = schema.metadata();
        let contract = metadata.get(TABLE_KEY).zip(metadata.get(VERSION_KEY));
        let contract =
            contract.map_or(String::new(), |(name, version)| format!(" ({name} {version})"));
        let n_rows = parquet::n_rows(&file)?;
        output::line(format!("{}{contract}: {n_rows} rows", file.display()));
        print_table(&columns, &rows);
        output::line("");
    }
    Ok(())
}

/// Refuses columns that none of the files has.
fn check_columns(wanted: &[String], files: &[PathBuf], path: &Path) -> anyhow::Result<()> {
    let mut names = BTreeSet::new();
    for file in files {
        let schema = parquet::schema(file)?;
        names.extend(schema.fields().iter().map(|field| field.name().clone()));
    }
    match wanted.iter().find(|name| !names.contains(*name)) {
        Some(name) => {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            let text = format!("{}: no column `{name}` (there are: {names})", path.display());
            Err(UserError::new(text).into())
        }
        None => Ok(()),
    }
}

/// The cells of the first rows, at most `max_rows` unless that is 0.
fn first_rows(
    file: &Path,
    columns: &[String],
    max_rows: usize,
) -> Result<Vec<Vec<Value>>, joust_schema::Error> {
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    if names.is_empty() {
        return Ok(found);
    }
    rows::read(file, &names, &mut |row| {
        let cell = |name: &&str| -> Result<Value, joust_schema::Error> {
            Ok(row.optional(name)?.unwrap_or(Value::Null))
        };
        found.push(names.iter().map(cell).collect::<Result<Vec<_>, _>>()?);
        let has_enough = found.len() == max_rows;
        Ok(if has_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

fn print_table(columns: &[String], rows: &[Vec<Value>]) {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |column: usize| {
        let texts = cells.iter().map(|row| row[column].chars().count());
        texts.chain([columns[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let print = |row: &[String]| {
        let parts = row.iter().zip(&widths).map(|(text, &width)| format!("{text:<width$}"));
        output::line(parts.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(columns);
    for row in &cells {
        print(row);
    }
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.replace('\n', "⏎"),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => format!("{float:.4}"),
            _ => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.len()),
        other => other.to_string(),
    };
    match text.chars().count() > MAX_CELL_CHARS {
        true => text.chars().take(MAX_CELL_CHARS - 1).chain(['…']).collect(),
        false => text,
    }
}
