//! A table contract: rows of a Rust struct to and from Arrow record batches.
//!
//! Column order is field order; name and version of the contract travel in the schema's metadata.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::Error;

/// Metadata key of the table's name.
pub const TABLE_KEY: &str = "joust.table";
/// Metadata key of the contract's version, `major.minor`: columns are added in minor versions,
/// renamed or removed in major ones.
pub const VERSION_KEY: &str = "joust.version";

/// A row type with a fixed Arrow schema.
pub trait Table: Sized + Clone {
    /// Name of the table: the stem of its files.
    const NAME: &'static str;
    /// Version of its contract.
    const VERSION: &'static str;

    /// The Arrow schema, with name and version in its metadata.
    fn schema() -> SchemaRef;

    /// Packs rows into one batch.
    ///
    /// # Errors
    /// [`Error::Arrow`] where the columns exceed Arrow's limits (2 GiB of text in one batch).
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, Error>;

    /// Unpacks a batch. Columns are found by name; further columns are ignored.
    ///
    /// # Errors
    /// [`Error::Table`] where a column is missing, has another type, or the contract's major
    /// version is another one.
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, Error>;
}

/// Refuses a batch that says it is another table, or of another major version.
pub(crate) fn check_contract<T: Table>(batch: &RecordBatch) -> Result<(), Error> {
    let schema = batch.schema();
    let refuse = |reason: String| Err(Error::Table { table: T::NAME, reason });
    if let Some(name) = schema.metadata().get(TABLE_KEY)
        && name != T::NAME
    {
        return refuse(format!("the file holds table {name}"));
    }
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    match schema.metadata().get(VERSION_KEY) {
        Some(version) if major(version) != major(T::VERSION) => {
            refuse(format!("the file has version {version}, this program reads {}", T::VERSION))
        }
        _ => Ok(()),
    }
}

/// Declares a row struct and its [`Table`] contract.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $row:ident, $name:literal, $version:literal {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $row {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::table::Table for $row {
            const NAME: &'static str = $name;
            const VERSION: &'static str = $version;

            fn schema() -> arrow::datatypes::SchemaRef {
                use $crate::column::Column;
                let fields = vec![
                    $( arrow::datatypes::Field::new(
                        stringify!($field),
                        <$type as Column>::column_type(),
                        <$type as Column>::NULLABLE,
                    ), )*
                ];
                let metadata = [
                    ($crate::table::TABLE_KEY.to_owned(), $name.to_owned()),
                    ($crate::table::VERSION_KEY.to_owned(), $version.to_owned()),
                ];
                let schema = arrow::datatypes::Schema::new(fields);
                std::sync::Arc::new(schema.with_metadata(metadata.into_iter().collect()))
            }

            fn to_batch(rows: &[Self]) -> Result<arrow::array::RecordBatch, $crate::Error> {
                use $crate::column::Column;
                let columns = vec![
                    $( <$type as Column>::write(rows.iter().map(|row| row.$field.clone()).collect()), )*
                ];
                Ok(arrow::array::RecordBatch::try_new(Self::schema(), columns)?)
            }

            fn from_batch(batch: &arrow::array::RecordBatch) -> Result<Vec<Self>, $crate::Error> {
                use $crate::column::Column;
                $crate::table::check_contract::<Self>(batch)?;
                let refuse = |reason: String| $crate::Error::Table { table: $name, reason };
                $(
                    let mut $field = {
                        let column = stringify!($field);
                        let array = batch
                            .column_by_name(column)
                            .ok_or_else(|| refuse(format!("column {column} is missing")))?;
                        <$type as Column>::read(array)
                            .map_err(|reason| refuse(format!("column {column} {reason}")))?
                            .into_iter()
                    };
                )*
                let full = "every column of a batch has its number of rows. This is a bug.";
                Ok((0..batch.num_rows())
                    .map(|_| $row { $( $field: $field.next().expect(full), )* })
                    .collect())
            }
        }
    };
}
pub(crate) use table;
