//! Rust types and their Arrow column types: columns are written from rows and read in place.
//!
//! Only plain types, so that every reader of Parquet understands the dumps. The tables are not
//! known here.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type};

use crate::ids::{GroupId, MatchId, Member, PolicyVersion, PromptId};

/// A type of the values in a table's cells.
pub trait Cell: Sized + 'static {
    /// A value read in place: texts and lists are borrowed from the column.
    type Ref<'a>: Copy;
    /// The Arrow array behind a column of such values.
    type Array: Array + Clone;

    /// The Arrow type of the column.
    fn data_type() -> DataType;
    /// Borrows the value in the form in which columns return it.
    fn as_cell(&self) -> Self::Ref<'_>;
    /// Copies a value out of a column.
    fn from_cell(cell: Self::Ref<'_>) -> Self;
    /// Builds a column; `None` becomes null.
    fn write<'a>(cells: impl Iterator<Item = Option<Self::Ref<'a>>>) -> ArrayRef;
    /// Checks the type and the values of a column; a wider type is cast where nothing is lost.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with "column x".
    fn open(array: &ArrayRef) -> Result<Self::Array, String>;
    /// The value at `row`, which is not null.
    fn get(array: &Self::Array, row: usize) -> Self::Ref<'_>;
}

/// A column without nulls, read in place.
#[derive(Clone, Debug)]
pub struct Column<T: Cell> {
    array: T::Array,
}

impl<T: Cell> Column<T> {
    /// The value at `row`.
    pub fn get(&self, row: usize) -> T::Ref<'_> {
        T::get(&self.array, row)
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = T::Ref<'_>> {
        (0..self.array.len()).map(|row| self.get(row))
    }
}

/// A column that may hold nulls, read in place.
#[derive(Clone, Debug)]
pub struct NullableColumn<T: Cell> {
    array: T::Array,
}

impl<T: Cell> NullableColumn<T> {
    /// The value at `row`; `None` where it is null.
    pub fn get(&self, row: usize) -> Option<T::Ref<'_>> {
        self.array.is_valid(row).then(|| T::get(&self.array, row))
    }

    /// All values in order.
    pub fn iter(&self) -> impl Iterator<Item = Option<T::Ref<'_>>> {
        (0..self.array.len()).map(|row| self.get(row))
    }
}

/// The type of a row's field: a [`Cell`], or an optional one for nullable columns.
pub trait RowField: Sized + 'static {
    /// Whether the column may hold nulls.
    const NULLABLE: bool;
    /// The column as it is read in place.
    type Column;

    /// The Arrow type of the column.
    fn column_type() -> DataType;
    /// Builds the column of one field of many rows.
    fn write_column<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef;
    /// Checks a column's type, values and nulls.
    ///
    /// # Errors
    /// The problem, as the end of a sentence that begins with "column x".
    fn open_column(array: &ArrayRef) -> Result<Self::Column, String>;
    /// Copies the value at `row`.
    fn read_row(column: &Self::Column, row: usize) -> Self;
}

impl<T: Cell> RowField for T {
    const NULLABLE: bool = false;
    type Column = Column<T>;

    fn column_type() -> DataType {
        T::data_type()
    }

    fn write_column<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        T::write(values.map(|value| Some(value.as_cell())))
    }

    fn open_column(array: &ArrayRef) -> Result<Self::Column, String> {
        let array = T::open(array)?;
        match (0..array.len()).find(|&row| array.is_null(row)) {
            Some(row) => Err(format!("row {row} is null")),
            None => Ok(Column { array }),
        }
    }

    fn read_row(column: &Self::Column, row: usize) -> Self {
        T::from_cell(column.get(row))
    }
}

impl<T: Cell> RowField for Option<T> {
    const NULLABLE: bool = true;
    type Column = NullableColumn<T>;

    fn column_type() -> DataType {
        T::data_type()
    }

    fn write_column<'a>(values: impl Iterator<Item = &'a Self>) -> ArrayRef {
        T::write(values.map(|value| value.as_ref().map(T::as_cell)))
    }

    fn open_column(array: &ArrayRef) -> Result<Self::Column, String> {
        Ok(NullableColumn { array: T::open(array)? })
    }

    fn read_row(column: &Self::Column, row: usize) -> Self {
        column.get(row).map(T::from_cell)
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => {
            matches!(**values, DataType::Utf8 | DataType::LargeUtf8)
        }
        _ => false,
    }
}

/// Casts a column of another writer (`LargeUtf8`, `UInt8` …) where no value is lost.
fn as_type(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let refuse = || format!("has type {}, wanted {wanted}", array.data_type());
    let all_null = matches!(array.data_type(), DataType::Null);
    if !all_null && is_text(array.data_type()) != is_text(wanted) {
        return Err(refuse());
    }
    cast(array, wanted).map_err(|_| refuse())
}

macro_rules! primitive_cell {
    ($rust:ty, $data_type:expr, $array:ty, $as:ident $(::<$arrow:ty>)?) => {
        impl Cell for $rust {
            type Ref<'a> = $rust;
            type Array = $array;

            fn data_type() -> DataType {
                $data_type
            }

            fn as_cell(&self) -> $rust {
                *self
            }

            fn from_cell(cell: $rust) -> Self {
                cell
            }

            fn write<'a>(cells: impl Iterator<Item = Option<Self::Ref<'a>>>) -> ArrayRef {
                Arc::new(cells.collect::<$array>())
            }

            fn open(array: &ArrayRef) -> Result<$array, String> {
                Ok(as_type(array, &$data_type)?.$as$(::<$arrow>)?().clone())
            }

            fn get(array: &$array, row: usize) -> $rust {
                array.value(row)
            }
        }
    };
}

