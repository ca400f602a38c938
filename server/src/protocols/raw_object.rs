//! A JSON object whose values stay the client's own text, so that an answer which repeats them
//! repeats every digit of a number. Pure.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// Members in the order of the client. Of members with the same name the last counts.
#[derive(Debug, Default)]
pub(crate) struct RawObject(Vec<(String, Box<RawValue>)>);

impl RawObject {
    /// The text of a member.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Sets a member.
    pub(crate) fn set(&mut self, name: &str, value: &impl Serialize) {
        let value = to_raw_value(value).expect("the value is plain data. This is a bug.");
        self.insert(name.to_owned(), value);
    }

    fn insert(&mut self, name: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
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
        let mut members = RawObject::default();
        while let Some((name, value)) = map.next_entry()? {
            members.insert(name, value);
        }
        Ok(members)
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
