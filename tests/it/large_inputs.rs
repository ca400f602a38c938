//! Inputs that are larger than memory: folders and patterns, sets, shards, restarts after kills and
//! signals, and what ordinary events do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::binary::{arg, file, joust, json_lines, refuse, succeed, told};
use crate::full_disk::limited;
use crate::held_judge::{JudgeServer, Manner};
use crate::stopped::Begun;

const RULE: &str = "[reward.judge]\nkind = \"rule\"\n";

/// Longest time for anything that should happen soon.
const LIMIT: Duration = Duration::from_secs(120);

fn completions(n: usize) -> [String; 3] {
    [format!("It is {}.", n + 1), format!("It is {n}."), format!("I say {}.", n + 1)]
}

fn group(n: usize) -> String {
    let row = json!({"prompt": format!("{n}+1?"), "completions": completions(n), "answer": n + 1});
    format!("{row}\n")
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(group).collect()
}

/// Groups as a Parquet file of several row groups.
fn table(path: &Path, numbers: std::ops::Range<usize>) {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for n in numbers.clone() {
        lists.append_value(completions(n).map(Some));
    }
    let texts = |text: fn(usize) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(numbers.clone().map(text)))
    };
    let columns: [(&str, ArrayRef); 3] = [
        ("prompt", texts(|n| format!("{n}+1?"))),
        ("completions", Arc::new(lists.finish())),
        ("answer", texts(|n| (n + 1).to_string())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    for start in (0..batch.num_rows()).step_by(700) {
        writer.write(&batch.slice(start, 700.min(batch.num_rows() - start))).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

/// A folder with `n` groups in two files of lines and a table.
fn folder(dir: &Path, n: usize) -> String {
    let data = dir.join("data");
    std::fs::create_dir_all(data.join("more")).unwrap();
    file(&data, "a.jsonl", &lines(0..n / 2));
    table(&data.join("b.parquet"), n / 2..n * 3 / 4);
    file(&data, "more/c.jsonl", &lines(n * 3 / 4..n));
    file(&data, "_SUCCESS", "");
    arg(&data)
}

/// All files below a folder with their content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(dir).unwrap().to_owned();
                    drop(found.insert(name, std::fs::read(path).unwrap()));
                }
            }
        }
    }
    found
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (content(one), content(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    let differs = |(name, bytes): &(&PathBuf, &Vec<u8>)| other[*name] != **bytes;
    assert!(!one.iter().any(|file| differs(&file)));
}

/// The lines of `rewards.jsonl` of all sets, in their order.
fn rewards(output: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    for number in 0.. {
        let path = output.join(format!("set_{number:05}/rewards.jsonl"));
        match std::fs::read_to_string(path) {
            Ok(text) => all.extend(json_lines(&text)),
            Err(_) => return all,
        }
    }
    all
}

fn ids(rewards: &[Value]) -> Vec<&str> {
    rewards.iter().map(|row| row["group_id"].as_str().unwrap()).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_commands_go_on_and_end_in_the_bytes_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    let (config, input) = (file(dir.path(), "rule.toml", RULE), folder(dir.path(), 6000));
    let out = |name: &str| dir.path().join(name);
    let args = |name: &str| {
        let (config, input, output) = (config.clone(), input.clone(), arg(&out(name)));
        let words = ["score", &config, "--input", &input, "--output", &output, "--set-groups"];
        words.into_iter().chain(["400"]).map(str::to_owned).collect::<Vec<_>>()
    };
    let said = succeed(&args("whole"));
    assert!(said.starts_with("6000 groups, 18000 votes, 0 completions"), "{said}");
    for n_sets in [1, 2, 5, 9, 14] {
        let mut command = joust(&args("killed"));
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let set = out("killed").join(format!("set_{n_sets:05}.tmp"));
        let finished = out("killed").join(format!("set_{n_sets:05}"));
        until("the set begins", || set.exists() || finished.exists());
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(succeed(&args("killed")).replace("killed", "whole"), said);
    assert_same(&out("whole"), &out("killed"));
    // nothing is left to do
    assert_eq!(succeed(&args("killed")).replace("killed", "whole"), said);
    let rewards = rewards(&out("whole"));
    let ids = ids(&rewards);
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (6000, 6000));
    assert_eq!(
        (ids[0], ids[3000], ids[5999]),
        ("a.jsonl:000001", "b.parquet:000001", "more/c.jsonl:001500")
    );
    // readers of dumps take all sets
    let best = json_lines(&succeed(&["dump", "best", &arg(&out("whole"))]));
    assert_eq!(best.len(), 6000);
}

#[test]
fn shards_take_each_group_once_and_a_set_is_scored_like_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, input) = (file(dir.path(), "rule.toml", RULE), folder(dir.path(), 100));
    let all = dir.path().join("all");
    for shard in ["1/3", "2/3", "3/3"] {
        let output = arg(&all.join(shard.replace('/', "of")));
        let pattern = format!("{input}/**/*.{{jsonl,parquet}}");
        let said = succeed(&[
            "score",
            &config,
            "--input",
            &pattern,
            "--output",
            &output,
            "--shard",
            shard,
            "--set-groups",
            "20",
        ]);
        assert!(said.starts_with("3"), "{said}");
    }
    let third = rewards(&all.join("3of3"));
    assert_eq!(ids(&third)[..2], ["a.jsonl:000003", "a.jsonl:000006"]);
    let best = json_lines(&succeed(&["dump", "best", &arg(&all)]));
    let prompts: BTreeSet<&str> = best.iter().map(|row| row["prompt"].as_str().unwrap()).collect();
    assert_eq!((best.len(), prompts.len()), (100, 100));
    // the draws of a group do not depend on its file; one set is one file
    let one = file(dir.path(), "one.jsonl", &lines(0..50));
    let (small, sets) = (dir.path().join("small"), dir.path().join("sets"));
    let score = |output: &Path, more: &[&str]| {
        let output = arg(output);
        let args = ["score", &config, "--input", &one, "--output", &output];
        succeed(&[&args[..], more].concat())
    };
    score(&small, &["--set-groups", "50"]);
    score(&sets, &["--shard", "1/1", "--set-groups", "25"]);
    let small_rows = json_lines(&std::fs::read_to_string(small.join("rewards.jsonl")).unwrap());
    let set_rows = rewards(&sets);
    assert_eq!(ids(&small_rows), ids(&set_rows));
    let matches = |path: PathBuf| {
        let path = arg(&path);
        let args = ["dump", "show", &path, "--rows", "0", "--json", "--columns"];
        succeed(&[&args[..], &["match_id,votes_a,votes_b"]].concat())
    };
    let in_sets: String =
        (0..2).map(|n| matches(sets.join(format!("set_0000{n}/matches.parquet")))).collect();
    assert_eq!(matches(small.join("matches.parquet")), in_sets);
    // a small input is no place of sets, and the other way round
    let output = arg(&sets);
    let message = refuse(&["score", &config, "--input", &one, "--output", &output]);
    assert!(message.contains("has sets of a larger input: choose another"), "{message}");
    let output = arg(&small);
    let message = refuse(&["score", &config, "--input", &input, "--output", &output]);
    assert!(message.contains("has rewards.jsonl of another input: choose another"), "{message}");
}

