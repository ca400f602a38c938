//! A text column in any of Arrow's string types, read row by row.
//!
//! Dictionaries are not unpacked: a small message stays small in memory.

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::DataType;

/// A column of texts.
pub(super) enum TextColumn {
    /// A column whose rows are all null.
    Null,
    Utf8(StringArray),
    Large(LargeStringArray),
    View(StringViewArray),
    Dictionary {
        array: ArrayRef,
        /// Per row: position of its text in `values`; meaningless for a null row.
        keys: Vec<usize>,
        values: Box<TextColumn>,
    },
}

impl TextColumn {
    /// # Errors
    /// The type of a column that has no texts.
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
                    // an empty dictionary: all rows are null
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

    /// The text of a row; `None` if it is null.
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
