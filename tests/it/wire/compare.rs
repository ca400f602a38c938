//! Where an answer differs from the recorded one. Everything is compared as it is, but for the
//! words of errors: those are compared for presence only, and counted.

use serde_json::Value;

/// Members of JSON objects that hold the words of an error, for people.
const WORDS: [&str; 4] = ["message", "reason", "failure_reason", "_ng_failure_judge_error"];

/// Outcome of a comparison.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Place, recorded value and seen value of each difference.
    pub(super) differences: Vec<String>,
    /// Number of texts that were compared for presence only.
    pub(super) n_words: usize,
}

impl Comparison {
    /// Compares two values at a place.
    pub(super) fn add(&mut self, place: &str, recorded: &Value, seen: &Value) {
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
