//! The shipped configs, as their headers say to run them, and the pages made from their types.

use crate::binary::{arg, root, succeed};

#[test]
fn shipped_configs_are_valid() {
    let mut n_read = 0;
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = arg(&entry.unwrap().path());
        let text = std::fs::read_to_string(&path).unwrap();
        // the header of a config names its command
        let verb = ["train", "sft", "dpo", "serve"];
        let verb = verb.iter().find(|verb| text.contains(&format!("joust {verb} configs/")));
        let verb = verb.unwrap_or_else(|| panic!("{path} does not say how it is run"));
        assert!(succeed(&[verb, &path[..], "--dry-run"]).contains("[run]"), "{path}");
        n_read += 1;
    }
    assert!(n_read >= 7);
}

#[test]
fn generated_pages_are_current() {
    succeed(&["docs", "--check"]);
}
