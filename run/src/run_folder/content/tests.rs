//! What is taken for a run, and what is deleted of it.

use super::*;

fn write(path: PathBuf, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

const RUN: &str = "[run]\nname = \"a\"\noutput_dir = \"outputs\"\nseed = 0\nthreads = 0\n";

/// The folder of a run that has made a step, with a checkpoint.
fn make_run(dir: &Path) {
    write(dir.join(CONFIG), RUN);
    write(dir.join(ABOUT), "{\"joust\": \"0.1.0\"}");
    write(dir.join(lock::FILE), "process 1");
    write(dir.join(METRICS), "{\"step\":0}\n{\"step\":1}\n");
    write(dir.join(STARTS), "{}\n");
    write(dir.join("step_00001/votes.parquet"), "");
    write(dir.join("step_00002.tmp/votes.parquet"), "");
    write(dir.join("metrics.jsonl.4711-3.tmp"), "");
    write(dir.join("checkpoints/step_00001/config.json"), "{}");
    write(dir.join("checkpoints/step_00001.old.tmp/config.json"), "{}");
    write(dir.join("completions/completions_00001.parquet"), "");
}

#[test]
fn look_tells_runs_from_other_folders_and_runs_without_steps() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let content = |name: &str| look(&at(name)).unwrap();
    assert_eq!(content("none"), FolderContent::Nothing);
    write(at("killed/config.toml.tmp"), "[ru");
    write(at("killed/.lock"), "");
    assert_eq!(content("killed"), FolderContent::Nothing);
    write(at("killed/config.toml.4711-0.tmp"), "[ru");
    assert_eq!(content("killed"), FolderContent::Nothing);
    // an empty config.toml of something else, a project with its own run.json, a folder of files
    write(at("hugo/config.toml"), "title = \"my pages\"\n");
    write(at("tool/config.toml"), "[run]\nfast = true\n");
    write(at("tool/run.json"), "{\"steps\": 3}");
    write(at("tool2/config.toml"), "[run]\nfast = true\n");
    write(at("tool2/src/main.py"), "");
    write(at("notes/notes.txt"), "mine");
    for name in ["hugo", "tool", "tool2", "notes"] {
        assert_eq!(content(name), FolderContent::Other, "{name}");
        assert_eq!(run_around(&at(name).join("x")), None, "{name}");
    }
    write(at("begun/config.toml"), RUN);
    assert_eq!(content("begun"), FolderContent::RunWithoutSteps);
    write(at("begun/metrics.jsonl"), "{\"step\":0,\"eval/accuracy\":0.5}\n{\"st");
    assert_eq!(content("begun"), FolderContent::RunWithoutSteps);
    write(at("begun/metrics.jsonl"), "{\"step\":1}\n");
    assert_eq!(content("begun"), FolderContent::RunWithSteps);
    make_run(&at("run"));
    assert_eq!(content("run"), FolderContent::RunWithSteps);
    let inside = at("run").join("checkpoints/step_00001");
    assert_eq!(run_around(&inside), Some(at("run")));
    write(at("file"), "");
    assert!(look(&at("file")).unwrap_err().to_string().contains("is no folder"));
}

#[test]
fn delete_run_deletes_what_joust_wrote_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    make_run(&run);
    delete_run(&run).unwrap();
    assert_eq!(names(&run).unwrap(), [lock::FILE]);

    make_run(&run);
    let kept = ["notes.txt", "checkpoints/best/config.json", "other/config.toml", "step_1x/a"];
    kept.iter().for_each(|name| write(run.join(name), "mine"));
    write(dir.path().join("elsewhere/step_00007/a"), "mine");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), run.join("step_00007")).unwrap();
    delete_run(&run).unwrap();
    for name in kept {
        assert_eq!(std::fs::read_to_string(run.join(name)).unwrap(), "mine", "{name}");
    }
    assert!(dir.path().join("elsewhere/step_00007/a").exists() && !run.join("step_00007").exists());
    let mut left = names(&run).unwrap();
    left.sort();
    assert_eq!(left, [".lock", "checkpoints", "notes.txt", "other", "step_1x"]);
    assert_eq!(names(&run.join("checkpoints")).unwrap(), ["best"]);
}
