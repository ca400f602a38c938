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
