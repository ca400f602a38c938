//! Arrow tables of completions to groups, and results to tables of rewards. Pure: knows no bytes,
//! sockets or judge.
//!
//! In: one row per completion with the columns `group_id`, `prompt` and `completion`, optionally
//! `member` and `answer`; a `rollouts` table has them. Rows of a group are adjacent. Out: rows of
//! the `rewards` table.

mod text_column;

use std::collections::BTreeSet;

use arrow::array::{Array as _, ArrayData, ArrayRef, AsArray as _, Int32Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use joust_schema::ids::{GroupId, Member};
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{Reward, Status};

use super::group_stream::StreamedGroup;
use crate::group::NewGroup;
use crate::problem::Problem;
use joust_reward::arena::GroupResult;
use text_column::TextColumn;

/// Group id and member numbers of a group's rows, as the client sent them; the answer has the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowLabels {
    pub(crate) group_id: GroupId,
    pub(crate) members: Vec<Member>,
}

/// Number of rows whose columns are converted at once.
const WINDOW_ROWS: usize = 4096;

/// Size of a batch beyond which the work on one of its groups may take long.
const LARGE_BATCH_BYTES: usize = 4 << 20;

/// Maximum size of a batch with its dictionaries, which may have grown with every batch before.
const MAX_BATCH_BYTES: usize = 128 << 20;

/// Size of the values of a batch, dictionaries included.
fn batch_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size();
    // a type without a known size is none of the columns that are read
    batch.columns().iter().map(|column| bytes(column).unwrap_or(0)).sum()
}

/// Size of the dictionaries of a column; batches of a stream have them in common.
fn dictionary_bytes(column: &ArrayData) -> usize {
    let children = column.child_data().iter();
    match column.data_type() {
        DataType::Dictionary(..) => {
            children.map(|values| values.get_slice_memory_size().unwrap_or(0)).sum()
        }
        _ => children.map(dictionary_bytes).sum(),
    }
}

/// Splits a table into groups, batch by batch.
pub(crate) struct GroupSplitter {
    max_bytes: usize,
    /// Size of the batch that is read, with its dictionaries.
    batch_bytes: usize,
    /// Size of those dictionaries.
    dictionary_bytes: usize,
    /// The rows that are being read.
    window: Option<BatchWindow>,
    /// Position of the next row in `window`.
    row: usize,
    /// Number of rows of the table before `window`.
    n_before: usize,
    /// Rows of the batch after `window`.
    rest: Option<RecordBatch>,
    open: Option<OpenRows>,
    /// Hashes of the groups that have ended, eight bytes per group: a group whose rows are not
    /// adjacent is refused.
    ended: BTreeSet<u64>,
}

/// The columns of some rows.
struct BatchWindow {
    group_id: TextColumn,
    prompt: TextColumn,
    completion: TextColumn,
    member: Option<Int32Array>,
    answer: Option<TextColumn>,
    n_rows: usize,
}

/// The rows of a group that has not ended.
struct OpenRows {
    group_id: String,
    prompt: String,
    answer: Option<String>,
    completions: Vec<String>,
    members: Vec<Member>,
    /// Members whose number stands in the table.
    numbered: BTreeSet<Member>,
    n_bytes: usize,
}

impl GroupSplitter {
    /// For groups of at most `max_bytes` of text.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            batch_bytes: 0,
            dictionary_bytes: 0,
            window: None,
            row: 0,
            n_before: 0,
            rest: None,
            open: None,
            ended: BTreeSet::new(),
        }
    }

    /// Memory of what is kept for further batches, in bytes: the rows of the open group, and the
    /// dictionaries of the last batch.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.dictionary_bytes + self.open.as_ref().map_or(0, |open| open.n_bytes)
    }

    /// Size of a batch that is large enough for the work on its groups to take long; else 0.
    pub(crate) fn n_bytes(&self) -> usize {
        if self.batch_bytes > LARGE_BATCH_BYTES { self.batch_bytes } else { 0 }
    }

    /// Takes a batch in, once [`GroupSplitter::next`] has returned all groups of the one before. A
    /// batch without rows ends the open group: a client may wait for its rewards before it sends
    /// more.
    ///
    /// # Errors
    /// [`Problem::Invalid`] if a column is missing or has another type; [`Problem::TooLarge`] if
    /// the dictionaries of the batch have grown beyond what one batch may hold.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        self.batch_bytes = batch_bytes(batch);
        if self.batch_bytes > MAX_BATCH_BYTES {
            let reason =
                format!("a batch with its dictionaries is larger than {MAX_BATCH_BYTES} bytes");
            return Err(Problem::TooLarge(reason));
        }
        let dictionaries = |column: &ArrayRef| dictionary_bytes(&column.to_data());
        self.dictionary_bytes = batch.columns().iter().map(dictionaries).sum();
        self.push_rows(batch)
    }

    /// Converts the first rows of a batch and keeps the others.
    fn push_rows(&mut self, batch: &RecordBatch) -> Result<(), Problem> {
        let n_rows = batch.num_rows().min(WINDOW_ROWS);
        let window = BatchWindow::new(&batch.slice(0, n_rows)).map_err(Problem::Invalid)?;
        self.n_before += self.window.as_ref().map_or(0, |before| before.n_rows);
        self.row = 0;
        self.window = Some(window);
        let n_left = batch.num_rows() - n_rows;
        self.rest = (n_left > 0).then(|| batch.slice(n_rows, n_left));
        Ok(())
    }

    /// The next group that has ended; `None` if more rows are needed.
    ///
    /// # Errors
    /// [`Problem`]; the rest of the table cannot be read then.
    pub(crate) fn next(&mut self) -> Result<Option<StreamedGroup<RowLabels>>, Problem> {
        loop {
            let Some(window) = &self.window else { return Ok(None) };
            if window.n_rows == 0 {
                return Ok(self.finish());
            }
            if self.row == window.n_rows {
                match self.rest.take() {
                    Some(rest) => self.push_rows(&rest)?,
                    None => return Ok(None),
                }
                continue;
            }
            let at = self.n_before + self.row;
            let bad = |what: String| Problem::Invalid(format!("row {at}: {what}"));
            let row = window.row(self.row).map_err(bad)?;
            let open = match &mut self.open {
                Some(open) if open.group_id == row.group_id => open,
                Some(_) => return Ok(self.finish()),
                None => {
                    let id = row.group_id;
                    if self.ended.contains(&hash(id)) {
                        return Err(bad(format!("rows of group {id} are not next to each other")));
                    }
                    self.open.insert(OpenRows::new(&row))
                }
            };
            open.add(&row).map_err(bad)?;
            if open.n_bytes > self.max_bytes {
                let (id, max) = (row.group_id, self.max_bytes);
                let reason = format!("row {at}: group {id} is larger than {max} bytes");
                return Err(Problem::TooLarge(reason));
            }
            self.row += 1;
        }
    }

    /// Ends the open group and returns it; for the end of the table.
    pub(crate) fn finish(&mut self) -> Option<StreamedGroup<RowLabels>> {
        let open = self.open.take()?;
        self.ended.insert(hash(&open.group_id));
        Some(open.into_group())
    }
}

