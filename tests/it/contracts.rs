//! Who may depend on whom: stages meet in `schema` and `engine`, never in each other.

use std::collections::BTreeMap;
use std::process::Command;

use crate::binary::root;

const ALLOWED: [(&str, &[&str]); 9] = [
    ("joust-schema", &[]),
    ("joust-fleet", &["joust-schema"]),
    ("joust-engine", &["joust-schema"]),
    ("joust-data", &["joust-schema"]),
    ("joust-rollout", &["joust-schema", "joust-engine"]),
    ("joust-reward", &["joust-schema", "joust-fleet", "joust-engine"]),
    ("joust-server", &["joust-schema", "joust-reward"]),
    ("joust-trainer", &["joust-schema", "joust-engine"]),
    (
        "joust",
        &[
            "joust-schema",
            "joust-engine",
            "joust-data",
            "joust-rollout",
            "joust-reward",
            "joust-server",
            "joust-trainer",
        ],
    ),
];

#[test]
fn crates_depend_in_one_direction() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = BTreeMap::from(ALLOWED);
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), allowed.len());
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let is_ours = on.starts_with("joust");
            assert!(!is_ours || allowed[name].contains(&on), "{name} depends on {on}");
        }
    }
}
