//! Merging and its error messages.

use serde::Deserialize;

use super::*;
use crate::config::sft::SftRun;
use crate::config::train::TrainRun;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    name: String,
    optim: Optim,
    judge: Judge,
    new: Option<New>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Optim {
    lr: f64,
    #[schemars(range(min = 1))]
    steps: u32,
    /// An engine has two steps unless its owner has another default.
    inner_steps: u32,
}

impl Default for Optim {
    fn default() -> Self {
        Self { lr: 0.0, steps: 2, inner_steps: 2 }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Judge {
    #[serde(flatten)]
    kind: Kind,
    #[serde(default)]
    temperature: f64,
}

impl Default for Judge {
    fn default() -> Self {
        let optim = Optim { inner_steps: 7, ..Optim::default() };
        Self { kind: Kind::Engine { model: "m".into(), optim }, temperature: 0.5 }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Engine { model: String, optim: Optim },
    Http { model: String, url: String },
    Rule,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct New {
    width: u32,
    depth: u32,
}

fn read(files: &[&str], overrides: &[&str]) -> Result<Config, Error> {
    read_as(files, overrides)
}

fn read_as<T>(files: &[&str], overrides: &[&str]) -> Result<T, Error>
where
    T: Default + Serialize + DeserializeOwned + JsonSchema,
{
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
    Merged::read(&paths, &overrides)?.into_config(|_| Vec::new())
}

fn message(files: &[&str], overrides: &[&str]) -> String {
    let message = read(files, overrides).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

#[test]
fn later_sources_win_key_by_key() {
    let config = read(
        &["name = 'a'\n[optim]\nlr = 1e-3\nsteps = 3", "[optim]\nsteps = 4"],
        &["optim.lr=2e-3", "name=b-1"],
    );
    let optim = Optim { lr: 2e-3, steps: 4, ..Optim::default() };
    let wanted = Config { name: "b-1".into(), optim, ..Config::default() };
    assert_eq!(config.unwrap(), wanted);
}

#[test]
fn keys_that_are_left_out_have_the_defaults_of_the_section_that_holds_them() {
    let config = read(&["[judge.optim]\nlr = 1.0"], &[]).unwrap();
    let optim = Optim { lr: 1.0, inner_steps: 7, ..Optim::default() };
    let kind = Kind::Engine { model: "m".into(), optim };
    assert_eq!(config.judge, Judge { kind, temperature: 0.5 });
}

#[test]
fn a_later_kind_drops_the_keys_of_the_earlier_kind() {
    let engine =
        "[judge]\nkind = 'engine'\nmodel = 'a'\ntemperature = 0.1\n[judge.optim]\nlr = 1.0";
    let rule = read(&[engine], &["judge.kind=rule"]).unwrap();
    assert_eq!(rule.judge, Judge { kind: Kind::Rule, temperature: 0.1 });

    let wanted = Kind::Http { model: "b".into(), url: "u".into() };
    let in_files = read(&[engine, "[judge]\nkind = 'http'\nmodel = 'b'\nurl = 'u'"], &[]);
    assert_eq!(in_files.unwrap().judge.kind, wanted);
    // the kind may come after its keys
    let overrides = ["judge.url=u", "judge.kind=http", "judge.model=b"];
    assert_eq!(read(&[engine], &overrides).unwrap().judge.kind, wanted);
    // another kind's `model` is another key
    let missing = message(&[engine], &["judge.kind=http", "judge.url=u"]);
    assert!(missing.contains("judge.model is missing"), "{missing}");
    let same = read(&[engine], &["judge.kind=engine"]).unwrap();
    assert_eq!(same, read(&[engine], &[]).unwrap());
}

#[test]
fn change_of_kind_gives_an_engine_the_defaults_of_a_judge() {
    let engine =
        "[reward.judge]\nkind = 'engine'\nmodel = 'm'\n[reward.judge.engine]\nmax_batch = 4";
    let directly: TrainRun = read_as(&[engine], &[]).unwrap();
    let after_rule: TrainRun = read_as(&["[reward.judge]\nkind = 'rule'", engine], &[]).unwrap();
    assert_eq!(after_rule.reward, directly.reward);
}

#[test]
fn errors_name_the_key_and_its_source() {
    for (files, overrides, wanted) in [
        (
            &["[optim]\nlearning = 1"][..],
            &[][..],
            &["0.toml: optim.learning is an unknown key"][..],
        ),
        (&["nam = 1"], &[], &["0.toml: nam is an unknown key; did you mean name?"]),
        (&["name = 'a'", "[optim]\nsteps = -1"], &[], &["1.toml: optim.steps is -1"]),
        (&[], &["optim.lr=fast"], &["the command line: optim.lr is \"fast\", wanted a number"]),
        (&["name = 'a"], &[], &["0.toml:1"]),
        (&[], &["optim.lr"], &["no `=`"]),
        (&["optim = 3"], &[], &["0.toml: optim: invalid type"]),
        (&["[new]\nwidth = 3"], &[], &["0.toml: new.depth is missing"]),
        (
            &["[judge]\nkind = 'rule'\nurl = 'u'"],
            &[],
            &["0.toml: judge.url is a key of judge.kind = \"http\", but judge.kind is \"rule\""],
        ),
        (&[], &["judge.url=u"], &["judge.kind = \"http\", but judge.kind is \"engine\""]),
        (&["rollout.max_batch = 3"], &[], &["has a new name: rollout.engine.max_batch"]),
        (
            &["[optim]\nsteps = 0", "nam = 1\n[optim]\nlr = nan"],
            &["optim.stps=1"],
            &["0.toml: optim.steps is 0", "1.toml: optim.lr is nan", "nam is", "optim.stps is"],
        ),
    ] {
        let message = message(files, overrides);
        for part in wanted {
            assert!(message.contains(part), "{message} lacks {part}");
        }
    }
}

#[test]
fn override_of_a_text_is_what_was_written() {
    for (written, wanted) in [
        ("name=7", "7"),
        ("name=true", "true"),
        ("name=nan", "nan"),
        ("name=1e-3", "1e-3"),
        ("name=2026-01-01", "2026-01-01"),
        ("name=[a]", "[a]"),
        ("name=\"7\"", "7"),
        ("name='a b'", "a b"),
        ("name=a=b", "a=b"),
        ("judge.model=007", "007"),
    ] {
        let config = read(&[], &[written]).unwrap();
        let Kind::Engine { model, .. } = config.judge.kind else { panic!("{written}") };
        assert!([config.name, model].iter().any(|text| text == wanted), "{written}");
    }
    let message = message(&[], &["optim.steps=18446744073709551616"]);
    assert!(message.contains("optim.steps is 18446744073709551616, wanted at most"), "{message}");
    let message = read(&[], &["optim.steps=true"]).unwrap_err().to_string();
    assert!(message.contains("optim.steps is true, wanted an integer"), "{message}");
}

#[test]
fn rules_between_keys_are_told_with_all_other_problems() {
    let merged = Merged::read(&[], &["optim.steps=0".to_owned(), "name=x".to_owned()]).unwrap();
    let rules = |config: &Config| {
        assert_eq!(config.optim.steps, 0);
        let same = "optim.steps is 0, wanted at least 1".to_owned();
        vec![same, format!("name is {}, wanted another", config.name)]
    };
    let message = merged.into_config(rules).unwrap_err().to_string();
    assert_eq!(
        message,
        "the command line: optim.steps is 0, wanted at least 1; config: name is x, wanted another"
    );
}

#[test]
fn a_later_length_takes_the_place_of_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["[trainer]\nsteps = 100", "[trainer]\nepochs = 2.0", "[trainer]\nbatch_size = 3"];
    let paths = files.iter().enumerate().map(|(at, text)| {
        let path = dir.path().join(format!("{at}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    });
    let paths: Vec<PathBuf> = paths.collect();
    let read = |files: &[PathBuf], overrides: &[&str]| {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let merged = Merged::read(files, &overrides).unwrap();
        let config: SftRun = merged.into_config(|_: &SftRun| Vec::new()).unwrap();
        (config.trainer.steps, config.trainer.epochs)
    };
    assert_eq!(read(&paths, &[]), (None, Some(2.0)));
    assert_eq!(read(&paths, &["trainer.steps=7"]), (Some(7), None));
    assert_eq!(read(&paths[..1], &["trainer.epochs=1", "trainer.steps=7"]), (Some(7), Some(1.0)));
    assert_eq!(read(&paths[2..], &[]), (None, None));
}