#[test]
fn judge_numbers_pairs_over_files_and_adds_up_its_sets() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let pair = |n: usize| {
        let [completion_a, completion_b, _] = completions(n);
        let row = json!({"prompt": format!("{n}+1?"), "completion_a": completion_a,
            "completion_b": completion_b, "winner": "a", "answer": n + 1});
        format!("{row}\n")
    };
    let pairs = |numbers: std::ops::Range<usize>| numbers.map(pair).collect::<String>();
    let one = file(dir.path(), "one.jsonl", &pairs(0..50));
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    file(&data, "1.jsonl", &pairs(0..20));
    file(&data, "2.jsonl", &pairs(20..50));
    let (whole, sets) = (arg(&dir.path().join("whole")), dir.path().join("sets"));
    let judge = |input: &str, output: &str| {
        let args = ["judge", &config, "--input", input, "--output", output, "--votes", "2"];
        let said = succeed(&[&args[..], &["--json", "--set-groups", "15"]].concat());
        let mut said: Value = serde_json::from_str(&said).unwrap();
        said["seconds"] = Value::Null;
        said
    };
    let args = ["judge", &config, "--input", &one, "--output", &whole, "--votes", "2", "--json"];
    let mut wanted: Value = serde_json::from_str(&succeed(&args)).unwrap();
    wanted["seconds"] = Value::Null;
    for _ in 0..2 {
        assert_eq!(judge(&arg(&data), &arg(&sets)), wanted, "also where all is done");
    }
    let verdicts = |set: usize| {
        std::fs::read_to_string(sets.join(format!("set_{set:05}/verdicts.jsonl"))).unwrap()
    };
    let all: String = (0..4).map(verdicts).collect();
    assert_eq!(all, std::fs::read_to_string(format!("{whole}/verdicts.jsonl")).unwrap());
    let output = arg(&sets);
    let args = ["judge", &config, "--input", &arg(&data), "--output", &output, "--votes", "4"];
    let message = refuse(&[&args[..], &["--set-groups", "9"]].concat());
    assert!(message.contains("with another value of --set-groups, --votes: "), "{message}");
}

