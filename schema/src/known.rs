//! Known answers as data sets have them: texts, numbers, truth values, lists of those.
//!
//! It does not know how answers are compared.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A known answer of a request, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAnswer(pub Option<String>);

impl<'de> Deserialize<'de> for KnownAnswer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        known_answer(&json).map(Self).map_err(|reason| D::Error::custom(format!("answer {reason}")))
    }
}

/// A known answer as text. A number keeps all its digits. A list holds several answers, each of
/// which is right: it becomes a JSON list of texts, and a list of one becomes that one. `None` for
/// null, a blank text and an empty list.
///
/// # Errors
/// What the value is instead, to be said after its name.
pub fn known_answer(json: &RawValue) -> Result<Option<String>, String> {
    let text = json.get();
    let read = |error: serde_json::Error| format!("is unreadable: {error}");
    match text.as_bytes().first() {
        Some(b'"') => {
            let answer: String = serde_json::from_str(text).map_err(read)?;
            // data sets with hidden answers have empty ones
            Ok(Some(answer).filter(|answer| !answer.trim().is_empty()))
        }
        Some(b'n') => Ok(None),
        Some(b'{') => {
            Err("is an object, wanted a text, a number, a truth value or a list of them".to_owned())
        }
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(read)?;
            let mut answers = Vec::with_capacity(items.len());
            for item in &items {
                if item.get().starts_with('[') {
                    return Err("is a list of lists, wanted a list of answers".to_owned());
                }
                answers.extend(known_answer(item)?);
            }
            match (answers.len(), answers.pop()) {
                (0 | 1, only) => Ok(only),
                (_, last) => {
                    answers.extend(last);
                    serde_json::to_string(&answers).map(Some).map_err(read)
                }
            }
        }
        // numbers and truth values are their own text
        _ => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer_keeps_digits_and_lists() {
        let answer = |json: &str| known_answer(&RawValue::from_string(json.to_owned()).unwrap());
        for (json, wanted) in [
            ("98765432109876543210987", Some("98765432109876543210987")),
            ("-0.50", Some("-0.50")),
            ("1e400", Some("1e400")),
            ("true", Some("true")),
            ("\"a\\nb\"", Some("a\nb")),
            ("null", None),
            ("[]", None),
            ("\"\"", None),
            ("\" \\n\"", None),
            ("[\"\", \"7\"]", Some("7")),
            ("[\"7\"]", Some("7")),
            ("[7, \"seven\"]", Some("[\"7\",\"seven\"]")),
        ] {
            assert_eq!(answer(json).unwrap().as_deref(), wanted, "{json}");
        }
        assert!(answer("{\"a\": 1}").unwrap_err().starts_with("is an object"));
        assert!(answer("[[1]]").is_err());
    }
}
