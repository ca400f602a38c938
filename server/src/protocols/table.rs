//! Arrow tables of completions to groups, and results to tables of rewards. Pure: knows no bytes,
//! sockets or judge.
//!
//! In: one row per completion with the columns `group_id`, `prompt` and `completion`, optionally
//! `member` and `answer`; a `rollouts` table as it is. Rows of a group are adjacent. Out: rows of
//! the `rewards` table.

mod texts;

use std::collections::BTreeSet;

use arrow::array::{Array as _, AsArray as _, Int32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use joust_schema::ids::{GroupId, Member};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{Reward, Status};
use serde_json::Value;

use crate::problem::Problem;
use crate::wire::ScoreGroupRequest;
use joust_reward::arena::GroupResult;
use texts::Texts;

/// What the rows of a group are called in the answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Labels {
    pub(crate) group_id: GroupId,
    pub(crate) members: Vec<Member>,
}

/// Rows whose columns are looked at together.
const WINDOW: usize = 4096;

/// Cuts a table into groups, batch by batch.
pub(crate) struct Groups {
    max_bytes: usize,
    columns: Option<Columns>,
    /// The next row of `columns`.
    row: usize,
    /// Rows before `columns`.
    n_before: usize,
    /// Rows of the batch after `columns`.
    rest: Option<RecordBatch>,
    open: Option<Group>,
    /// Hashes of the groups that have ended: eight bytes a group, so that a table in another order
    /// is noticed.
    ended: BTreeSet<u64>,
}

/// The columns of a batch that count.
struct Columns {
    group_id: Texts,
    prompt: Texts,
    completion: Texts,
    member: Option<Int32Array>,
    answer: Option<Texts>,
    n_rows: usize,
}

/// A group whose rows are being read.
struct Group {
    group_id: String,
    prompt: String,
    answer: Option<String>,
    completions: Vec<String>,
    members: Vec<Member>,
    /// The members that have a number of their own.
    numbered: BTreeSet<Member>,
    n_bytes: usize,
}

impl Groups {
    /// Groups of at most `max_bytes` of text.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            columns: None,
            row: 0,
            n_before: 0,
            rest: None,
            open: None,
            ended: BTreeSet::new(),
        }
    }

    /// Takes a batch in; the one before must have been read to its end by [`Groups::next`]. A batch
    /// without rows ends the group that is open: for clients that wait for its rewards before they
    /// send more.
    ///
    /// # Errors
    /// [`Problem::Invalid`] where a column is missing or has another type.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let n_rows = batch.num_rows().min(WINDOW);
        let columns = Columns::new(&batch.slice(0, n_rows)).map_err(Problem::Invalid)?;
        self.n_before += self.columns.as_ref().map_or(0, |before| before.n_rows);
        self.row = 0;
        self.columns = Some(columns);
        let n_left = batch.num_rows() - n_rows;
        self.rest = (n_left > 0).then(|| batch.slice(n_rows, n_left));
        Ok(())
    }

    /// The next group that has ended; none where more rows are needed to know.
    ///
    /// # Errors
    /// [`Problem`]; nothing more can be read then.
    pub(crate) fn next(&mut self) -> Result<Option<(Labels, ScoreGroupRequest)>, Problem> {
        loop {
            let Some(columns) = &self.columns else { return Ok(None) };
            if columns.n_rows == 0 {
                return Ok(self.finish());
            }
            if self.row == columns.n_rows {
                match self.rest.take() {
                    Some(rest) => self.push(&rest)?,
                    None => return Ok(None),
                }
                continue;
            }
            let at = self.n_before + self.row;
            let bad = |what: String| Problem::Invalid(format!("row {at}: {what}"));
            let row = columns.row(self.row).map_err(bad)?;
            let group = match &mut self.open {
                Some(open) if open.group_id == row.group_id => open,
                Some(_) => return Ok(self.finish()),
                None => {
                    let id = row.group_id;
                    if self.ended.contains(&hash(id)) {
                        return Err(bad(format!("rows of group {id} are not next to each other")));
                    }
                    self.open.insert(Group::new(&row))
                }
            };
            group.add(&row).map_err(bad)?;
            if group.n_bytes > self.max_bytes {
                let (id, max) = (row.group_id, self.max_bytes);
                let reason = format!("row {at}: group {id} is larger than {max} bytes");
                return Err(Problem::TooLarge(reason));
            }
            self.row += 1;
        }
    }

    /// The group that is open when no more rows come.
    pub(crate) fn finish(&mut self) -> Option<(Labels, ScoreGroupRequest)> {
        let group = self.open.take()?;
        self.ended.insert(hash(&group.group_id));
        Some(group.into_request())
    }
}

fn hash(group_id: &str) -> u64 {
    Seed::new(0).child_str("group", group_id).0
}

