//! Every old key is refused, and its new name is a key.

use std::path::PathBuf;

use joust_schema::config::keys::{ConfigKeys, Shape};

use super::*;
use crate::config::merge::Merged;
use crate::config::train::TrainRun;

/// Whether the keys have `dotted`, in any kind.
fn has(keys: &ConfigKeys, dotted: &str) -> bool {
    match dotted.split_once('.') {
        None => keys.get(dotted).is_some(),
        Some((first, rest)) => match keys.get(first).map(|key| &key.shape) {
            Some(Shape::Table(inner)) => has(inner, rest),
            _ => false,
        },
    }
}

#[test]
fn old_keys_are_refused_and_name_the_new_key() {
    let keys = ConfigKeys::of::<TrainRun>();
    let no_files: [PathBuf; 0] = [];
    for (old, new) in RENAMED {
        assert!(!has(&keys, old), "{old} is a key");
        assert!(has(&keys, new), "{new} is no key");
        let merged = Merged::read(&no_files, &[format!("{old}=1")]).unwrap();
        let message = merged.into_config::<TrainRun>(|_| Vec::new()).unwrap_err().to_string();
        assert_eq!(message, format!("the command line: {old} has a new name: {new}"));
    }
}

#[test]
fn page_lists_each_old_key_with_its_new_name() {
    let page = page();
    for (old, new) in RENAMED {
        assert!(page.contains(&format!("| `{old}` | `{new}` |")), "{old}");
    }
}
