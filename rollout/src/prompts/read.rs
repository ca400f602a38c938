//! Prompt files: JSON Lines and Parquet, both as JSON rows, checked line by line.

use std::collections::BTreeMap;
use std::path::Path;

use joust_schema::ids::PromptId;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use serde_json::{Map, Value};

use super::row::PromptRow;
use crate::config::PromptsConfig;
use crate::error::Error;

type JsonRow = Map<String, Value>;

/// Reads and checks all rows.
pub(super) fn rows(config: &PromptsConfig) -> Result<Vec<PromptRow>, Error> {
    let path = &config.path;
    let numbered = json_rows(path)?;
    if numbered.is_empty() {
        let reason = "no prompts in this file; wanted at least one".to_owned();
        return Err(Error::Prompts { path: path.clone(), reason });
    }
    let mut line_of_id: BTreeMap<PromptId, usize> = BTreeMap::new();
    let mut rows = Vec::with_capacity(numbered.len());
    for (line, row) in numbered {
        let bad = |reason: String| Error::Prompt { path: path.clone(), line, reason };
        let row = prompt_row(config, &row, &mut line_of_id, line).map_err(bad)?;
        rows.push(row);
    }
    Ok(rows)
}

fn json_rows(path: &Path) -> Result<Vec<(usize, JsonRow)>, Error> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("jsonl" | "ndjson" | "json") => Ok(joust_schema::jsonl::read_numbered(path)?),
        Some("parquet") => parquet_rows(path),
        _ => Err(Error::Prompts {
            path: path.to_owned(),
            reason: "unknown file type; wanted a name that ends in .jsonl or .parquet".to_owned(),
        }),
    }
}

fn parquet_rows(path: &Path) -> Result<Vec<(usize, JsonRow)>, Error> {
    let rows = joust_schema::parquet::read_json(path)?;
    let object = |(idx, row): (usize, Value)| match row {
        Value::Object(row) => (idx + 1, row),
        _ => (idx + 1, JsonRow::new()),
    };
    Ok(rows.into_iter().enumerate().map(object).collect())
}

fn prompt_row(
    config: &PromptsConfig,
    row: &JsonRow,
    line_of_id: &mut BTreeMap<PromptId, usize>,
    line: usize,
) -> Result<PromptRow, String> {
    let column = &config.prompt_column;
    let value = row.get(column).or_else(|| row.get("messages")).ok_or_else(|| {
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        format!("column `{column}` is missing (there are: {}); set prompt_column", keys.join(", "))
    })?;
    let prompt = prompt(value).map_err(|reason| format!("column `{column}` {reason}"))?;
    let given = row.get("prompt_id").or_else(|| row.get("id")).and_then(text_of);
    let prompt_id = match given {
        Some(id) => {
            let id = PromptId(id);
            if let Some(first) = line_of_id.insert(id.clone(), line) {
                return Err(format!("prompt id `{id}` is on line {first} already; ids are unique"));
            }
            id
        }
        None => {
            let key = Seed::new(0).child_str("prompt", &prompt.to_column());
            PromptId(format!("{:016x}", key.0))
        }
    };
    let ground_truth = || row.get("reward_model")?.get("ground_truth");
    let answer = row.get(&config.answer_column).or_else(ground_truth).and_then(text_of);
    Ok(PromptRow { prompt_id, prompt, answer })
}

/// Texts and numbers as text; other values are neither ids nor answers.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn prompt(value: &Value) -> Result<Prompt, String> {
    let prompt = match value {
        // Parquet files often hold messages as JSON text
        Value::String(text) => Prompt::from_column(text.clone())
            .map_err(|error| format!("is no list of messages with role and content: {error}"))?,
        Value::Array(_) => {
            let prompt = serde_json::from_value(value.clone());
            prompt
                .map_err(|error| format!("is no list of messages with role and content: {error}"))?
        }
        other => {
            let kind = match other {
                Value::Null => "null",
                Value::Bool(_) => "a truth value",
                Value::Number(_) => "a number",
                _ => "an object",
            };
            return Err(format!("is {kind}, wanted a text or a list of messages"));
        }
    };
    match prompt.problem() {
        Some(problem) => Err(format!("{problem}; leave the line out or write a prompt")),
        None => Ok(prompt),
    }
}
