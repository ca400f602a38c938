//! Rewards of several parts in whole runs: what they leave behind, kills and resumes, programs that
//! fail, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use arrow::array::{Array as _, AsArray as _, Float64Array};
use arrow::datatypes::Float64Type;
use joust_schema::parquet;
use joust_schema::tables::{Reward, Status};
use serde_json::Value;

use crate::binary::{arg, file, joust, json_lines, refuse, root, succeed, told, within_minutes};
use crate::stopped::Begun;
use crate::train::{args, metrics, same};

/// The first words of the run of configs/parts.toml, made short.
fn parts_args(dir: &Path, more: &[&str]) -> Vec<String> {
    let mut args = args(dir, more);
    args[1] = "configs/parts.toml".to_owned();
    args
}

/// A run of few small steps whose parts are these.
fn small(dir: &Path, parts: &str, more: &[&str]) -> Vec<String> {
    let parts = format!("reward.parts=[{parts}]");
    let size = ["train.steps=2", "train.prompts_per_step=2", "eval.max_prompts=2", "eval.every=0"];
    args(dir, &[&size[..], &[&parts], more].concat())
}

/// A part whose program is this text in Python.
fn python_part(dir: &Path, text: &str) -> String {
    let path = file(dir, "reward.py", text);
    format!("{{ kind = \"command\", name = \"mine\", run = [\"python3\", \"{path}\"] }}")
}

/// The numbers in a column of a step's file.
fn numbers(path: &Path, column: &str) -> Vec<Option<f64>> {
    let batch = parquet::read_batches(path).unwrap().remove(0);
    let column: &Float64Array = batch.column_by_name(column).unwrap().as_primitive::<Float64Type>();
    (0..column.len()).map(|row| column.is_valid(row).then(|| column.value(row))).collect()
}

fn output(args: &[String]) -> Output {
    within_minutes(&joust(args)).output().unwrap()
}

