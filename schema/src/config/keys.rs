//! The keys of a config struct in source order, each with its type, bounds and meaning, from the
//! struct's JSON schema.
//!
//! It does not know values.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// The keys of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigKeys {
    /// Keys that the table always has, in source order.
    pub all: Vec<ConfigKey>,
    /// Keys that depend on the value of one key, the tag.
    pub variants: Option<Variants>,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigKey {
    /// Its name.
    pub name: String,
    /// What it means.
    pub meaning: String,
    /// The values that it takes.
    pub shape: Shape,
}

/// The kinds of a table, and the keys of each kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Variants {
    /// The key that names the kind.
    pub tag: String,
    /// The kinds, in source order.
    pub all: Vec<Variant>,
}

/// A kind of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The tag's value.
    pub choice: Choice,
    /// Keys that only this kind has.
    pub keys: Vec<ConfigKey>,
}

/// The values that a key takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A table.
    Table(ConfigKeys),
    /// One of a few words.
    Choice(Vec<Choice>),
    /// An integer.
    Integer(Bounds),
    /// A number.
    Number(Bounds),
    /// A text; `is_required` forbids the empty text.
    Text {
        /// Whether the empty text is refused.
        is_required: bool,
    },
    /// True or false.
    Bool,
    /// A list; `is_required` forbids the empty list.
    List {
        /// Whether the empty list is refused.
        is_required: bool,
        /// The values of its items.
        items: Box<Shape>,
    },
    /// Anything else; not checked.
    Any,
}

/// A word that a key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The word.
    pub word: String,
    /// What it means.
    pub meaning: String,
}

/// The highest `u32`: a limit of the type, which nobody chose.
const HIGHEST_U32: f64 = u32::MAX as f64;

/// Bounds of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bounds {
    /// The lowest value.
    pub min: Option<f64>,
    /// The highest value.
    pub max: Option<f64>,
    /// The value must be greater than this one.
    pub above: Option<f64>,
    /// The value must be less than this one.
    pub below: Option<f64>,
}

impl ConfigKeys {
    /// The keys of a config struct.
    pub fn of<T: JsonSchema>() -> Self {
        // the serialised struct requires all its keys: the schema lists them in source order
        let settings = SchemaSettings::draft2020_12().for_serialize();
        let settings = settings.with(|settings| settings.inline_subschemas = true);
        let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
        Self::read(schema.as_value())
    }

    fn read(schema: &Value) -> Self {
        Self { all: keys_of(schema), variants: Variants::read(schema) }
    }

    /// The key `name`, of any kind.
    pub fn get(&self, name: &str) -> Option<&ConfigKey> {
        let of_kinds = self.variants.iter().flat_map(|variants| &variants.all);
        let mut all = self.all.iter().chain(of_kinds.flat_map(|variant| &variant.keys));
        all.find(|key| key.name == name)
    }

    /// The keys of a table of kind `kind`; of all kinds where there is no such kind.
    pub fn of_kind<'a>(&'a self, kind: Option<&'a str>) -> impl Iterator<Item = &'a ConfigKey> {
        let variants = self.variants.as_ref();
        let is_known = kind.and_then(|kind| variants?.get(kind)).is_some();
        let of_kinds = variants.into_iter().flat_map(|variants| &variants.all);
        let of_kinds =
            of_kinds.filter(move |it| !is_known || Some(it.choice.word.as_str()) == kind);
        self.all.iter().chain(of_kinds.flat_map(|variant| &variant.keys))
    }
}

impl Variants {
    fn read(schema: &Value) -> Option<Self> {
        let all = schema["oneOf"].as_array()?;
        let tag_of = |variant: &Value| {
            let properties = variant["properties"].as_object()?;
            let tag = properties.iter().find(|(_, property)| property["const"].is_string())?;
            Some((tag.0.clone(), text(&tag.1["const"])))
        };
        let (tag, _) = tag_of(all.first()?)?;
        let variant = |schema: &Value| {
            let (tag, word) = tag_of(schema)?;
            let mut keys = keys_of(schema);
            keys.retain(|key| key.name != tag);
            Some(Variant { choice: Choice { word, meaning: meaning(schema) }, keys })
        };
        Some(Self { tag, all: all.iter().filter_map(variant).collect() })
    }

