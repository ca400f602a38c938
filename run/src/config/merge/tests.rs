//! Merging and its error messages.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    name: String,
    optim: Optim,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Optim {
    lr: f64,
    steps: u32,
}

fn read(files: &[&str], overrides: &[&str]) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(idx, text)| {
            let path = dir.path().join(format!("{idx}.toml"));
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    Merged::read(&paths, &overrides)?.into_config()
}

#[test]
fn later_sources_win_key_by_key() {
    let config = read(
        &["name = 'a'\n[optim]\nlr = 1e-3\nsteps = 3", "[optim]\nsteps = 4"],
        &["optim.lr=2e-3", "name=b-1"],
    );
    let wanted = Config { name: "b-1".into(), optim: Optim { lr: 2e-3, steps: 4 } };
    assert_eq!(config.unwrap(), wanted);
}

#[test]
fn errors_name_the_key_and_its_source() {
    let check = |files: &[&str], overrides: &[&str], wanted: &[&str]| {
        let message = format!("{:#}", read(files, overrides).unwrap_err());
        for part in wanted {
            assert!(message.contains(part), "{message} lacks {part}");
        }
        assert!(!message.contains('\n'), "{message}");
    };
    check(&["[optim]\nlearning = 1"], &[], &["0.toml", "`optim.learning`", "unknown field"]);
    check(&["nam = 1"], &[], &["0.toml", "`nam`"]);
    check(&["name = 'a'", "[optim]\nsteps = -1"], &[], &["1.toml", "`optim.steps`"]);
    check(&[], &["optim.lr=fast"], &["the command line", "`optim.lr`"]);
    check(&["name = 'a"], &[], &["0.toml:1"]);
    check(&[], &["optim.lr"], &["no `=`"]);
}
