//! A table contract: a row struct whose columns have fixed Arrow types.
//!
//! Rows are packed into record batches once, and columns are read in place. Column order is field
//! order; name and version of the contract are in the schema's metadata. The tables themselves are
//! not known here.

use std::borrow::{Borrow, Cow};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::column::RowField;
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
    /// The table's columns, read in place.
    type Columns;

    /// The Arrow schema, with name and version in its metadata.
    fn schema() -> SchemaRef;

    /// Packs rows, or references to rows, into one batch.
    ///
    /// # Errors
    /// [`Error::Arrow`] where the columns exceed Arrow's limits (2 GiB of text in one batch).
    fn to_batch<R: Borrow<Self>>(rows: &[R]) -> Result<RecordBatch, Error>;

    /// Opens a batch's columns, which share its memory. Columns are found by name; further columns
    /// are ignored, and nullable columns that are missing are null.
    ///
    /// # Errors
    /// [`Error::Table`] if a column is missing or has another type, or the contract's major version
    /// differs.
    fn columns(batch: &RecordBatch) -> Result<Self::Columns, Error>;

    /// Unpacks a batch into rows.
    ///
    /// # Errors
    /// As [`Table::columns`].
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, Error>;
}

/// Replaces the column `name` by `array`.
///
/// # Errors
/// [`Error::Arrow`] if there is no such column, or `array` has another type or length.
pub fn replace_column(
    batch: &RecordBatch,
    name: &str,
    array: ArrayRef,
) -> Result<RecordBatch, Error> {
    let mut columns = batch.columns().to_vec();
    columns[batch.schema().index_of(name)?] = array;
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// Adds columns of numbers behind those that the batch has. Readers of its table ignore them.
///
/// # Errors
/// [`Error::Arrow`] for a column of another length.
pub fn add_number_columns(
    batch: &RecordBatch,
    columns: impl IntoIterator<Item = (String, Float64Array)>,
) -> Result<RecordBatch, Error> {
    let schema = batch.schema();
    let mut fields = schema.fields().to_vec();
    let mut arrays = batch.columns().to_vec();
    for (name, array) in columns {
        fields.push(Arc::new(Field::new(name, DataType::Float64, true)));
        arrays.push(Arc::new(array));
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok(RecordBatch::try_new(Arc::new(schema), arrays)?)
}

/// Makes a table of existing columns: each is taken from `own`, or else from the first of `sources`
/// that has it. No value is copied.
///
/// # Errors
/// [`Error::Table`] for a column that no source has, [`Error::Arrow`] for a column of another type
/// or length.
pub fn join_columns<T: Table>(
    own: &[(&str, ArrayRef)],
    sources: &[&RecordBatch],
) -> Result<RecordBatch, Error> {
    let schema = T::schema();
    let find = |field: &FieldRef| {
        let own = own.iter().find(|(name, _)| name == field.name()).map(|(_, array)| array);
        let mut shared = sources.iter().filter_map(|batch| batch.column_by_name(field.name()));
        own.or_else(|| shared.next()).cloned().ok_or_else(|| Error::Table {
            table: T::NAME,
            reason: format!("column {} is in none of the sources", field.name()),
        })
    };
    let columns = schema.fields().iter().map(find).collect::<Result<Vec<_>, Error>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Refuses a batch whose metadata names another table or another major version.
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

/// Opens one column of a batch of table `T`. A nullable column that is missing, as in files of an
/// earlier minor version, is all null.
pub(crate) fn open_column<T: Table, F: RowField>(
    batch: &RecordBatch,
    name: &str,
) -> Result<F::Column, Error> {
    let refuse = |reason: String| Error::Table { table: T::NAME, reason };
    let array = match batch.column_by_name(name) {
        Some(array) => Cow::Borrowed(array),
        // a file of an earlier minor version
        None if F::NULLABLE => Cow::Owned(new_null_array(&F::column_type(), batch.num_rows())),
        None => return Err(refuse(format!("column {name} is missing"))),
    };
    F::open_column(&array).map_err(|reason| refuse(format!("column {name} {reason}")))
}

/// Declares a row struct, the struct of its columns, and its [`Table`] contract.
macro_rules! table {
    (
        $(#[$meta:meta])*
        $row:ident, $columns:ident, $name:literal, $version:literal {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $row {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        #[doc = concat!("The columns of `", $name, "`, read in place.")]
        #[derive(Clone, Debug)]
        pub struct $columns {
            $( $(#[$field_meta])* pub $field: <$type as $crate::column::RowField>::Column, )*
        }

        impl $crate::table::Table for $row {
            const NAME: &'static str = $name;
            const VERSION: &'static str = $version;
            type Columns = $columns;

            fn schema() -> arrow::datatypes::SchemaRef {
                use $crate::column::RowField;
                let fields = vec![
                    $( arrow::datatypes::Field::new(
                        stringify!($field),
                        <$type as RowField>::column_type(),
                        <$type as RowField>::NULLABLE,
                    ), )*
                ];
                let metadata = [
                    ($crate::table::TABLE_KEY.to_owned(), $name.to_owned()),
                    ($crate::table::VERSION_KEY.to_owned(), $version.to_owned()),
                ];
                let schema = arrow::datatypes::Schema::new(fields);
                std::sync::Arc::new(schema.with_metadata(metadata.into_iter().collect()))
            }

            fn to_batch<R: std::borrow::Borrow<Self>>(
                rows: &[R],
            ) -> Result<arrow::array::RecordBatch, $crate::Error> {
                use $crate::column::RowField;
                let columns = vec![
                    $( <$type as RowField>::write_column(
                        rows.iter().map(|row| &row.borrow().$field),
                    ), )*
                ];
                Ok(arrow::array::RecordBatch::try_new(Self::schema(), columns)?)
            }

            fn columns(batch: &arrow::array::RecordBatch) -> Result<$columns, $crate::Error> {
                $crate::table::check_contract::<Self>(batch)?;
                Ok($columns {
                    $( $field: $crate::table::open_column::<Self, $type>(
                        batch,
                        stringify!($field),
                    )?, )*
                })
            }

            fn from_batch(batch: &arrow::array::RecordBatch) -> Result<Vec<Self>, $crate::Error> {
                use $crate::column::RowField;
                let columns = Self::columns(batch)?;
                let row = |row| $row {
                    $( $field: <$type as RowField>::read_row(&columns.$field, row), )*
                };
                Ok((0..batch.num_rows()).map(row).collect())
            }
        }
    };
}
pub(crate) use table;
