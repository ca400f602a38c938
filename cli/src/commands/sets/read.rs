//! Sets of items out of the rows of many files, one set in memory at a time.
//!
//! It does not know what an item is, nor what becomes of a set.

use std::ops::ControlFlow;

use joust_schema::Error;
use joust_schema::rows::{self, Row};

use super::files::ListedFile;
use super::shard::Shard;

/// Makes items of rows.
pub(crate) trait SetRows {
    /// What a row becomes.
    type Item;

    /// The columns that are read.
    const COLUMNS: &'static [&'static str];

    /// Called before the first row of a set.
    fn begin_set(&mut self);

    /// Takes note of a row, also of one of another shard.
    ///
    /// # Errors
    /// A row that contradicts those before it.
    fn note(&mut self, row: &Row, at: &RowAt<'_>) -> Result<(), Error>;

    /// The item of a row.
    ///
    /// # Errors
    /// A row that is none, with its place.
    fn item(&mut self, row: &Row, at: &RowAt<'_>) -> Result<Self::Item, Error>;
}

/// Where a row stands in the input.
pub(crate) struct RowAt<'a> {
    pub(crate) file_idx: usize,
    /// Name of the file in its folder; `None` in an input of one file.
    pub(crate) name: Option<&'a str>,
    /// Index over the rows of all files, in their order.
    pub(crate) row_idx: u64,
}

/// Items that are judged together.
pub(crate) struct ReadSet<T> {
    pub(crate) number: usize,
    pub(crate) items: Vec<T>,
    /// Whether the input ends with it.
    pub(crate) is_last: bool,
    /// Number of rows of all files that were read so far.
    pub(crate) rows_read: u64,
    /// Number of bytes of all files that were read so far, about.
    pub(crate) bytes_read: u64,
}

/// Which items are read, and how many make a set.
pub(crate) struct SetShape {
    /// Number of items per set, but for the last one.
    pub(crate) size: usize,
    pub(crate) shard: Shard,
}

/// Reads all files and calls `each` with each set, once it is known whether another one follows. A
/// row is made an item only after the sets before it are done.
///
/// # Errors
/// Those of [`rows::read`], of `rows` and of `each`; files without any row.
pub(crate) fn read_sets<R: SetRows>(
    files: &[ListedFile],
    shape: &SetShape,
    rows: &mut R,
    each: &mut dyn FnMut(ReadSet<R::Item>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut items = Vec::new();
    let mut set =
        ReadSet { number: 0, items: Vec::new(), is_last: false, rows_read: 0, bytes_read: 0 };
    for (file_idx, file) in files.iter().enumerate() {
        let bytes_before = set.bytes_read;
        let mut take = |row: Row| -> anyhow::Result<()> {
            let name = file.name.as_deref();
            let at = RowAt { file_idx, name, row_idx: set.rows_read };
            rows.note(&row, &at)?;
            if shape.shard.has(at.row_idx) {
                if items.len() == shape.size {
                    let number = set.number;
                    each(ReadSet { items: std::mem::take(&mut items), ..set })?;
                    set.number = number + 1;
                }
                if items.is_empty() {
                    rows.begin_set();
                }
                items.push(rows.item(&row, &at)?);
            }
            set.rows_read += 1;
            set.bytes_read = bytes_before + row.end_byte().unwrap_or(0);
            Ok(())
        };
        let mut failure = None;
        rows::read(&file.path, R::COLUMNS, &mut |row| match take(row) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) => {
                failure = Some(error);
                Ok(ControlFlow::Break(()))
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        set.bytes_read = bytes_before + file.n_bytes;
    }
    if set.rows_read == 0 {
        let (path, text) = match files {
            [file] => (&file.path, "no rows in this file; wanted at least one".to_owned()),
            files => {
                (&files[0].path, format!("no rows in this file and the {} others", files.len() - 1))
            }
        };
        return Err(Error::bad_file(path, text).into());
    }
    match items.is_empty() {
        true => Ok(()),
        false => each(ReadSet { items, is_last: true, ..set }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::files::data_files;
    use super::*;

    /// Items are the numbers in `n`.
    struct Numbers {
        n_sets: usize,
    }

    impl SetRows for Numbers {
        type Item = u64;

        const COLUMNS: &'static [&'static str] = &["n"];

        fn begin_set(&mut self) {
            self.n_sets += 1;
        }

        fn note(&mut self, _: &Row, _: &RowAt<'_>) -> Result<(), Error> {
            Ok(())
        }

        fn item(&mut self, row: &Row, _: &RowAt<'_>) -> Result<u64, Error> {
            row.required("n")
        }
    }

    fn sets(dir: &Path, size: usize, shard: &str) -> (Vec<(Vec<u64>, bool)>, Option<String>) {
        let mut found = Vec::new();
        let mut rows = Numbers { n_sets: 0 };
        let shape = SetShape { size, shard: shard.parse().unwrap() };
        let read = read_sets(&data_files(dir).unwrap(), &shape, &mut rows, &mut |set| {
            assert_eq!(set.number, found.len());
            found.push((set.items, set.is_last));
            Ok(())
        });
        if read.is_ok() {
            assert_eq!(rows.n_sets, found.len());
        }
        (found, read.err().map(|error| error.to_string()))
    }

    #[test]
    fn sets_go_on_over_files_and_know_whether_they_are_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let line = |n: u64| format!("{{\"n\": {n}}}\n");
        let write = |name: &str, numbers: std::ops::Range<u64>| {
            std::fs::write(dir.path().join(name), numbers.map(line).collect::<String>()).unwrap();
        };
        write("a.jsonl", 0..3);
        write("b.jsonl", 0..0);
        write("c.jsonl", 3..6);
        let whole = vec![(vec![0, 1], false), (vec![2, 3], false), (vec![4, 5], true)];
        assert_eq!(sets(dir.path(), 2, "1/1"), (whole, None));
        assert_eq!(sets(dir.path(), 6, "1/1"), (vec![((0..6).collect(), true)], None));
        let second = vec![(vec![1, 3], false), (vec![5], true)];
        assert_eq!(sets(dir.path(), 2, "2/2"), (second, None));
        assert_eq!(sets(dir.path(), 2, "8/8"), (vec![], None), "more shards than rows");
        // the sets before a bad row are done; a shard reads the values of its own rows alone
        std::fs::write(dir.path().join("d.jsonl"), "{\"n\": \"x\"}\n").unwrap();
        let (done, error) = sets(dir.path(), 2, "1/1");
        assert_eq!(done.len(), 3);
        assert!(error.unwrap().contains("d.jsonl:1: column `n` "));
        assert_eq!(sets(dir.path(), 2, "2/2").1, None);
    }
}
