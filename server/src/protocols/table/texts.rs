//! A text column in any of Arrow's string types, read row by row. Nothing is unpacked, so that a
//! small message cannot become a large one.

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::DataType;

/// The texts of a column.
pub(super) enum Texts {
    /// A column in which there is nothing.
    Null,
    Utf8(StringArray),
    Large(LargeStringArray),
    View(StringViewArray),
    Dictionary {
        array: ArrayRef,
        /// Where each row's text is, for rows that are not null.
        keys: Vec<usize>,
        values: Box<Texts>,
    },
}

impl Texts {
    /// # Errors
    /// Names the type of a column that holds no text.
    pub(super) fn new(array: &ArrayRef) -> Result<Self, String> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Utf8 => Self::Utf8(array.as_string().clone()),
            DataType::LargeUtf8 => Self::Large(array.as_string().clone()),
            DataType::Utf8View => Self::View(array.as_string_view().clone()),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let values = Box::new(Self::new(dictionary.values())?);
                match dictionary.values().is_empty() {
                    // no value, so that all rows are null
                    true => Self::Null,
                    false => {
                        let keys = dictionary.normalized_keys();
                        Self::Dictionary { array: array.clone(), keys, values }
                    }
                }
            }
            other => return Err(format!("has type {other}, wanted Utf8")),
        })
    }

    /// The text of a row; none where it is null.
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Utf8(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Large(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::View(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Self::Dictionary { array, keys, values } => {
                array.is_valid(row).then(|| values.get(keys[row])).flatten()
            }
        }
    }
}