#[test]
fn what_is_wrong_with_an_input_is_told_in_one_line_and_finished_sets_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (config, input) = (file(dir.path(), "rule.toml", RULE), folder(dir.path(), 80));
    let out = dir.path().join("out");
    let output = arg(&out);
    let score = ["score", &config, "--input", &input, "--output", &output, "--set-groups", "20"];
    let data = PathBuf::from(&input);
    let last = data.join("more/c.jsonl");
    let good = std::fs::read_to_string(&last).unwrap();
    // a row in the last set: the sets before it stay
    std::fs::write(&last, good.replace("\"It is 71.\"", "7")).unwrap();
    let message = refuse(&score);
    assert!(message.contains("more/c.jsonl:11: column `completions` "), "{message}");
    assert_eq!(rewards(&out).len(), 60);
    // an id of another file, and a file that is gone
    let row = json!({"prompt": "1", "completions": ["1"], "group_id": "a.jsonl:000007"});
    std::fs::write(&last, format!("{row}\n")).unwrap();
    let message = refuse(&score);
    let wanted = "c.jsonl:1: group_id `a.jsonl:000007` is on line 7 of a.jsonl already";
    assert!(message.contains(wanted), "{message}");
    std::fs::remove_file(&last).unwrap();
    std::os::unix::fs::symlink("nowhere", &last).unwrap();
    let message = refuse(&score);
    assert!(message.contains("more/c.jsonl: No such file"), "{message}");
    // what comes after the finished sets may be repaired
    std::fs::remove_file(&last).unwrap();
    std::fs::write(&last, &good).unwrap();
    succeed(&score);
    let whole = dir.path().join("whole");
    let output_of_whole = arg(&whole);
    succeed(&[&score[..4], &["--output", &output_of_whole, "--set-groups", "20"]].concat());
    assert_same(&out, &whole);
    // what was judged may not
    let first = data.join("a.jsonl");
    let text = std::fs::read_to_string(&first).unwrap();
    std::fs::write(&first, text.replace("It is 25.", "It is 26.")).unwrap();
    let message = refuse(&score);
    let wanted = "was made of other rows than there are now: the input has changed";
    assert!(message.contains(&format!("set 1 of {output} {wanted}")), "{message}");
    std::fs::write(&first, text).unwrap();
    std::fs::write(&last, good[..good.len() / 2].rsplit_once('\n').unwrap().0).unwrap();
    assert!(refuse(&score).contains(&format!("set 3 of {output} {wanted}")));
    std::fs::write(&last, good).unwrap();
    let message = refuse(&[&score[..], &["run.seed=3"]].concat());
    assert!(message.contains("was begun with another value of run.seed: "), "{message}");
    // places
    let inside = arg(&data.join("out"));
    let message = refuse(&["score", &config, "--input", &input, "--output", &inside]);
    assert!(message.contains("lie in each other: choose another output"), "{message}");
    let none = format!("{input}/*.csv");
    let message = refuse(&["score", &config, "--input", &none, "--output", &inside]);
    assert!(message.contains("no data files here; wanted files that end in "), "{message}");
    let unquoted = ["score", &config, "--input", &arg(&first), &arg(&last), "--output", &inside];
    let message = refuse(&unquoted);
    assert!(message.contains("is no config: --input takes one file, a folder, "), "{message}");
    let shard = ["--shard", "0/3"];
    let output = joust(&[&score[..], &shard].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("wanted i/n with i from 1 to n"), "{}", told(&output));
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    (0..2).for_each(|n| drop(file(&empty, &format!("{n}.jsonl"), "\n")));
    let message = refuse(&["score", &config, "--input", &arg(&empty), "--output", &none]);
    assert!(message.contains("0.jsonl: no rows in this file and the 1 others"), "{message}");
}

