//! `joust rate` on recorded matches.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{arg, file, joust, json_lines, refuse, root, succeed};

const MATCHES: &str = r#"{"group_id":"g","member_a":0,"member_b":1,"votes_a":3,"votes_b":0}
{"group_id":"g","member_a":1,"member_b":2,"votes_a":2,"votes_b":1}
{"group_id":"g","member_a":0,"member_b":2,"votes_a":3,"votes_b":0}
{"group_id":"h","member_a":0,"member_b":1,"votes_a":1,"votes_b":2}
"#;

#[test]
fn rate_makes_ratings_of_recorded_matches_by_every_method() {
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "matches.jsonl", MATCHES);
    for method in ["bradley-terry", "elo", "win-rate"] {
        let rows = json_lines(&succeed(&["rate", "--input", &input, "--method", method]));
        let ranks: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row["group_id"].as_str().unwrap(),
                    row["member"].as_u64().unwrap(),
                    row["rank"].as_u64().unwrap(),
                )
            })
            .collect();
        let wanted = [("g", 0, 1), ("g", 1, 2), ("g", 2, 3), ("h", 0, 2), ("h", 1, 1)];
        assert_eq!(ranks, wanted, "{method}");
        for row in &rows {
            let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys.len(), 6, "{keys:?}");
            assert!((0.0..=1.0).contains(&row["win_rate"].as_f64().unwrap()));
            assert_eq!(row["rating_stderr"].is_null(), method != "bradley-terry");
        }
    }
}

#[test]
fn rate_refuses_matches_that_make_no_sense_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (r#"{"group_id":"g","member_a":0,"member_b":0,"votes_a":1,"votes_b":0}"#, ":1: "),
        (r#"{"group_id":"g","member_a":0,"member_b":1,"votes_a":-1,"votes_b":0}"#, ":1: "),
        (
            r#"{"group_id":"g","member_a":0,"member_b":1,"votes_a":1}"#,
            "column `votes_b` is missing",
        ),
        ("nonsense", ":1: invalid JSON"),
    ];
    for (text, wanted) in cases {
        let input = file(dir.path(), "matches.jsonl", text);
        let message = refuse(&["rate", "--input", &input, "--method", "elo"]);
        assert!(message.contains("matches.jsonl") && message.contains(wanted), "{message}");
    }
}

