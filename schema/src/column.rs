//! Which Rust type is stored in which Arrow column type, and back.
//!
//! Only plain types, so that every reader of Parquet understands the dumps.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type};

use crate::ids::{GroupId, MatchId, Member, PolicyVersion, PromptId};

/// A value that fits a cell of a table.
pub(crate) trait Cell: Sized + Clone {
    fn data_type() -> DataType;
    fn to_array(values: Vec<Option<Self>>) -> ArrayRef;
    fn from_array(array: &ArrayRef) -> Result<Vec<Option<Self>>, String>;
}

/// A field of a row: a [`Cell`], or an optional one for nullable columns.
pub(crate) trait Column: Sized + Clone {
    const NULLABLE: bool;
    fn column_type() -> DataType;
    fn write(values: Vec<Self>) -> ArrayRef;
    fn read(array: &ArrayRef) -> Result<Vec<Self>, String>;
}

impl<T: Cell> Column for T {
    const NULLABLE: bool = false;

    fn column_type() -> DataType {
        T::data_type()
    }

    fn write(values: Vec<Self>) -> ArrayRef {
        T::to_array(values.into_iter().map(Some).collect())
    }

    fn read(array: &ArrayRef) -> Result<Vec<Self>, String> {
        let values = T::from_array(array)?.into_iter().enumerate();
        values.map(|(row, value)| value.ok_or_else(|| format!("row {row} is null"))).collect()
    }
}

impl<T: Cell> Column for Option<T> {
    const NULLABLE: bool = true;

    fn column_type() -> DataType {
        T::data_type()
    }

    fn write(values: Vec<Self>) -> ArrayRef {
        T::to_array(values)
    }

    fn read(array: &ArrayRef) -> Result<Vec<Self>, String> {
        T::from_array(array)
    }
}

/// Other writers choose wider types (`LargeUtf8`, `UInt8` …); a lossless cast reads them too.
fn as_type(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let all_null = matches!(array.data_type(), DataType::Null);
    let is_text = |of: &DataType| {
        matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            || matches!(of, DataType::Dictionary(_, values) if matches!(**values, DataType::Utf8 | DataType::LargeUtf8))
    };
    if !all_null && is_text(array.data_type()) != is_text(wanted) {
        return Err(format!("has type {}, wanted {wanted}", array.data_type()));
    }
    cast(array, wanted).map_err(|_| format!("has type {}, wanted {wanted}", array.data_type()))
}

macro_rules! primitive_cell {
    ($rust:ty, $data_type:expr, $array:ty, $as:ident $(::<$arrow:ty>)?) => {
        impl Cell for $rust {
            fn data_type() -> DataType {
                $data_type
            }

            fn to_array(values: Vec<Option<Self>>) -> ArrayRef {
                Arc::new(<$array>::from(values))
            }

            fn from_array(array: &ArrayRef) -> Result<Vec<Option<Self>>, String> {
                Ok(as_type(array, &$data_type)?.$as$(::<$arrow>)?().iter().collect())
            }
        }
    };
}

primitive_cell!(i32, DataType::Int32, Int32Array, as_primitive::<Int32Type>);
primitive_cell!(i64, DataType::Int64, Int64Array, as_primitive::<Int64Type>);
primitive_cell!(f64, DataType::Float64, Float64Array, as_primitive::<Float64Type>);
primitive_cell!(bool, DataType::Boolean, BooleanArray, as_boolean);

impl Cell for String {
    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn to_array(values: Vec<Option<Self>>) -> ArrayRef {
        Arc::new(StringArray::from(values))
    }

    fn from_array(array: &ArrayRef) -> Result<Vec<Option<Self>>, String> {
        let array = as_type(array, &DataType::Utf8)?;
        Ok(array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
    }
}

fn item_field(of: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", of, true))
}

macro_rules! list_cell {
    ($item:ty, $arrow:ty, $data_type:expr) => {
        impl Cell for Vec<$item> {
            fn data_type() -> DataType {
                DataType::List(item_field($data_type))
            }

            fn to_array(values: Vec<Option<Self>>) -> ArrayRef {
                let lists =
                    values.into_iter().map(|list| list.map(|list| list.into_iter().map(Some)));
                Arc::new(ListArray::from_iter_primitive::<$arrow, _, _>(lists))
            }

            fn from_array(array: &ArrayRef) -> Result<Vec<Option<Self>>, String> {
                let array = as_type(array, &Self::data_type())?;
                let lists = array.as_list::<i32>().iter();
                let values = lists
                    .map(|list| list.map(|list| list.as_primitive::<$arrow>().values().to_vec()));
                Ok(values.collect())
            }
        }
    };
}

list_cell!(i32, Int32Type, DataType::Int32);
list_cell!(f32, Float32Type, DataType::Float32);

/// A newtype or enum stored as another cell: how it goes in and comes back.
macro_rules! cell_as {
    ($type:ty, $inner:ty, $into:expr, $back:expr) => {
        impl $crate::column::Cell for $type {
            fn data_type() -> arrow::datatypes::DataType {
                <$inner as $crate::column::Cell>::data_type()
            }

            fn to_array(values: Vec<Option<Self>>) -> arrow::array::ArrayRef {
                let inner = values.into_iter().map(|value| value.map($into)).collect();
                <$inner as $crate::column::Cell>::to_array(inner)
            }

            fn from_array(array: &arrow::array::ArrayRef) -> Result<Vec<Option<Self>>, String> {
                let inner = <$inner as $crate::column::Cell>::from_array(array)?;
                inner.into_iter().map(|value| value.map($back).transpose()).collect()
            }
        }
    };
}
pub(crate) use cell_as;

cell_as!(GroupId, String, |id: GroupId| id.0, |text| Ok::<_, String>(GroupId(text)));
cell_as!(PromptId, String, |id: PromptId| id.0, |text| Ok::<_, String>(PromptId(text)));
cell_as!(MatchId, String, |id: MatchId| id.0, |text| Ok::<_, String>(MatchId(text)));
cell_as!(PolicyVersion, i64, |id: PolicyVersion| id.0, |n| Ok::<_, String>(PolicyVersion(n)));
cell_as!(Member, i32, |member: Member| member.0 as i32, |n: i32| {
    u32::try_from(n).map(Member).map_err(|_| format!("holds member {n}, wanted 0 or more"))
});
