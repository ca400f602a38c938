//! Dumps as other programs see them: columns as documented, readable by polars, replayable.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::binary::{
    arg, file, joust, json_lines, not_run, refuse, root, succeed, told, within_minutes,
};
use crate::serving::Server;

fn groups(dir: &std::path::Path) -> String {
    let lines = [
        json!({
            "prompt": "What is 12 + 30?",
            "completions": ["42", "43", "It is 41.", "42."],
            "answer": 42,
            "group_id": "first",
        }),
        json!({
            "messages": [{"role": "user", "content": "What is 6 * 7?"}],
            "completions": ["6*7=42", "36"],
            "answer": "42",
        }),
    ];
    file(dir, "groups.jsonl", &lines.map(|line| line.to_string()).join("\n"))
}

fn score(dir: &std::path::Path, output: &str, more: &[&str]) -> String {
    let config = arg(&root().join("configs/quickstart.toml"));
    let (input, output) = (groups(dir), arg(&dir.join(output)));
    let mut args = vec!["score", &config, "--input", &input, "--output", &output];
    args.extend(more);
    succeed(&args)
}

#[test]
fn dump_tables_have_the_documented_columns_for_polars() {
    let python = root().join(".venv/bin/python");
    let has_polars = Command::new(&python).args(["-c", "import polars"]).output();
    if !has_polars.is_ok_and(|output| output.status.success()) {
        not_run("polars is not in .venv; `make test` installs it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    score(dir.path(), "scores", &["reward.judge.kind=rule"]);
    let script = r#"
import sys, polars
dump = sys.argv[1]
wanted = {
    "rewards":
        "group_id member status reward win_rate rating rating_stderr wins losses rank advantage",
    "matches":
        "step group_id match_id round member_a member_b votes_a votes_b votes_invalid "
        "decided_early winner a_first_votes_a a_first_votes_b position_bias position_bias_stderr "
        "copies_a copies_b",
    "votes":
        "match_id vote attempt a_shown_first verdict text prompt_tokens cached_prompt_tokens "
        "completion_tokens latency_ms seed judge cut_off",
}
for table, columns in wanted.items():
    frame = polars.read_parquet(f"{dump}/{table}.parquet")
    assert frame.columns == columns.split(), (table, frame.columns)
rewards = polars.read_parquet(f"{dump}/rewards.parquet").filter(polars.col("group_id") == "first")
assert rewards["reward"].dtype == polars.Float64 and rewards["member"].to_list() == [0, 1, 2, 3]
assert rewards["reward"][0] > rewards["reward"][1], rewards
"#;
    let output =
        Command::new(python).args(["-c", script, &arg(&dir.path().join("scores"))]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn dump_is_shown_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    score(dir.path(), "scores", &["reward.judge.kind=rule"]);
    let scores = dir.path().join("scores");
    let text = succeed(&["dump", "show", &arg(&scores.join("rewards.parquet"))]);
    assert!(text.contains("rewards.parquet (rewards 1.0): 6 rows"), "{text}");
    let columns = [
        "dump",
        "show",
        &arg(&scores.join("rewards.parquet")),
        "--json",
        "--columns",
        "member,reward",
    ];
    let rows = json_lines(&succeed(&columns));
    assert_eq!(rows[0].as_object().unwrap().len(), 2);

    let replay = format!("reward.judge.dump={}", scores.display());
    score(dir.path(), "again", &["reward.judge.kind=replay", &replay]);
    let read =
        |folder: &str, table: &str| std::fs::read(dir.path().join(folder).join(table)).unwrap();
    assert_eq!(read("scores", "rewards.jsonl"), read("again", "rewards.jsonl"));
    assert_eq!(read("scores", "matches.parquet"), read("again", "matches.parquet"));
}

#[test]
fn score_reads_groups_from_parquet() {
    let python = root().join(".venv/bin/python");
    let dir = tempfile::tempdir().unwrap();
    let input = groups(dir.path());
    let output = arg(&dir.path().join("groups.parquet"));
    let script = "import sys, polars\n\
                  groups = polars.read_ndjson(sys.argv[1]).select('prompt', 'completions')\n\
                  groups.head(1).write_parquet(sys.argv[2])";
    let made = Command::new(python).args(["-c", script, &input, &output]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        not_run("polars is not in .venv; `make test` installs it");
        return;
    }
    let config = arg(&root().join("configs/quickstart.toml"));
    let scores = arg(&dir.path().join("scores"));
    let text = succeed(&["score", &config, "--input", &output, "--output", &scores]);
    assert!(text.contains("1 group, "), "{text}");
}

/// The rows of a dump's table of which `group_id` or `match_id` begins with `group`, as text.
fn rows_of(scores: &std::path::Path, table: &str, group: &str, columns: &str) -> Vec<String> {
    let file = arg(&scores.join(table));
    let rows = json_lines(&succeed(&[
        "dump",
        "show",
        &file,
        "--rows",
        "0",
        "--json",
        "--columns",
        columns,
    ]));
    let name = columns.split(',').next().unwrap();
    let rows = rows.iter().filter(|row| row[name].as_str().unwrap().starts_with(group));
    rows.map(|row| row.to_string()).collect()
}

#[test]
fn score_of_a_group_does_not_depend_on_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = arg(&root().join("configs/quickstart.toml"));
    let line = |id: &str, first: u32| {
        let completions: Vec<String> = (first..first + 6).map(|n| n.to_string()).collect();
        json!({"prompt": "n", "completions": completions, "answer": "2", "group_id": id})
            .to_string()
    };
    let score = |name: &str, lines: &[&String]| {
        let lines: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        let input = file(dir.path(), &format!("{name}.jsonl"), &lines.join("\n"));
        let scores = dir.path().join(name);
        let output = arg(&scores);
        let rule = "reward.judge.kind=rule";
        let text = succeed(&["score", &config, "--input", &input, "--output", &output, rule]);
        assert!(text.contains("position bias of the judge: "), "{text}");
        scores
    };
    // the last two have the same content
    let [a, b, c, twin] = [line("a", 0), line("b", 10), line("c", 1), line("twin", 1)];
    let all = score("all", &[&a, &b, &c, &twin]);
    let turned = score("turned", &[&c, &twin, &b, &a]);
    let without_first = score("without_first", &[&b, &c, &twin]);
    for group in ["a", "b", "c", "twin"] {
        let rewards = |scores| rows_of(scores, "rewards.parquet", group, "group_id,member,reward");
        assert_eq!(rewards(&all), rewards(&turned), "{group}");
        assert_eq!(rewards(&all).len(), 6);
    }
    for group in ["b", "c", "twin"] {
        let votes = |scores| rows_of(scores, "votes.parquet", group, "match_id,vote,verdict,seed");
        assert_eq!(votes(&all), votes(&without_first), "{group}");
        assert!(!votes(&all).is_empty());
    }
    let seeds = |group| rows_of(&all, "votes.parquet", group, "match_id,seed");
    let draws = |rows: Vec<String>| -> Vec<String> {
        rows.iter().map(|row| row.split("seed").nth(1).unwrap().to_owned()).collect()
    };
    assert_ne!(draws(seeds("c")), draws(seeds("twin")), "equal groups have draws of their own");
}

#[test]
fn replay_with_another_seed_counts_votes_in_the_order_in_which_they_were_cast() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["reward.judge.kind=rule", "reward.tournament.kind=round_robin"];
    score(dir.path(), "scores", &more);
    let scores = dir.path().join("scores");
    let replay = format!("reward.judge.dump={}", scores.display());
    for seed in 1..6 {
        let seed = format!("run.seed={seed}");
        let more =
            ["reward.judge.kind=replay", &replay, "reward.tournament.kind=round_robin", &seed];
        score(dir.path(), "again", &more);
        let again = dir.path().join("again");
        let rewards = |scores: &std::path::Path| -> Vec<f64> {
            let file = arg(&scores.join("rewards.parquet"));
            let rows = json_lines(&succeed(&["dump", "show", &file, "--json"]));
            rows.iter().map(|row| row["reward"].as_f64().unwrap()).collect()
        };
        for (seen, wanted) in rewards(&again).iter().zip(rewards(&scores)) {
            assert!((seen - wanted).abs() < 1e-9, "{seed}: {seen} {wanted}");
        }
    }
}

/// Trainers number their groups anew in each step: a name is that of one group in one set only.
#[test]
fn pairs_and_best_do_not_join_groups_of_one_name_in_different_sets() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let dump = dir.path().join("dump");
    let key = format!("serve.dump={}", dump.display());
    let mut server = Server::with_config(Path::new(&config), &[&key, "serve.dump_every=1"]);
    for (prompt, right, wrong) in [("1+1?", "2", "3"), ("2+2?", "4", "5"), ("1+1?", "2", "7")] {
        let group = json!({"prompt": prompt, "completions": [wrong, right], "answer": right,
            "group_id": "0"});
        assert_eq!(server.request("POST /v1/score_group", &group.to_string()).0, 200);
    }
    server.stop();
    let pairs = json_lines(&succeed(&["dump", "pairs", &arg(&dump)]));
    let texts =
        |row: &Value, keys: [&str; 3]| keys.map(|key| row[key].as_str().unwrap().to_owned());
    let mut seen: Vec<_> =
        pairs.iter().map(|row| texts(row, ["prompt", "chosen", "rejected"])).collect();
    seen.sort();
    assert_eq!(seen, [["1+1?", "2", "3"], ["1+1?", "2", "7"], ["2+2?", "4", "5"]]);
    let best = json_lines(&succeed(&["dump", "best", &arg(&dump)]));
    let mut seen: Vec<_> =
        best.iter().map(|row| texts(row, ["prompt", "completion", "group_id"])).collect();
    seen.sort();
    assert_eq!(seen, [["1+1?", "2", "0"], ["1+1?", "2", "0"], ["2+2?", "4", "0"]]);
    // a judge that replays them would take one group's votes for another's
    let replay = format!("reward.judge.dump={}", dump.display());
    let (input, output) = (groups(dir.path()), arg(&dir.path().join("replayed")));
    let score = ["score", "configs/quickstart.toml", "--input", &input, "--output", &output];
    let message = refuse(&[&score[..], &["reward.judge.kind=replay", &replay]].concat());
    assert!(message.contains("groups of one name cannot be told apart"), "{message}");
    // and no output replaces what was read
    let table = arg(&dump.join("completions.parquet"));
    let message = refuse(&["dump", "best", &arg(&dump), "--output", &table]);
    assert!(message.contains("the output is JSON Lines"), "{message}");
    let message = refuse(&[
        "generate",
        "--model",
        "data/models/nano-policy",
        "--input",
        &input,
        "--output",
        &input,
    ]);
    assert!(message.contains("is the input"), "{message}");
}

