//! The reference of `joust train`, which has every shape.

use super::*;
use crate::config::train::TrainRun;

#[test]
fn section_lists_keys_in_source_order_with_default_range_and_kind() {
    let text = section::<TrainRun>("joust train");
    let lines: Vec<&str> = text.lines().collect();
    let at = |wanted: &str| {
        let found = lines.iter().position(|line| line.starts_with(wanted));
        found.unwrap_or_else(|| panic!("no line begins with {wanted}"))
    };
    let in_order = [
        "### [run]",
        "| `name` | text | `\"run\"` |",
        "| `output_dir` |",
        "### [train]",
        "| `steps` | integer | `100` | at least 1 |",
        "### [policy]",
        "| `path` | text | required |",
        "### [rollout]",
        "| `top_p` | number | `1.0` | above 0 and at most 1 |",
        "### [rollout.engine]",
        "| `max_queue` | integer | `65536` |",
        "| `parts` | list | `[]` |",
        "### [[reward.parts]]",
        "| `kind` | choice |  |  | Kind of this table.<br>`judge`: The votes",
        "| `weight` | number | `1.0` |",
        "### [[reward.parts]], kind = \"judge\"",
        "| `when` | choice | `\"always\"` |",
        "### [[reward.parts]], kind = \"command\"",
        "| `run` | list | required |",
        "### [reward.judge]",
        "| `kind` | choice | `\"engine\"` |  | Kind of this section.<br>`engine`: A reasoning",
        "### [reward.judge], kind = \"engine\"",
        "| `model` | text | required |",
        "### [reward.judge.engine]",
        "### [reward.judge], kind = \"http\"",
        "| `concurrency` | integer | `64` | at least 1 |",
        "### [reward.judge], kind = \"replay\"",
        "### [reward.tournament]",
    ];
    let mut after = 0;
    for wanted in in_order {
        let rest = lines[after..].iter().position(|line| line.starts_with(wanted));
        after +=
            rest.unwrap_or_else(|| panic!("{wanted} is at {} and not after {after}", at(wanted)));
    }
    let engine = at("### [reward.judge.engine]");
    let queue = lines[engine..].iter().find(|line| line.starts_with("| `max_queue`")).unwrap();
    assert!(queue.contains("| `0` |"), "the judge's own default: {queue}");
}
