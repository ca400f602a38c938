//! A run as a terminal shows it: lines and warnings above the progress bar, each whole.
//!
//! `script` (util-linux) makes the terminal; what is tested is the text that it gets.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::binary::{arg, file, joust, told, within_minutes};
use crate::train::args;

/// What a terminal of 80 columns gets while a command runs, line by line, without what was erased
/// or overwritten in the end, and without control sequences.
fn shown(command: &Command) -> Vec<String> {
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy());
    let words: Vec<String> =
        [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    let script = format!("stty cols 80 rows 24; exec {}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &script, "/dev/null"]).current_dir(crate::binary::root());
    let output = within_minutes(&terminal).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split('\n').map(str::to_owned).collect()
}

/// A line as it is left on the screen.
fn left(line: &str) -> String {
    let erased = ["\x1b[2K", "\x1b[K", "\x1b[0K"];
    let start = erased.iter().filter_map(|code| Some(line.rfind(code)? + code.len())).max();
    let mut rest = line[start.unwrap_or(0)..].trim_end_matches('\r');
    rest = &rest[rest.rfind('\r').map_or(0, |at| at + 1)..];
    let mut plain = String::new();
    let mut is_code = false;
    for c in rest.chars() {
        match c {
            '\x1b' => is_code = true,
            _ if is_code => is_code = !c.is_ascii_alphabetic(),
            _ => plain.push(c),
        }
    }
    plain
}

#[test]
fn terminal_shows_warnings_and_lines_above_the_progress_bar() {
    let dir = tempfile::tempdir().unwrap();
    let long = "1 + 1 = ? ".repeat(4000);
    let rows = ["2 + 3 = ?", &long, "4 + 5 = ?"].map(|text| json!({"prompt": text}).to_string());
    let prompts = format!("prompts.path={}", file(dir.path(), "prompts.jsonl", &rows.join("\n")));
    let output = arg(&dir.path().join("out"));
    let more = [&prompts[..], "train.steps=2", "rollout.temperature=1.6"];
    let lines = shown(&joust(&args(output.as_ref(), &more)));
    let raw = lines.join("\n");
    let before = raw.split("WARN").next().unwrap();
    assert!(before.contains("0/2 steps"), "the bar is there before the warning: {raw}");
    // without a step there is no estimate
    assert!(before.contains("s < -"), "{raw}");
    let lines: Vec<String> = lines.iter().map(|line| left(line)).collect();
    let warnings: Vec<&String> = lines.iter().filter(|line| line.contains(" WARN ")).collect();
    assert_eq!(warnings.len(), 2, "{lines:#?}");
    for line in warnings {
        assert!(line.starts_with("20") && !line.contains("steps "), "{line}");
    }
    for step in 1..=2 {
        let begin = format!("{step}/2 reward ");
        let at = lines.iter().position(|line| line.starts_with(&begin));
        let at = at.unwrap_or_else(|| panic!("no line {begin:?}: {lines:#?}"));
        // the stages are below, if they do not fit
        let whole = [lines[at].trim_end(), lines[at + 1].trim_end()].join("|");
        assert!(whole.contains(" sample ") && lines[at].len() <= 80, "{whole}");
    }
}
