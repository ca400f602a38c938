//! Keys of a struct with every shape.

use serde::Serialize;

use super::*;

/// A section.
#[derive(Serialize, JsonSchema)]
struct Section {
    /// Name of
    /// the run.
    #[schemars(length(min = 1))]
    name: String,
    #[schemars(range(min = 1))]
    count: Option<u32>,
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    share: f64,
    #[schemars(length(min = 1), inner(length(min = 1)))]
    texts: Vec<String>,
    is_on: bool,
    words: Option<Word>,
    inner: Option<Inner>,
    #[serde(flatten)]
    kind: Kind,
    after: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is read")]
enum Word {
    /// The first word.
    FirstWord,
    Second,
}

#[derive(Serialize, JsonSchema)]
struct Inner {
    zebra: u64,
    aardvark: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(dead_code, reason = "only its schema is read")]
enum Kind {
    /// A file.
    File(File),
    /// Nothing.
    Nothing,
}

#[derive(Serialize, JsonSchema)]
struct File {
    path: String,
    inner: Inner,
}

fn shape(name: &str) -> Shape {
    ConfigKeys::of::<Section>().get(name).unwrap().shape.clone()
}

#[test]
fn keys_are_in_source_order_with_their_meaning() {
    let keys = ConfigKeys::of::<Section>();
    let names: Vec<&str> = keys.all.iter().map(|key| key.name.as_str()).collect();
    let wanted = ["name", "count", "share", "texts", "is_on", "words", "inner", "after"];
    assert_eq!(names, wanted);
    assert_eq!(keys.all[0].meaning, "Name of the run.");
    let Shape::Table(inner) = shape("inner") else { panic!("inner is a table") };
    assert_eq!(inner.all[0].name, "zebra");
}

#[test]
fn shapes_are_those_of_the_types() {
    let at_least = |min| Bounds { min: Some(min), ..Bounds::default() };
    let count = Bounds { max: Some(f64::from(u32::MAX)), ..at_least(1.0) };
    let share = Bounds { above: Some(0.0), max: Some(1.0), ..Bounds::default() };
    let required = Shape::Text { is_required: true };
    let texts = Shape::List { is_required: true, items: Box::new(required.clone()) };
    let word = |word: &str, meaning: &str| Choice { word: word.into(), meaning: meaning.into() };
    let words = vec![word("first_word", "The first word."), word("second", "")];
    for (name, wanted) in [
        ("name", required),
        ("count", Shape::Integer(count)),
        ("share", Shape::Number(share)),
        ("texts", texts),
        ("is_on", Shape::Bool),
        ("after", Shape::Integer(at_least(0.0))),
    ] {
        assert_eq!(shape(name), wanted, "{name}");
    }
    let Shape::Choice(mut seen) = shape("words") else { panic!("words is a choice") };
    seen.sort_by(|a, b| a.word.cmp(&b.word));
    assert_eq!(seen, words);
    assert_eq!(share.to_string(), "above 0 and at most 1");
}

#[test]
fn kinds_have_keys_of_their_own() {
    let keys = ConfigKeys::of::<Section>();
    let variants = keys.variants.as_ref().unwrap();
    assert_eq!(variants.tag, "kind");
    let names = |kind| keys.of_kind(kind).map(|key| key.name.as_str()).collect::<Vec<_>>();
    assert!(names(Some("file")).contains(&"path"));
    assert!(!names(Some("nothing")).contains(&"path"));
    assert!(names(Some("no_such_kind")).contains(&"path"));
    assert_eq!(variants.get("file").unwrap().choice.meaning, "A file.");
    assert_eq!(names(Some("nothing")).len(), keys.all.len());
}
