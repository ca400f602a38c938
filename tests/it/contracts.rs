//! Who may depend on whom: stages meet in `schema` and `engine`, never in each other.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::binary::root;

const ALLOWED: [(&str, &[&str]); 11] = [
    ("joust-schema", &[]),
    ("joust-fleet", &["joust-schema"]),
    ("joust-dist", &[]),
    ("joust-engine", &["joust-schema"]),
    ("joust-data", &["joust-schema"]),
    ("joust-rollout", &["joust-schema", "joust-fleet", "joust-engine"]),
    ("joust-reward", &["joust-schema", "joust-fleet", "joust-engine"]),
    ("joust-server", &["joust-schema", "joust-reward"]),
    ("joust-trainer", &["joust-schema", "joust-dist", "joust-engine"]),
    (
        "joust-run",
        &[
            "joust-schema",
            "joust-dist",
            "joust-engine",
            "joust-data",
            "joust-rollout",
            "joust-reward",
            "joust-trainer",
        ],
    ),
    (
        "joust",
        &[
            "joust-schema",
            "joust-dist",
            "joust-engine",
            "joust-data",
            "joust-rollout",
            "joust-reward",
            "joust-server",
            "joust-trainer",
            "joust-run",
        ],
    ),
];

/// Dependencies between the workspace's crates that are not allowed, by crates and their
/// dependencies.
fn forbidden_edges<'a>(edges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let allowed = BTreeMap::from(ALLOWED);
    let is_allowed =
        |from: &str, to: &str| allowed.get(from).is_some_and(|to_all| to_all.contains(&to));
    let ours =
        edges.into_iter().filter(|(_, to)| allowed.contains_key(to) || to.starts_with("joust"));
    let forbidden = ours.filter(|(from, to)| !is_allowed(from, to));
    forbidden.map(|(from, to)| format!("{from} depends on {to}")).collect()
}

fn name_of(package: &serde_json::Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn crates_depend_in_one_direction() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().map(name_of).collect();
    assert_eq!(names, ALLOWED.iter().map(|(name, _)| *name).collect());
    let edges = packages.iter().flat_map(|package| {
        let dependencies = package["dependencies"].as_array().unwrap();
        dependencies.iter().map(|dependency| (name_of(package), name_of(dependency)))
    });
    assert_eq!(forbidden_edges(edges), Vec::<String>::new());
}

#[test]
fn forbidden_edges_of_stages_server_and_fleet_are_named() {
    for (from, to) in [
        ("joust-server", "joust-engine"),
        ("joust-server", "joust-fleet"),
        ("joust-reward", "joust-server"),
        ("joust-rollout", "joust-reward"),
        ("joust-trainer", "joust-rollout"),
        ("joust-fleet", "joust-reward"),
        ("joust-schema", "joust"),
        ("joust-dist", "joust-engine"),
        ("joust-engine", "joust-dist"),
        ("joust-reward", "joust-of-tomorrow"),
    ] {
        assert_eq!(forbidden_edges([(from, to)]), [format!("{from} depends on {to}")]);
    }
    let allowed = [("joust-server", "joust-reward"), ("joust-server", "axum"), ("joust", "tch")];
    assert_eq!(forbidden_edges(allowed), Vec::<String>::new());
}