#[test]
fn output_never_replaces_the_dump_of_a_replay_judge_nor_the_input() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    score(dir.path(), "run/step_00001", &["reward.judge.kind=rule"]);
    score(dir.path(), "elsewhere", &["reward.judge.kind=rule"]);
    // a dump of several folders, one of them behind a link
    std::os::unix::fs::symlink(at("elsewhere"), at("run/step_00002")).unwrap();
    std::os::unix::fs::symlink(at("run"), at("link")).unwrap();
    let before = std::fs::read(at("run/step_00001/votes.parquet")).unwrap();
    let config = arg(&root().join("configs/quickstart.toml"));
    let input = groups(dir.path());
    let pairs = json!({"prompt": "1", "completion_a": "a", "completion_b": "b"}).to_string();
    let pairs = file(dir.path(), "pairs.jsonl", &pairs);
    let outputs = ["run", "link", "run/step_00001", "run/new", "elsewhere", "."];
    for (command, input) in [("score", &input), ("judge", &pairs)] {
        for output in outputs.map(at) {
            let (output, dump) = (arg(&output), format!("reward.judge.dump={}", arg(&at("link"))));
            let kind = "reward.judge.kind=replay";
            let args =
                [command, &config, kind, &dump, "--input", input, "--output", &output].to_vec();
            let message = refuse(&args);
            assert!(message.contains("the dump that the judge reads"), "{message}");
        }
    }
    let serve = ["serve", &config, "serve.port=0", "reward.judge.kind=replay"];
    let keys = ["reward.judge.dump", "serve.dump"].map(|key| format!("{key}={}", arg(&at("run"))));
    let message = refuse(&[&serve[..], &[keys[0].as_str(), keys[1].as_str()]].concat());
    assert!(message.contains("serve.dump "), "{message}");
    assert_eq!(std::fs::read(at("run/step_00001/votes.parquet")).unwrap(), before);
    assert!(!at("run/new").exists() && !at("votes.parquet").exists());

    // an input under a name that is written
    let input = at("elsewhere/rewards.jsonl");
    std::fs::copy(groups(dir.path()), &input).unwrap();
    let (input, output) = (arg(&input), arg(&at("elsewhere")));
    let rule = "reward.judge.kind=rule";
    let message = refuse(&["score", &config, rule, "--input", &input, "--output", &output]);
    assert!(message.contains("rewards.jsonl is the input"), "{message}");
}

#[test]
fn dump_reads_each_file_once_whatever_links_lead_to_it() {
    let dir = tempfile::tempdir().unwrap();
    score(dir.path(), "run/set", &["reward.judge.kind=rule"]);
    let (run, other) = (dir.path().join("run"), dir.path().join("other"));
    let pairs = |folder: &Path| {
        let args = ["dump", "pairs", &arg(folder)];
        let output = within_minutes(&joust(&args)).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        json_lines(&String::from_utf8(output.stdout).unwrap())
    };
    let wanted = pairs(&run);
    assert!(!wanted.is_empty());
    let link = |to: &Path, name: &Path| std::os::unix::fs::symlink(to, name).unwrap();
    link(&run.join("set"), &run.join("again"));
    link(&run, &run.join("set/up"));
    link(&run.join("set/completions.parquet"), &run.join("completions.parquet"));
    assert_eq!(pairs(&run), wanted);
    // a folder that only links to others has their files
    std::fs::create_dir(&other).unwrap();
    link(&run.join("set"), &other.join("set"));
    assert_eq!(pairs(&other), wanted);
}