fn hash(group_id: &str) -> u64 {
    Seed::new(0).child_str("group", group_id).0
}

/// One row.
struct CompletionRow<'a> {
    group_id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    member: Option<Member>,
    answer: Option<&'a str>,
}

impl BatchWindow {
    fn new(batch: &RecordBatch) -> Result<Self, String> {
        let texts = |name: &str| {
            let column = batch.column_by_name(name)?;
            Some(TextColumn::new(column).map_err(|reason| format!("column {name} {reason}")))
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

    fn row(&self, row: usize) -> Result<CompletionRow<'_>, String> {
        let wanted = |column: &'static str| move || format!("{column} is null");
        let member = self.member.as_ref().map(|numbers| {
            let number = numbers.is_valid(row).then(|| numbers.value(row));
            let member = number.and_then(|number| u32::try_from(number).ok());
            member.map(Member).ok_or_else(|| "member is no number of 0 or more".to_owned())
        });
        Ok(CompletionRow {
            group_id: self.group_id.get(row).ok_or_else(wanted("group_id"))?,
            prompt: self.prompt.get(row).ok_or_else(wanted("prompt"))?,
            completion: self.completion.get(row).ok_or_else(wanted("completion"))?,
            member: member.transpose()?,
            answer: self.answer.as_ref().and_then(|answers| answers.get(row)),
        })
    }
}

impl OpenRows {
    fn new(row: &CompletionRow<'_>) -> Self {
        Self {
            group_id: row.group_id.to_owned(),
            prompt: row.prompt.to_owned(),
            answer: row.answer.map(str::to_owned),
            completions: Vec::new(),
            members: Vec::new(),
            numbered: BTreeSet::new(),
            n_bytes: 0,
        }
    }

    fn add(&mut self, row: &CompletionRow<'_>) -> Result<(), String> {
        let group_id = &self.group_id;
        if row.prompt != self.prompt {
            return Err(format!("group {group_id} has two prompts"));
        }
        if row.answer != self.answer.as_deref() {
            return Err(format!("group {group_id} has two answers"));
        }
        if let Some(member) = row.member
            && !self.numbered.insert(member)
        {
            return Err(format!("group {group_id} has member {} twice", member.0));
        }
        let member = row.member.unwrap_or(Member(self.members.len() as u32));
        self.members.push(member);
        self.completions.push(row.completion.to_owned());
        // empty texts take memory, too; texts of a dictionary take time in each row
        let texts = [row.group_id, row.prompt, row.completion, row.answer.unwrap_or_default()];
        self.n_bytes += texts.map(str::len).iter().sum::<usize>();
        self.n_bytes += size_of::<String>() + size_of::<Member>();
        Ok(())
    }

    fn into_group(self) -> StreamedGroup<RowLabels> {
        let prompt = Prompt::from_column(self.prompt)
            .map_err(|reason| Problem::Invalid(format!("prompt: {reason}")));
        let mut group = prompt.and_then(|prompt| NewGroup::new(&prompt, self.completions));
        if let Ok(group) = &mut group {
            group.reference = self.answer;
            group.group_id = Some(self.group_id.clone());
        }
        let tag = RowLabels { group_id: GroupId(self.group_id), members: self.members };
        StreamedGroup { tag, group }
    }
}

/// The rows of a judged group, with the client's member numbers.
///
/// # Errors
/// If the texts exceed Arrow's limits.
pub(crate) fn rewards(
    labels: &RowLabels,
    result: &GroupResult,
) -> Result<RecordBatch, joust_schema::Error> {
    let rows = result.rewards.iter().zip(&labels.members);
    let labelled = rows.map(|(row, &member)| Reward { member, ..row.clone() });
    Reward::to_batch(&labelled.collect::<Vec<_>>())
}

/// The rows of a group that has no result.
///
/// # Errors
/// If the texts exceed Arrow's limits.
pub(crate) fn without_rewards(
    labels: &RowLabels,
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
