//! Groups that are to be scored, out of rows.
//!
//! It does not know which groups are scored together.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use joust_reward::GroupRequest;
use joust_schema::Error;
use joust_schema::ids::GroupId;
use joust_schema::prompt::{Completion, PromptUse};
use joust_schema::rows::{MESSAGES, Place, Row, VERL_COLUMN};
use joust_schema::seed::Seed;

use crate::commands::data_rows;
use crate::commands::sets::{RowAt, SetRows, default_id};

/// Makes groups of rows.
///
/// The draws of a group depend on its prompt and its completions, not on its line, its file or the
/// other groups. Groups of equal content are numbered within a set, so that each has draws of its
/// own there.
pub(super) struct GroupMaker {
    seed: Seed,
    purpose: PromptUse,
    n_copies: BTreeMap<u64, u64>,
    /// Where each id was seen, by its hash: some thirty bytes per group.
    place_of_id: HashMap<u64, IdPlace>,
    /// Names of the files so far.
    names: Vec<String>,
}

/// A file by its index, and a row in it.
#[derive(Clone, Copy)]
struct IdPlace {
    file_idx: u32,
    place: PackedPlace,
}

/// The number of a row, and whether it is a line.
#[derive(Clone, Copy)]
struct PackedPlace(u32);

impl PackedPlace {
    fn of(place: Place) -> Self {
        let number = u32::try_from(place.number()).unwrap_or(u32::MAX >> 1);
        Self(number << 1 | u32::from(matches!(place, Place::Line(_))))
    }

    fn place(self) -> Place {
        let number = (self.0 >> 1) as usize;
        if self.0 & 1 == 1 { Place::Line(number) } else { Place::Row(number) }
    }
}

impl GroupMaker {
    pub(super) fn new(seed: Seed, purpose: PromptUse) -> Self {
        Self {
            seed,
            purpose,
            n_copies: BTreeMap::new(),
            place_of_id: HashMap::new(),
            names: Vec::new(),
        }
    }
}

impl SetRows for GroupMaker {
    type Item = GroupRequest;

    const COLUMNS: &'static [&'static str] =
        &["prompt", MESSAGES, "completions", "answer", VERL_COLUMN, "group_id"];

    fn begin_set(&mut self) {
        self.n_copies.clear();
    }

    /// Refuses an id that another row has, of whatever file and shard.
    fn note(&mut self, row: &Row, at: &RowAt<'_>) -> Result<(), Error> {
        if let Some(name) = at.name.filter(|_| self.names.len() <= at.file_idx) {
            // files without rows come by without a note
            self.names.resize(at.file_idx, String::new());
            self.names.push(name.to_owned());
        }
        let id = id(row, at)?;
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let file_idx = u32::try_from(at.file_idx).unwrap_or(u32::MAX);
        let here = IdPlace { file_idx, place: PackedPlace::of(row.place()) };
        match self.place_of_id.insert(hasher.finish(), here) {
            None => Ok(()),
            Some(first) => {
                let mut place = first.place.place().to_string();
                if let Some(name) = self.names.get(first.file_idx as usize)
                    && first.file_idx != file_idx
                {
                    place = format!("{place} of {name}");
                }
                Err(row.error(format!("group_id `{id}` is on {place} already; ids are unique")))
            }
        }
    }

    fn item(&mut self, row: &Row, at: &RowAt<'_>) -> Result<GroupRequest, Error> {
        let mut group = group_request(row, id(row, at)?, self.purpose)?;
        let content = content_seed(self.seed, &group);
        let copy = self.n_copies.entry(content.0).or_default();
        group.seed = content.child("copy", *copy);
        *copy += 1;
        Ok(group)
    }
}

/// Reads all groups of one file, to be scored together.
///
/// # Errors
/// The problem of the first row that is not a group, with its place.
pub(crate) fn read_groups(
    input: &Path,
    seed: Seed,
    purpose: PromptUse,
) -> anyhow::Result<Vec<GroupRequest>> {
    let mut rows = GroupMaker::new(seed, purpose);
    let mut row_idx = 0;
    let groups = data_rows::read_all(input, GroupMaker::COLUMNS, |row| {
        let at = RowAt { file_idx: 0, name: None, row_idx };
        row_idx += 1;
        rows.note(row, &at)?;
        rows.item(row, &at)
    })?;
    Ok(groups)
}

fn id(row: &Row, at: &RowAt<'_>) -> Result<String, Error> {
    Ok(row.id("group_id")?.unwrap_or_else(|| default_id(at, row)))
}

/// The seed of a group's content, in which the order of the members does not count.
fn content_seed(seed: Seed, group: &GroupRequest) -> Seed {
    let mut completions: Vec<&String> = group.completions.iter().collect();
    completions.sort();
    let seed = seed.child_str("score", &group.question);
    completions.into_iter().fold(seed, |seed, text| seed.child_str("completion", text))
}

fn group_request(row: &Row, group_id: String, purpose: PromptUse) -> Result<GroupRequest, Error> {
    let prompt = data_rows::prompt(row, |prompt| purpose.problem(prompt))?;
    let question = prompt.question();
    let completions: Vec<Completion> = row.required("completions")?;
    if completions.is_empty() {
        return Err(row.error("completions is empty, wanted at least one"));
    }
    Ok(GroupRequest {
        step: 0,
        group_id: GroupId(group_id),
        // known once all groups before it are
        seed: Seed::new(0),
        completions: completions.into_iter().map(|text| text.0).collect(),
        question,
        reference: row.answer_for(purpose, "answer")?,
        tournament: None,
    })
}