#[test]
fn a_full_disk_ends_the_command_after_the_sets_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let mut text = lines(0..10);
    // does not compress well
    let long: String =
        (0..20_000_u64).map(|n| blake3::hash(&n.to_le_bytes()).to_string()).collect();
    let row = json!({"prompt": "0+1?", "completions": [long, "It is 1."], "answer": 1});
    text += &format!("{row}\n");
    let input = file(dir.path(), "groups.jsonl", &text);
    let out = dir.path().join("out");
    let output = arg(&out);
    let score = ["score", &config, "--input", &input, "--output", &output, "--set-groups", "5"];
    let full = limited(400, &score).output().unwrap();
    assert_eq!(full.status.code(), Some(1), "{}", told(&full));
    assert!(told(&full).contains("too large"), "the system's words: {}", told(&full));
    assert_eq!(rewards(&out).len(), 10);
    assert!(!out.join("set_00002.tmp").exists());
    succeed(&score);
    assert_eq!(rewards(&out).len(), 11);
}

/// A scoring command whose judge is a server: ten groups, two per set.
fn served(dir: &Path, server: &JudgeServer, output: &str) -> Vec<String> {
    let input = file(dir, "groups.jsonl", &lines(0..10));
    let output = arg(&dir.join(output));
    let args = ["score", "configs/quickstart.toml", "--input", &input, "--output", &output];
    let more = [
        "--set-groups",
        "2",
        "reward.max_failed=0.1",
        "reward.judge.concurrency=1",
        "reward.tournament.votes=3",
    ];
    let args = args.into_iter().chain(more).map(str::to_owned);
    args.chain(server.overrides()).collect()
}

#[test]
fn votes_of_servers_are_kept_and_a_judge_that_is_away_spoils_no_set() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    let whole = joust(&served(dir.path(), &server, "whole")).output().unwrap();
    assert!(whole.status.success(), "{}", told(&whole));
    let n_whole = server.n_calls();
    // killed within a set
    server.hold_after(n_whole / 2);
    let begun = Begun::new(&served(dir.path(), &server, "out"));
    server.wait_for_a_held_call();
    begun.send("-KILL");
    drop(begun);
    // refused from the middle of the same set on
    let n_before = server.n_calls();
    server.set(Manner::Refuses);
    let away = joust(&served(dir.path(), &server, "out")).output().unwrap();
    assert_eq!(away.status.code(), Some(1), "{}", told(&away));
    let told_of = told(&away);
    assert!(told_of.contains("error: set 2 is not written: "), "{told_of}");
    assert!(told_of.contains("the judge is ill"), "{told_of}");
    assert_eq!(rewards(&dir.path().join("out")).len(), 4);
    let n_refused = server.n_calls() - n_before;
    server.set(Manner::Answers);
    let done = joust(&served(dir.path(), &server, "out")).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("Set 2 goes on with "), "{}", told(&done));
    // of the calls that were answered only the few in flight were made twice
    let n_twice = server.n_calls() - n_whole - n_whole - n_refused;
    assert!(n_twice <= 2, "{n_twice} of {n_whole}");
    let (out, whole) = (dir.path().join("out"), dir.path().join("whole"));
    assert_eq!(rewards(&out), rewards(&whole));
    assert!(!out.join("unfinished_votes.jsonl").exists());
}

#[test]
fn a_signal_ends_the_command_after_its_set_and_tells_how_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    server.hold_after(5);
    let args = served(dir.path(), &server, "out");
    let mut begun = Begun::new(&args);
    server.wait_for_a_held_call();
    begun.send("-INT");
    begun.wait_for("Stopping after this set; a second signal ends at once");
    server.set(Manner::Answers);
    let (code, said) = begun.end();
    assert_eq!(code, Some(130), "{said}");
    let wanted = "Stopped after 1 set. Go on with: joust score configs/quickstart.toml --input ";
    assert!(said.contains(wanted), "{said}");
    let out = dir.path().join("out");
    assert_eq!(rewards(&out).len(), 2);
    // while one works, another does not
    server.hold_after(0);
    let begun = Begun::new(&args);
    server.wait_for_a_held_call();
    let message = refuse(&args);
    assert!(message.contains("another process is writing this"), "{message}");
    begun.send("-INT");
    begun.send("-INT");
    let (code, said) = begun.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("Ended at once. Go on with: joust score "), "{said}");
    server.set(Manner::Answers);
    assert!(joust(&args).output().unwrap().status.success());
    assert_eq!(rewards(&out).len(), 10);
}
