//! `joust rate` on recorded matches.

use crate::binary::{file, json_lines, refuse, succeed};

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
        (r#"{"group_id":"g","member_a":0,"member_b":1,"votes_a":1}"#, "missing field `votes_b`"),
        ("nonsense", ":1: invalid JSON"),
    ];
    for (text, wanted) in cases {
        let input = file(dir.path(), "matches.jsonl", text);
        let message = refuse(&["rate", "--input", &input, "--method", "elo"]);
        assert!(message.contains("matches.jsonl") && message.contains(wanted), "{message}");
    }
}
