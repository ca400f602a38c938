//! Exports and inputs in places where they would destroy something.

use std::os::unix::fs::symlink;

use super::*;

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const RUN: &str = "[run]\nname = \"a\"\noutput_dir = \"outputs\"\nseed = 0\nthreads = 0\n";

#[test]
fn exports_never_meet_inputs_or_runs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write(at("models/policy/config.json"), "{}");
    write(at("models/one.gguf"), "");
    write(at("blobs/weights"), "");
    write(at("data/prompts.jsonl"), "{}");
    symlink(at("blobs/weights"), at("models/policy/model.safetensors")).unwrap();
    symlink(at("models"), at("link")).unwrap();
    write(at("outputs/mine/config.toml"), RUN);
    write(at("outputs/other/config.toml"), RUN);
    let inputs = [
        InputPath::model("policy.path", &at("models/policy")),
        InputPath::model("reward.judge.model", &at("models/one.gguf")),
        InputPath::file("prompts.path", &at("data/prompts.jsonl")),
    ];
    let check = |name: &str| {
        let checked = check_export(&at(name), &at("outputs/mine"), &inputs);
        checked.map_err(|error| error.to_string())
    };
    for (name, wanted) in [
        ("models/policy", "policy.path"),
        ("models/policy/", "policy.path"),
        ("data/../models/policy", "policy.path"),
        ("link/policy", "policy.path"),
        ("models/policy/tuned", "policy.path"),
        ("link/policy/tuned/more", "policy.path"),
        ("models", "policy.path"),
        ("blobs", "policy.path"),
        ("link/one.gguf", "reward.judge.model"),
        ("data", "prompts.path"),
        ("data/prompts.jsonl", "prompts.path"),
        ("outputs/mine", "own folder"),
        ("outputs/mine/checkpoints/step_00001", "own records"),
        ("outputs/mine/step_00009", "own records"),
        ("outputs", "own folder"),
        ("outputs/other", "another run"),
        ("outputs/other/model", "another run"),
    ] {
        let refused = check(name).unwrap_err();
        assert!(refused.contains(wanted) && refused.contains("export.path"), "{name}: {refused}");
    }
    for name in ["models/policy2", "tuned", "outputs/mine/model", "outputs/model", "data2/x"] {
        assert_eq!(check(name), Ok(()), "{name}");
    }
    assert!(check("none/../tuned").is_err(), "what this is nobody knows before it is there");
}

#[test]
fn inputs_in_the_run_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("outputs/a");
    write(run.join("checkpoints/step_00002/config.json"), "{}");
    let input = InputPath::model("policy.path", &run.join("checkpoints/step_00002"));
    let refused = check_inputs(&run, std::slice::from_ref(&input)).unwrap_err().to_string();
    assert!(refused.contains("policy.path") && refused.contains("own folder"), "{refused}");
    check_inputs(&dir.path().join("outputs/b"), &[input]).unwrap();
}