primitive_cell!(i32, DataType::Int32, Int32Array, as_primitive::<Int32Type>);
primitive_cell!(i64, DataType::Int64, Int64Array, as_primitive::<Int64Type>);
primitive_cell!(f64, DataType::Float64, Float64Array, as_primitive::<Float64Type>);
primitive_cell!(bool, DataType::Boolean, BooleanArray, as_boolean);

impl Cell for String {
    type Ref<'a> = &'a str;
    type Array = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn as_cell(&self) -> &str {
        self
    }

    fn from_cell(cell: &str) -> Self {
        cell.to_owned()
    }

    fn write<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(cells.collect::<StringArray>())
    }

    fn open(array: &ArrayRef) -> Result<StringArray, String> {
        Ok(as_type(array, &DataType::Utf8)?.as_string::<i32>().clone())
    }

    fn get(array: &StringArray, row: usize) -> &str {
        array.value(row)
    }
}

macro_rules! list_cell {
    ($item:ty, $arrow:ty, $data_type:expr) => {
        impl Cell for Vec<$item> {
            type Ref<'a> = &'a [$item];
            type Array = ListArray;

            fn data_type() -> DataType {
                DataType::List(Arc::new(Field::new("item", $data_type, true)))
            }

            fn as_cell(&self) -> &[$item] {
                self
            }

            fn from_cell(cell: &[$item]) -> Self {
                cell.to_vec()
            }

            fn write<'a>(cells: impl Iterator<Item = Option<&'a [$item]>>) -> ArrayRef {
                let lists = cells.map(|list| list.map(|list| list.iter().copied().map(Some)));
                Arc::new(ListArray::from_iter_primitive::<$arrow, _, _>(lists))
            }

            fn open(array: &ArrayRef) -> Result<ListArray, String> {
                Ok(as_type(array, &Self::data_type())?.as_list::<i32>().clone())
            }

            fn get(array: &ListArray, row: usize) -> &[$item] {
                let offsets = array.value_offsets();
                let items = array.values().as_primitive::<$arrow>().values();
                &items[offsets[row] as usize..offsets[row + 1] as usize]
            }
        }
    };
}

list_cell!(i32, Int32Type, DataType::Int32);
list_cell!(f32, Float32Type, DataType::Float32);

macro_rules! text_id_cell {
    ($($id:ident)*) => {
        $(impl Cell for $id {
            type Ref<'a> = &'a str;
            type Array = StringArray;

            fn data_type() -> DataType {
                String::data_type()
            }

            fn as_cell(&self) -> &str {
                &self.0
            }

            fn from_cell(cell: &str) -> Self {
                Self(cell.to_owned())
            }

            fn write<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
                String::write(cells)
            }

            fn open(array: &ArrayRef) -> Result<StringArray, String> {
                String::open(array)
            }

            fn get(array: &StringArray, row: usize) -> &str {
                array.value(row)
            }
        })*
    };
}

text_id_cell!(GroupId PromptId MatchId);

/// Stores a small type as another one: `$into` converts a value for storage, `$back` converts it
/// back or returns an error.
macro_rules! cell_as {
    ($type:ty, $inner:ty, $into:expr, $back:expr) => {
        impl $crate::column::Cell for $type {
            type Ref<'a> = $type;
            type Array = <$inner as $crate::column::Cell>::Array;

            fn data_type() -> arrow::datatypes::DataType {
                <$inner as $crate::column::Cell>::data_type()
            }

            fn as_cell(&self) -> $type {
                *self
            }

            fn from_cell(cell: $type) -> Self {
                cell
            }

            fn write<'a>(
                cells: impl Iterator<Item = Option<Self::Ref<'a>>>,
            ) -> arrow::array::ArrayRef {
                <$inner as $crate::column::Cell>::write(cells.map(|cell| cell.map($into)))
            }

            fn open(array: &arrow::array::ArrayRef) -> Result<Self::Array, String> {
                use arrow::array::Array as _;
                let array = <$inner as $crate::column::Cell>::open(array)?;
                let back: fn(_) -> Result<$type, String> = $back;
                for row in (0..array.len()).filter(|&row| array.is_valid(row)) {
                    back(<$inner as $crate::column::Cell>::get(&array, row))?;
                }
                Ok(array)
            }

            fn get(array: &Self::Array, row: usize) -> $type {
                let back: fn(_) -> Result<$type, String> = $back;
                back(<$inner as $crate::column::Cell>::get(array, row))
                    .expect("values are checked when a column is opened. This is a bug.")
            }
        }
    };
}
pub(crate) use cell_as;

cell_as!(PolicyVersion, i64, |version| version.0, |n: i64| Ok(PolicyVersion(n)));
cell_as!(Member, i32, |member| member.0 as i32, |n: i32| {
    u32::try_from(n).map(Member).map_err(|_| format!("holds member {n}, wanted 0 or more"))
});