/// Output and standard error of `joust rate`.
fn rate(args: &[&str]) -> (Vec<Value>, String) {
    let output = joust(&[&["rate"], args].concat()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (json_lines(&out), err)
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"))
}

/// Scores five groups of six by the known answer, with coins where it says nothing.
fn score(dir: &Path, more: &[&str]) -> String {
    let lines = (0..5).map(|group| {
        let completions: Vec<String> = (0..6).map(|n| format!("{}", group + n)).collect();
        json!({"prompt": format!("p{group}"), "completions": completions, "answer": "4"})
            .to_string()
    });
    let input = file(dir, "groups.jsonl", &lines.collect::<Vec<_>>().join("\n"));
    let (config, output) = (arg(&root().join("configs/quickstart.toml")), arg(&dir.join("scores")));
    let mut args = vec!["score", &config, "--input", &input, "--output", &output];
    args.push("reward.judge.kind=rule");
    args.extend(more);
    succeed(&args);
    output
}

#[test]
fn rate_of_a_dump_gives_the_ratings_of_the_dump() {
    let dir = tempfile::tempdir().unwrap();
    let no_bias = "reward.rating.bradley_terry.position_bias=false";
    for more in [&[][..], &["reward.tournament.votes=3"], &[no_bias]] {
        let scores = score(dir.path(), more);
        let rewards = format!("{scores}/rewards.parquet");
        let dumped = json_lines(&succeed(&["dump", "show", &rewards, "--rows", "0", "--json"]));
        let (rated, told) = rate(&["--input", &format!("{scores}/matches.parquet")]);
        assert_eq!(told, "", "the order is known");
        assert_eq!((rated.len(), dumped.len()), (30, 30));
        for (rated, dumped) in rated.iter().zip(&dumped) {
            assert_eq!(
                (&rated["group_id"], &rated["member"]),
                (&dumped["group_id"], &dumped["member"])
            );
            for (name, most) in [("rating", 1e-7), ("rating_stderr", 1e-7), ("win_rate", 1e-9)] {
                let (seen, wanted) = (number(rated, name), number(dumped, name));
                assert!((seen - wanted).abs() < most, "{more:?} {name}: {seen}, dump {wanted}");
            }
            assert_eq!(rated["rank"], dumped["rank"]);
        }
        // the bias of all groups, fitted anew
        let (fitted, _) =
            rate(&["--input", &format!("{scores}/matches.parquet"), "--position-bias", "fit"]);
        let is_off = more == [no_bias];
        let moved = rated
            .iter()
            .zip(&fitted)
            .map(|(one, other)| (number(one, "rating") - number(other, "rating")).abs());
        assert_eq!(moved.fold(0.0, f64::max) > 1e-3, is_off, "{more:?}");
    }
}

#[test]
fn rate_of_a_dump_counts_members_with_equal_completions_as_the_dump_does() {
    let dir = tempfile::tempdir().unwrap();
    // of the nine members, four, two and two are one player each
    let texts = ["4", "5", "4", "6", "4", "5", "it is 4", "6", "4"];
    let lines: Vec<String> = (0..3)
        .map(|n| json!({"prompt": format!("p{n}"), "completions": texts, "answer": "4"}))
        .map(|line| line.to_string())
        .collect();
    let input = file(dir.path(), "groups.jsonl", &lines.join("\n"));
    let config = arg(&root().join("configs/quickstart.toml"));
    for method in ["bradley_terry", "elo", "win_rate"] {
        let output = arg(&dir.path().join(method));
        let key = format!("reward.rating.method={method}");
        let rule = "reward.judge.kind=rule";
        succeed(&["score", &config, "--input", &input, "--output", &output, rule, &key]);
        let rewards = format!("{output}/rewards.parquet");
        let dumped = json_lines(&succeed(&["dump", "show", &rewards, "--rows", "0", "--json"]));
        let matches = format!("{output}/matches.parquet");
        let method = method.replace('_', "-");
        let (rated, _) = rate(&["--input", &matches, "--method", &method]);
        // the first member of each player
        assert_eq!((rated.len(), dumped.len()), (12, 27), "{method}");
        for rated in &rated {
            let same = |row: &&Value| {
                row["group_id"] == rated["group_id"] && row["member"] == rated["member"]
            };
            let dumped = dumped.iter().find(same).unwrap();
            // the order of the votes under Elo is drawn
            if method != "elo" {
                let (seen, wanted) = (number(rated, "win_rate"), number(dumped, "win_rate"));
                assert!((seen - wanted).abs() < 1e-9, "{method}: {seen}, dump {wanted}");
                assert_eq!(rated["rank"], dumped["rank"], "{method}");
            }
        }
        // the mean over all members is a half
        let mean = |group: &Value| {
            let of_group = rated.iter().filter(|row| row["group_id"] == *group);
            let weight = |row: &Value| {
                let member = row["member"].as_u64().unwrap() as usize;
                texts.iter().filter(|text| **text == texts[member]).count() as f64
            };
            of_group.map(|row| weight(row) * number(row, "win_rate")).sum::<f64>() / 9.0
        };
        if method != "win-rate" {
            let half = mean(&rated[0]["group_id"]);
            assert!((half - 0.5).abs() < 1e-9, "{method}: {half}");
        }
    }
}

#[test]
fn rate_without_the_order_of_presentation_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "matches.jsonl", MATCHES);
    let (_, told) = rate(&["--input", &input]);
    assert!(told.contains("2 of 2 groups do not say which member was shown first"), "{told}");
    assert_eq!(told.lines().count(), 1);
    for args in [&["--method", "elo"][..], &["--method", "win-rate"], &["--position-bias", "off"]] {
        let (_, told) = rate(&[&["--input", &input], args].concat());
        assert_eq!(told, "", "{args:?}");
    }
}