#[test]
fn judge_and_program_end_in_the_same_bytes_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    succeed(&parts_args(&folder("once"), &[]));
    let once = folder("once/short");

    let mut child = joust(&parts_args(&folder("killed"), &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while !folder("killed/short/checkpoints/step_00002").exists() {
        assert!(Instant::now() < until, "no checkpoint was written");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = output(&parts_args(&folder("killed"), &["--resume"]));
    assert!(resumed.status.success(), "{}", told(&resumed));
    assert!(told(&resumed).contains("Going on after step"), "{}", told(&resumed));
    same(&once, &folder("killed/short"));

    // the reward is the weighted sum of the columns, before the weights as in the config
    let rows: Vec<Reward> = parquet::read(&once.join("step_00001/rewards.parquet")).unwrap();
    let column = |name: &str| numbers(&once.join("step_00001/rewards.parquet"), name);
    let weights = [("judge", 1.0), ("near", 0.5), ("format", 0.2), ("length", 0.2)];
    let columns = weights.map(|(name, weight)| (weight, column(&format!("part_{name}"))));
    for (idx, row) in rows.iter().enumerate() {
        let numbers = columns.each_ref().map(|(weight, values)| (weight, values[idx].unwrap()));
        let sum = numbers.iter().fold(0.0, |sum, (weight, value)| sum + *weight * value);
        assert_eq!(row.reward, Some(sum), "{row:?}");
        assert_eq!(row.win_rate, Some(numbers[0].1));
    }
    let completions = once.join("completions/completions_00001.parquet");
    assert_eq!(numbers(&completions, "part_near"), column("part_near"));

    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for step in metrics(&once).iter().skip(1) {
        for (name, _) in weights {
            for measure in ["mean", "std", "missing"] {
                let number = &step[&format!("rewards/{name}/{measure}")];
                assert!(number.is_number(), "{name} {measure}: {number}");
                assert!(page.contains(&format!("| `rewards/NAME/{measure}` |")));
            }
        }
    }
}

#[test]
fn judge_is_asked_only_for_tied_groups_and_no_part_is_a_reward_of_0() {
    let dir = tempfile::tempdir().unwrap();
    // nothing to say about the second completion
    let program = "import json, sys\n\
                   for line in sys.stdin:\n    \
                       q = json.loads(line)\n    \
                       assert q['row']['answer'] == q['reference'] and q['step'] in (1, 2)\n    \
                       numbers = [0.0] * len(q['completions'])\n    \
                       numbers[1] = None\n    \
                       print(json.dumps({'id': q['id'], 'rewards': numbers}))\n";
    let parts = [
        "{ kind = \"correct\" }",
        "{ kind = \"judge\", when = \"tied\" }",
        &python_part(dir.path(), program),
    ];
    let more = ["train.prompts_per_step=6", "reward.combine=gdpo"];
    succeed(&small(dir.path(), &parts.join(", "), &more));
    let run = dir.path().join("short");
    let path = run.join("step_00001/rewards.parquet");
    let rows: Vec<Reward> = parquet::read(&path).unwrap();
    let [correct, judge, mine] =
        ["correct", "judge", "mine"].map(|name| numbers(&path, &format!("part_{name}")));
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (idx, row) in rows.iter().enumerate() {
        groups.entry(&row.group_id.0).or_default().push(idx);
        let is_second = row.member.0 == 1;
        assert_eq!((row.reward.is_none(), mine[idx].is_none()), (is_second, is_second), "{row:?}");
        let status = if is_second { Status::PartFailed } else { Status::Scored };
        assert_eq!(row.status, status, "{row:?}");
    }
    let mut n_tied = 0;
    for rows in groups.values() {
        let known: Vec<_> = rows.iter().filter(|&&idx| idx != rows[1]).collect();
        let is_tied = known.windows(2).all(|pair| correct[*pair[0]] == correct[*pair[1]]);
        n_tied += usize::from(is_tied);
        assert!(rows.iter().all(|&idx| judge[idx].is_some() == is_tied), "{rows:?}");
    }
    assert!(0 < n_tied && n_tied < groups.len(), "{n_tied} of {} groups are tied", groups.len());
    assert_eq!(metrics(&run)[1]["rewards/mine/missing"], 6.0);
}

#[test]
fn program_that_dies_hangs_or_lies_ends_the_run_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (timeout_s, text, wanted) in [
        (
            60,
            "import no_such_module",
            "twice: the program ended (exit status: 1); its last words: ModuleNotFoundError",
        ),
        (2, "import time; time.sleep(1000)", "twice: no answer in 2 s (timeout_s)"),
        (60, "for line in open(0): print('thinking …')", "the answer is no JSON ("),
        (
            60,
            "import json\nfor line in open(0): print(json.dumps(dict(id=json.loads(line)['id'], \
             rewards=[float('nan')] * 4)))",
            "the answer has NaN or Infinity, which is no JSON; it begins \"{",
        ),
    ] {
        let keys = format!(", timeout_s = {timeout_s}, optional = true }}");
        let part = python_part(dir.path(), text).replace(" }", &keys);
        let output = output(&small(dir.path(), &format!("{{ kind = \"correct\" }}, {part}"), &[]));
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        let start = "error: step 1: part `mine` of the reward failed for ";
        assert!(error.starts_with(start) && error.contains(wanted), "{error}");
        assert!(error.contains("reward.max_failed = 0.5") && error.contains("--resume"), "{error}");
        assert!(!dir.path().join("short/step_00001").exists());
    }
    // where failures are allowed, nothing is invented: the other parts are the reward
    let part = python_part(dir.path(), "raise SystemExit").replace(" }", ", optional = true }");
    let parts = format!("{{ kind = \"correct\" }}, {part}");
    let output = output(&small(dir.path(), &parts, &["reward.max_failed=1"]));
    let path = dir.path().join("short/step_00001/rewards.parquet");
    let rows: Vec<Reward> = parquet::read(&path).unwrap();
    let rewards: Vec<Option<f64>> = rows.iter().map(|row| row.reward).collect();
    assert_eq!(rewards, numbers(&path, "part_correct"), "{}", told(&output));
    assert!(numbers(&path, "part_mine").iter().all(Option::is_none));
    let step = &metrics(&dir.path().join("short"))[1];
    assert_eq!(step["rewards/mine/missing"], 8.0);
    assert!(!step.contains_key("rewards/mine/mean"));
}

#[test]
fn run_is_not_resumed_with_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let text = "import json\nfor line in open(0):\n    q = json.loads(line)\n    \
                print(json.dumps(dict(id=q['id'], rewards=[len(c['text']) for c in \
                q['completions']])))\n";
    let part = python_part(dir.path(), text);
    succeed(&small(dir.path(), &part, &[]));
    let path = dir.path().join("reward.py");
    let more = ["--resume", "train.steps=3"];
    file(dir.path(), "reward.py", &format!("{text}\n"));
    let error = refuse(&small(dir.path(), &part, &more));
    let wanted = format!(
        "not the content that the run began with: reward.parts[0].run[1] ({})",
        path.display()
    );
    assert!(error.contains(&wanted), "{error}");
    file(dir.path(), "reward.py", text);
    let other = part.replace("\"python3\", ", "\"python3\", \"-B\", ");
    let error = refuse(&small(dir.path(), &other, &more));
    assert!(error.contains("key `reward.parts[0].run` differs"), "{error}");
    let slower = part.replace(" }", ", timeout_s = 99 }");
    let output = output(&small(dir.path(), &slower, &more));
    assert!(output.status.success(), "{}", told(&output));
    let wanted = "reward.parts[0].timeout_s 300.0 → 99.0";
    assert!(told(&output).contains(wanted), "{}", told(&output));
}