    /// The kind with the tag `word`.
    pub fn get(&self, word: &str) -> Option<&Variant> {
        self.all.iter().find(|variant| variant.choice.word == word)
    }
}

impl Shape {
    fn read(schema: &Value) -> Self {
        let any = schema["anyOf"].as_array();
        if let Some(of_option) = any.and_then(|any| any.iter().find(|it| it["type"] != "null")) {
            return Self::read(of_option);
        }
        let keys = ConfigKeys::read(schema);
        if schema["properties"].is_object() || keys.variants.is_some() {
            return Self::Table(keys);
        }
        if let Some(choices) = choices(schema) {
            return Self::Choice(choices);
        }
        let is_required = |key: &str| schema[key].as_u64().is_some_and(|least| least > 0);
        match type_of(schema) {
            "integer" => Self::Integer(Bounds::read(schema)),
            "number" => Self::Number(Bounds::read(schema)),
            "string" => Self::Text { is_required: is_required("minLength") },
            "boolean" => Self::Bool,
            "array" => Self::List {
                is_required: is_required("minItems"),
                items: Box::new(Self::read(&schema["items"])),
            },
            _ => Self::Any,
        }
    }
}

impl Bounds {
    fn read(schema: &Value) -> Self {
        let of_type = (schema["format"] == "uint32").then_some(HIGHEST_U32);
        Self {
            min: schema["minimum"].as_f64(),
            max: schema["maximum"].as_f64().or(of_type),
            above: schema["exclusiveMinimum"].as_f64(),
            below: schema["exclusiveMaximum"].as_f64(),
        }
    }

    /// The values that are wanted in place of `value`, which is out of bounds.
    pub(super) fn wanted(&self, value: f64) -> String {
        match self.to_string() {
            _ if value > HIGHEST_U32 && self.max == Some(HIGHEST_U32) => {
                format!("at most {HIGHEST_U32}")
            }
            text if text.is_empty() => "a finite number".to_owned(),
            text => text,
        }
    }

    /// Whether `value` is within the bounds; NaN and infinities are not.
    pub fn contain(&self, value: f64) -> bool {
        value.is_finite()
            && self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
            && self.above.is_none_or(|above| value > above)
            && self.below.is_none_or(|below| value < below)
    }
}

/// "at least 1", "above 0 and at most 1"; empty without bounds other than the type's own.
impl std::fmt::Display for Bounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("at least", self.min),
            ("above", self.above),
            ("at most", self.max.filter(|max| *max < HIGHEST_U32)),
            ("below", self.below),
        ];
        let parts =
            parts.into_iter().filter_map(|(word, bound)| Some(format!("{word} {}", bound?)));
        f.write_str(&parts.collect::<Vec<_>>().join(" and "))
    }
}

/// The properties of an object, in the order in which it requires them.
fn keys_of(schema: &Value) -> Vec<ConfigKey> {
    let required = schema["required"].as_array().into_iter().flatten();
    let key = |name: &Value| {
        let property = schema["properties"].get(name.as_str()?)?;
        let shape = Shape::read(property);
        Some(ConfigKey { name: text(name), meaning: meaning(property), shape })
    };
    required.filter_map(key).collect()
}

fn choices(schema: &Value) -> Option<Vec<Choice>> {
    if let Some(words) = schema["enum"].as_array() {
        let choice = |word: &Value| Choice { word: text(word), meaning: String::new() };
        return Some(words.iter().filter(|word| word.is_string()).map(choice).collect());
    }
    let mut all = Vec::new();
    for choice in schema["oneOf"].as_array()? {
        match choice["const"].as_str() {
            Some(word) => {
                all.push(Choice { word: word.to_owned(), meaning: meaning(choice) });
            }
            None => all.extend(choices(choice)?),
        }
    }
    Some(all)
}

/// The type's name; for an optional value that of the value.
fn type_of(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        name => name.as_str().unwrap_or_default(),
    }
}

fn meaning(schema: &Value) -> String {
    text(&schema["description"]).replace('\n', " ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
