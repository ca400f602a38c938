//! A JSON object whose values stay the client's own text, so that an answer which repeats them
//! repeats every digit of a number. Pure.

use std::collections::HashMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Members in the order of the client. Of members with the same name the last counts, in the place
/// of the first.
#[derive(Debug, Default)]
pub(crate) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// Size in memory.
    pub(crate) fn n_bytes(&self) -> usize {
        let texts = self.0.iter().map(|(name, value)| name.len() + value.get().len());
        texts.sum::<usize>() + self.0.len() * size_of::<(String, Box<RawValue>)>()
    }

    /// The text of a member.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Sets a member.
    pub(crate) fn set(&mut self, name: &str, value: &impl Serialize) {
        let value = to_raw_value(value).expect("the value is plain data. This is a bug.");
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawObjectVisitor)
    }
}

struct RawObjectVisitor;

impl<'de> Visitor<'de> for RawObjectVisitor {
    type Value = RawObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        // strangers choose the number of names: a member is found by its name, not by a search
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            match places.get(&name) {
                Some(&place) => members[place].1 = value,
                None => {
                    places.insert(name.clone(), members.len());
                    members.push((name, value));
                }
            }
        }
        Ok(RawObject(members))
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::RawObject;

    #[test]
    fn raw_object_of_many_names_is_read_in_linear_time() {
        // a search by name would compare 10^11 names
        const N: usize = 500_000;
        let members: Vec<String> = (0..2 * N).map(|at| format!("\"{}\":{at}", at % N)).collect();
        let text = format!("{{{}}}", members.join(","));
        let object: RawObject = serde_json::from_str(&text).unwrap();
        assert_eq!(object.0.len(), N);
        for (place, (name, value)) in object.0.iter().enumerate() {
            assert_eq!((name, value.get()), (&place.to_string(), &(N + place).to_string()[..]));
        }
    }

    #[test]
    fn raw_object_keeps_the_text_of_values() {
        let text = r#"{"a":18446744073709551617,"b":{"c":1.50e3},"a":-0,"d":null}"#;
        let mut object: RawObject = serde_json::from_str(text).unwrap();
        assert_eq!(object.get("b").unwrap().get(), r#"{"c":1.50e3}"#);
        assert!(object.get("e").is_none());
        object.set("d", &true);
        object.set("e", &1);
        let wanted = r#"{"a":-0,"b":{"c":1.50e3},"d":true,"e":1}"#;
        assert_eq!(serde_json::to_string(&object).unwrap(), wanted);
        for other in ["[1]", "7", "null", "\"x\""] {
            assert!(serde_json::from_str::<RawObject>(other).is_err(), "{other}");
        }
    }
}