#[test]
fn stop_signals_end_the_program_and_all_that_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // tells that it is asked, and answers the second question after a minute only
    let text = format!(
        "import json, os, subprocess, time\n\
         for n, line in enumerate(open(0)):\n    \
             q = json.loads(line)\n    \
             child = subprocess.Popen(['sleep', '1000'])\n    \
             open({:?}, 'a').write(f'{{child.pid}} {{os.getpid()}}\\n')\n    \
             time.sleep(1000 if q['step'] == 2 else 0)\n    \
             print(json.dumps(dict(id=q['id'], rewards=[len(c['text']) for c in \
         q['completions']])))\n",
        arg(&pids)
    );
    let is_running = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    };
    let wait = |n_lines: usize, wants_running: bool| {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let text = std::fs::read_to_string(&pids).unwrap_or_default();
            let all: Vec<&str> = text.split_whitespace().collect();
            let running = all.iter().filter(|pid| is_running(pid)).count();
            if text.lines().count() >= n_lines && (running > 0) == wants_running {
                return;
            }
            assert!(Instant::now() < until, "{running} of {all:?} are running");
            std::thread::yield_now();
        }
    };
    let part = python_part(dir.path(), &text);
    // ended at once, in the middle of a question
    let mut run = Begun::new(&small(&dir.path().join("stopped"), &part, &[]));
    wait(3, true);
    run.send("-TERM");
    run.wait_for("Stopping after this step");
    run.send("-TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    wait(3, false);
    // and at the end of a run
    std::fs::remove_file(&pids).unwrap();
    let part = python_part(dir.path(), &text.replace("== 2", "== 9"));
    let output = output(&small(&dir.path().join("whole"), &part, &[]));
    assert!(output.status.success(), "{}", told(&output));
    wait(4, false);
}

#[test]
fn parts_that_make_no_sense_are_refused_with_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    let with = |parts: &str, more: &[&str]| refuse(&small(dir.path(), parts, more));
    let error = with("{ kind = \"correct\" }", &["reward.kind=correct"]);
    assert!(error.contains("reward.kind and parts are both set, wanted one"), "{error}");
    let error = with("{ kind = \"format\", pattern = \"(a\" }, { kind = \"judges\" }", &[]);
    assert!(
        error.contains("reward.parts[1].kind is \"judges\", wanted one of judge, c"),
        "{error}"
    );
    assert!(error.contains("did you mean \"judge\"?"), "{error}");
    let error =
        with("{ kind = \"length\", max_tokens = 9, buffer_tokens = 9, pattern = \"\" }", &[]);
    let wanted = "reward.parts[0].pattern is a key of reward.parts[0].kind = \"format\"";
    assert!(error.contains(wanted), "{error}");
    let error = with("{ kind = \"command\", run = [\"no-such-program\"] }", &[]);
    assert!(error.contains("part `command`: \"no-such-program\" cannot be started"), "{error}");
    let unknown = file(dir.path(), "prompts.jsonl", "{\"prompt\": \"1 + 1?\"}");
    let error = with("{ kind = \"correct\" }", &[&format!("prompts.path={unknown}")]);
    assert!(error.contains("1 of 1 prompts have no answer"), "{error}");

    let groups = file(dir.path(), "groups.jsonl", "{\"prompt\": \"a\", \"completions\": [\"b\"]}");
    let scores = arg(&dir.path().join("scores"));
    let parts = "reward.parts=[{ kind = \"correct\" }]";
    let score =
        ["score", "configs/quickstart.toml", parts, "--input", &groups, "--output", &scores];
    let error = refuse(&score);
    assert!(error.contains("reward.parts is set, which only `joust train` knows"), "{error}");
}

#[test]
fn page_shows_the_program_that_is_run() {
    let page = std::fs::read_to_string(root().join("docs/rewards.md")).unwrap();
    let program = std::fs::read_to_string(root().join("examples/rewards/my_reward.py")).unwrap();
    // the page leaves the first line out, which says what the program is
    let (_, program) = program.split_once('\n').unwrap();
    assert!(page.contains(&format!("```python\n{program}```\n")));
    // and its question and answer are JSON, apart from the completions that it leaves out
    for block in page.split("```json\n").skip(1) {
        let (json, _) = block.split_once("```").unwrap();
        let value: Value = serde_json::from_str(&json.replace(", …", "")).unwrap();
        assert_eq!(value["id"], json_lines("{\"id\": \"00003-0001\"}")[0]["id"]);
    }
}
