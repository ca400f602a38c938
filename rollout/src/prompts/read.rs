//! Prompt files: which columns hold prompt, id and answer, and what may be in them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use joust_schema::ids::PromptId;
use joust_schema::ordered_json::OrderedJson;
use joust_schema::prompt::{Prompt, PromptUse};
use joust_schema::rows::{self, MESSAGES, Place, Row, TEMPLATE_COLUMNS, VERL_COLUMN};
use joust_schema::seed::Seed;

use super::row::{PromptNeeds, PromptRow};
use crate::config::{IdColumn, PromptsConfig};
use crate::error::Error;

type SchemaResult<T> = Result<T, joust_schema::Error>;

/// Reads and checks the rows, at most `max_prompts` of them.
pub(super) fn rows(config: &PromptsConfig, needs: PromptNeeds) -> Result<Vec<PromptRow>, Error> {
    let path = &config.path;
    let id_columns: &[&str] = match &config.id_column {
        IdColumn::Auto => &["prompt_id", "id"],
        IdColumn::None => &[],
        IdColumn::Named(name) => &[name.as_str()],
    };
    let mut columns =
        vec![config.prompt_column.as_str(), MESSAGES, config.answer_column.as_str(), VERL_COLUMN];
    columns.extend(TEMPLATE_COLUMNS);
    columns.extend(id_columns);
    let mut reader =
        PromptReader { config, needs, id_columns, place_of_id: BTreeMap::new(), rows: Vec::new() };
    let mut each = |row: Row| {
        reader.add(&row)?;
        let has_enough = config.max_prompts > 0 && reader.rows.len() == config.max_prompts;
        Ok(if has_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    match needs.keeps_rows {
        true => rows::read_whole(path, &mut each)?,
        false => rows::read(path, &columns, &mut each)?,
    }
    match reader.rows.is_empty() {
        true => Err(Error::Prompts {
            path: path.clone(),
            reason: "no prompts in this file; wanted at least one".to_owned(),
        }),
        false => Ok(reader.rows),
    }
}

/// What to do about a column of another meaning.
const OTHER_COLUMN: &str = "; set prompts.answer_column to another column";

struct PromptReader<'a> {
    config: &'a PromptsConfig,
    needs: PromptNeeds,
    id_columns: &'a [&'a str],
    place_of_id: BTreeMap<PromptId, Place>,
    rows: Vec<PromptRow>,
}

impl PromptReader<'_> {
    fn add(&mut self, row: &Row) -> SchemaResult<()> {
        let prompt = prompt(row, &self.config.prompt_column, self.needs.purpose)?;
        let template_kwargs = row.template_kwargs(&prompt)?;
        let prompt_id = match self.given_id(row)? {
            Some(id) => self.unique(id, row)?,
            None => {
                let key = Seed::new(0).child_str("prompt", &prompt.to_column());
                // the same question with other tools is another prompt
                let key = match template_kwargs.0.is_empty() {
                    true => key,
                    false => key.child_str(
                        "kwargs",
                        &OrderedJson::Object(template_kwargs.clone()).to_string(),
                    ),
                };
                PromptId(format!("{:016x}", key.0))
            }
        };
        let answer = self.answer(row)?;
        let columns = self.needs.keeps_rows.then(|| row.object().into());
        self.rows.push(PromptRow { prompt_id, prompt, template_kwargs, answer, columns });
        Ok(())
    }

    fn answer(&self, row: &Row) -> SchemaResult<Option<String>> {
        let answer = row.answer_for(self.needs.purpose, &self.config.answer_column);
        answer.map_err(|error| match error {
            // the reason comes last, and a remedy behind it
            joust_schema::Error::Line { path, line, reason } => {
                joust_schema::Error::Line { path, line, reason: reason + OTHER_COLUMN }
            }
            joust_schema::Error::Row { path, row, reason } => {
                joust_schema::Error::Row { path, row, reason: reason + OTHER_COLUMN }
            }
            other => other,
        })
    }

    fn given_id(&self, row: &Row) -> SchemaResult<Option<String>> {
        for column in self.id_columns {
            if let Some(id) = row.id(column)? {
                return Ok(Some(id));
            }
        }
        match &self.config.id_column {
            IdColumn::Named(name) => Err(row.missing(name)),
            IdColumn::Auto | IdColumn::None => Ok(None),
        }
    }

    fn unique(&mut self, id: String, row: &Row) -> SchemaResult<PromptId> {
        let id = PromptId(id);
        match self.place_of_id.insert(id.clone(), row.place()) {
            None => Ok(id),
            Some(first) => Err(row.error(format!(
                "prompt id `{id}` is on {first} already; ids are unique: set prompts.id_column to \
                 another column, or to \"none\""
            ))),
        }
    }
}

/// The prompt of a row.
///
/// # Errors
/// What the cell is instead, with the place and the column.
fn prompt(row: &Row, column: &str, purpose: PromptUse) -> SchemaResult<Prompt> {
    if !row.has(column) && !row.has(MESSAGES) {
        return Err(row.error(format!("{}; set prompts.prompt_column", row.missing_reason(column))));
    }
    let (column, prompt) = row.open_prompt(column)?;
    match purpose.problem(&prompt) {
        Some(problem) => {
            let text = format!("{problem}; leave the row out or write a prompt");
            Err(row.cell_error(column, text))
        }
        None => Ok(prompt),
    }
}
