//! Where an answer differs from the recorded one. Everything is compared as it is, fractions to
//! nine digits, but for the words of errors: those are compared for presence only, and counted.

use serde_json::{Number, Value};

/// Members of JSON objects that hold the words of an error, for people.
const WORDS: [&str; 4] = ["message", "reason", "failure_reason", "_ng_failure_judge_error"];

/// Whether two numbers are equal but for the rounding of sums.
fn is_same_number(one: &Number, other: &Number) -> bool {
    let is_whole = |number: &Number| number.is_i64() || number.is_u64();
    match (one.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) if !is_whole(one) && !is_whole(other) => {
            (a - b).abs() <= 1e-9 * a.abs().max(1.0)
        }
        _ => one == other,
    }
}

/// Outcome of a comparison.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    /// Place, recorded value and seen value of each difference.
    pub(crate) differences: Vec<String>,
    /// Number of texts that were compared for presence only.
    pub(crate) n_words: usize,
}

impl Comparison {
    /// Compares two values at a place.
    pub(crate) fn add(&mut self, place: &str, recorded: &Value, seen: &Value) {
        match (recorded, seen) {
            (Value::Object(old), Value::Object(new)) => {
                let keys: std::collections::BTreeSet<&String> =
                    old.keys().chain(new.keys()).collect();
                for key in keys {
                    let (place, old, new) = (format!("{place}/{key}"), old.get(key), new.get(key));
                    match (old, new) {
                        (Some(old), Some(new)) if WORDS.contains(&&key[..]) => {
                            self.add_words(&place, old, new);
                        }
                        (Some(old), Some(new)) => self.add(&place, old, new),
                        (old, new) => self.differ(&place, &old, &new),
                    }
                }
            }
            (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
                for (at, (old, new)) in old.iter().zip(new).enumerate() {
                    self.add(&format!("{place}/{at}"), old, new);
                }
            }
            (Value::Number(old), Value::Number(new)) if is_same_number(old, new) => {}
            _ if recorded == seen => {}
            _ => self.differ(place, recorded, seen),
        }
    }

    fn add_words(&mut self, place: &str, recorded: &Value, seen: &Value) {
        match (recorded, seen) {
            (Value::String(old), Value::String(new)) if old.is_empty() == new.is_empty() => {
                self.n_words += 1;
            }
            _ => self.add(place, recorded, seen),
        }
    }

    fn differ(&mut self, place: &str, recorded: &dyn std::fmt::Debug, seen: &dyn std::fmt::Debug) {
        self.differences.push(format!("{place}: recorded {recorded:?}, seen {seen:?}"));
    }
}