/// One row.
struct Row<'a> {
    group_id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    member: Option<Member>,
    answer: Option<&'a str>,
}

impl Columns {
    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let texts = |name: &str| {
            let column = batch.column_by_name(name)?;
            Some(Texts::new(column).map_err(|reason| format!("column {name} {reason}")))
        };
        let wanted =
            |name: &str| texts(name).ok_or_else(|| format!("column {name} is missing")).flatten();
        let member = batch.column_by_name("member").map(|column| {
            let kind = column.data_type();
            let wrong = || format!("column member has type {kind}, wanted Int32");
            if !kind.is_integer() {
                return Err(wrong());
            }
            let numbers = cast(column, &DataType::Int32).map_err(|_| wrong())?;
            Ok(numbers.as_primitive::<Int32Type>().clone())
        });
        Ok(Self {
            group_id: wanted("group_id")?,
            prompt: wanted("prompt")?,
            completion: wanted("completion")?,
            member: member.transpose()?,
            answer: texts("answer").transpose()?,
            n_rows: batch.num_rows(),
        })
    }

    fn row(&self, row: usize) -> Result<Row<'_>, String> {
        let wanted = |column: &'static str| move || format!("{column} is null");
        let member = self.member.as_ref().map(|numbers| {
            let number = numbers.is_valid(row).then(|| numbers.value(row));
            let member = number.and_then(|number| u32::try_from(number).ok());
            member.map(Member).ok_or_else(|| "member is no number of 0 or more".to_owned())
        });
        Ok(Row {
            group_id: self.group_id.get(row).ok_or_else(wanted("group_id"))?,
            prompt: self.prompt.get(row).ok_or_else(wanted("prompt"))?,
            completion: self.completion.get(row).ok_or_else(wanted("completion"))?,
            member: member.transpose()?,
            answer: self.answer.as_ref().and_then(|answers| answers.get(row)),
        })
    }
}

impl Group {
    fn new(row: &Row<'_>) -> Self {
        Self {
            group_id: row.group_id.to_owned(),
            prompt: row.prompt.to_owned(),
            answer: row.answer.map(str::to_owned),
            completions: Vec::new(),
            members: Vec::new(),
            numbered: BTreeSet::new(),
            n_bytes: row.prompt.len(),
        }
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), String> {
        let of_group = &self.group_id;
        if row.prompt != self.prompt {
            return Err(format!("group {of_group} has two prompts"));
        }
        if row.answer != self.answer.as_deref() {
            return Err(format!("group {of_group} has two answers"));
        }
        if let Some(member) = row.member
            && !self.numbered.insert(member)
        {
            return Err(format!("group {of_group} has member {} twice", member.0));
        }
        let member = row.member.unwrap_or(Member(self.members.len() as u32));
        self.members.push(member);
        self.completions.push(row.completion.to_owned());
        // the text, and what lies around it
        self.n_bytes += row.completion.len() + size_of::<String>() + size_of::<Member>();
        Ok(())
    }

    fn into_request(self) -> (Labels, ScoreGroupRequest) {
        let request = ScoreGroupRequest {
            prompt: Some(prompt(self.prompt)),
            completions: self.completions.into_iter().map(Prompt::Text).collect(),
            answer: self.answer.map(Value::String),
            group_id: Some(self.group_id.clone()),
            ..ScoreGroupRequest::default()
        };
        (Labels { group_id: GroupId(self.group_id), members: self.members }, request)
    }
}

/// The reverse of [`Prompt::to_column`]: a list of chat messages as JSON is a chat, all else a
/// text.
fn prompt(text: String) -> Prompt {
    match serde_json::from_str::<Vec<Message>>(&text) {
        Ok(messages) if !messages.is_empty() => Prompt::Messages(messages),
        _ => Prompt::Text(text),
    }
}

/// The rows of a group that was judged, with its client's own numbers of the members.
///
/// # Errors
/// Where the text exceeds Arrow's limits.
pub(crate) fn rewards(
    labels: &Labels,
    result: &GroupResult,
) -> Result<RecordBatch, joust_schema::Error> {
    let rows = result.rewards.iter().zip(&labels.members);
    let labelled = rows.map(|(row, &member)| Reward { member, ..row.clone() });
    Reward::to_batch(&labelled.collect::<Vec<_>>())
}

/// The rows of a group that was not judged to its end.
///
/// # Errors
/// Where the text exceeds Arrow's limits.
pub(crate) fn without_rewards(
    labels: &Labels,
    status: Status,
) -> Result<RecordBatch, joust_schema::Error> {
    let row = |&member: &Member| Reward {
        group_id: labels.group_id.clone(),
        member,
        status,
        reward: None,
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 0,
        losses: 0,
        rank: None,
        advantage: None,
    };
    Reward::to_batch(&labels.members.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