#[test]
fn rate_of_a_length_controlled_dump_gives_the_ratings_without_control() {
    let dir = tempfile::tempdir().unwrap();
    let group = |idx: usize| {
        let right = |n: usize| if (idx + n).is_multiple_of(2) { "4" } else { "5" };
        let answer = |n: usize| format!("{} so it is {}", "I think ".repeat(idx + n), right(n));
        let completions: Vec<String> = (0..6).map(answer).collect();
        json!({"prompt": format!("p{idx}"), "completions": completions, "answer": "4"}).to_string()
    };
    let lines: Vec<String> = (0..4).map(group).collect();
    let input = file(dir.path(), "groups.jsonl", &lines.join("\n"));
    let config = arg(&root().join("configs/quickstart.toml"));
    let score = |name: &str, more: &[&str]| {
        let output = arg(&dir.path().join(name));
        let args = ["score", &config, "--input", &input, "--output", &output];
        let told = succeed(&[&args[..], &["reward.judge.kind=rule"], more].concat());
        let rewards = format!("{output}/rewards.parquet");
        let rows = json_lines(&succeed(&["dump", "show", &rewards, "--rows", "0", "--json"]));
        (told, rows, format!("{output}/matches.parquet"))
    };
    let (told, plain, _) = score("plain", &[]);
    assert!(told.contains("reward.rating.length_control removes it"), "{told}");
    let (told, controlled, matches) = score("controlled", &["reward.rating.length_control=true"]);
    assert!(told.contains("log-odds for longer answers, removed from the ratings"), "{told}");
    let (rated, _) = rate(&["--input", &matches]);
    assert_eq!((rated.len(), controlled.len()), (24, 24));
    for (rated, plain) in rated.iter().zip(&plain) {
        for name in ["rating", "rating_stderr", "win_rate"] {
            let (seen, wanted) = (number(rated, name), number(plain, name));
            assert!((seen - wanted).abs() < 1e-9, "{name}: {rated} {plain}");
        }
    }
    let differs = |(one, other): (&Value, &Value)| {
        (number(one, "reward") - number(other, "reward")).abs() > 1e-3
    };
    assert!(plain.iter().zip(&controlled).any(differs));
    let arguments = ["score", &config, "--input", &input, "--output", "unused"];
    let elo = ["reward.rating.method=elo", "reward.rating.length_control=true"];
    let message = refuse(&[&arguments[..], &elo].concat());
    let wanted = "reward.rating.length_control is true, but rating.method elo has no length term";
    assert!(message.contains(wanted), "{message}");
}

#[test]
fn rate_fits_one_position_bias_to_all_groups() {
    let dir = tempfile::tempdir().unwrap();
    // three matches, each won by who was shown first
    let group = |id: usize| {
        let line = |a: u32, b: u32| {
            json!({"group_id": id, "member_a": a, "member_b": b, "votes_a": 1, "votes_b": 0,
                   "a_shown_first": true})
            .to_string()
        };
        [line(0, 1), line(0, 2), line(1, 2)].join("\n")
    };
    let spread = |n: usize| {
        let text: Vec<String> = (0..n).map(group).collect();
        let (rows, told) = rate(&["--input", &file(dir.path(), "m.jsonl", &text.join("\n"))]);
        assert_eq!(told, "");
        number(&rows[0], "rating") - number(&rows[2], "rating")
    };
    let (one, many) = (spread(1), spread(60));
    assert!(one > 100.0 && many < 0.6 * one, "{one} {many}");
}

#[test]
fn rate_refuses_votes_by_order_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let row = json!({"group_id": "g", "member_a": 0, "member_b": 1, "votes_a": 1, "votes_b": 0,
                     "a_first_votes_a": 2, "a_first_votes_b": 0});
    let input = file(dir.path(), "matches.jsonl", &row.to_string());
    let message = refuse(&["rate", "--input", &input]);
    assert!(message.contains(":1: a_first_votes_a is 2, wanted at most votes_a, 1"), "{message}");
}
