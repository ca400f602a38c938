//! Programs that answer, lie, hang, die, and leave children behind.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::part::fixture::{group, said};

/// A program in Python. `answer(rewards)` answers the question `q`, `n` counts the questions.
fn part(body: &str, timeout_s: f64, max_failed: f64) -> CommandPart {
    let program = format!(
        "import json, os, subprocess, sys, time\n\
         def answer(rewards, id=None):\n    \
             print(json.dumps({{'id': id or q['id'], 'rewards': rewards}}))\n\
         def die_once(mark):\n    \
             if os.path.exists(mark): return\n    \
             open(mark, 'w').close(); sys.exit(3)\n\
         for n, line in enumerate(sys.stdin, 1):\n    \
             q = json.loads(line)\n    {body}\n"
    );
    let run = ["python3", "-c", &program].map(str::to_owned).to_vec();
    let config = CommandPartConfig { run, timeout_s };
    CommandPart::open("mine", &config, max_failed).unwrap()
}

fn groups(n: usize) -> Vec<PartGroup> {
    (0..n).map(|idx| group(&format!("g{idx}"), &["It is 2.", "It is 3."])).collect()
}

fn given(values: [f64; 2]) -> PartOutcome {
    PartOutcome::Given(values.map(Some).to_vec())
}

fn reason(outcome: &PartOutcome) -> &str {
    match outcome {
        PartOutcome::Failed(reason) => reason,
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn command_lives_on_from_group_to_group() {
    let mut part = part("answer([n, len(q['completions'][1]['text'])])", 60.0, 0.0);
    let wanted = [1.0, 2.0, 3.0].map(|n| given([n, 8.0]));
    assert_eq!(said(&mut part, &groups(3)), wanted);
    assert_eq!(said(&mut part, &groups(1)), [given([4.0, 8.0])]);
}

#[test]
fn command_that_lies_fails_for_that_group_alone() {
    for (lie, wanted) in [
        ("print('looking at', q['id'])", "the answer is no JSON"),
        ("answer([float('nan'), 1])", "NaN or Infinity"),
        ("answer([1])", "it has 1 rewards for 2 completions"),
        ("answer([1, 2], 'g0')", "the answer has the id \"g0\", wanted \"g1\""),
        ("answer([1, 2]); answer([3, 4])", "the answer has the id \"g1\", wanted \"g2\""),
        ("print()", "the answer is no JSON"),
    ] {
        let body = format!("exec({lie:?} if q['id'] == 'g1' else 'answer([1, 2])')");
        let outcomes = said(&mut part(&body, 60.0, 1.0), &groups(4));
        let failed: Vec<&str> = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, PartOutcome::Failed(_)))
            .map(reason)
            .collect();
        assert!(failed.len() == 1 && failed[0].contains(wanted), "{lie}: {outcomes:?}");
        let n_given = outcomes.iter().filter(|&outcome| *outcome == given([1.0, 2.0])).count();
        assert_eq!(n_given, 3, "{lie}: {outcomes:?}");
    }
}

#[test]
fn command_that_dies_is_started_once_more_for_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let once = format!("die_once('{}'); answer([1, 2])", dir.path().join("mark").display());
    assert_eq!(
        said(&mut part(&once, 60.0, 0.0), &groups(2)),
        [given([1.0, 2.0]), given([1.0, 2.0])]
    );
    let outcomes = said(&mut part("answer([1 // (q['id'] != 'g0'), 2])", 60.0, 1.0), &groups(2));
    let wanted = "twice: the program ended (exit status: 1); its last words: ZeroDivisionError";
    assert!(reason(&outcomes[0]).starts_with(wanted), "{outcomes:?}");
    assert_eq!(outcomes[1], given([1.0, 2.0]));
}

#[test]
fn command_that_hangs_is_ended_after_its_time() {
    let began = Instant::now();
    let mut hanging = part("time.sleep(1000 if q['id'] == 'g0' else 0); answer([1, 2])", 1.0, 1.0);
    let outcomes = said(&mut hanging, &groups(2));
    assert_eq!(reason(&outcomes[0]), "twice: no answer in 1 s (timeout_s)");
    assert_eq!(outcomes[1], given([1.0, 2.0]));
    // one that reads nothing, and is told more than a pipe holds
    let run = ["sleep", "1000"].map(str::to_owned).to_vec();
    let config = CommandPartConfig { run, timeout_s: 0.5 };
    let mut deaf = CommandPart::open("deaf", &config, 1.0).unwrap();
    let long = "long ".repeat(1 << 20);
    let outcomes = said(&mut deaf, &[group("g0", &[&long])]);
    assert_eq!(reason(&outcomes[0]), "twice: no answer in 0.5 s (timeout_s)");
    assert!(began.elapsed() < Duration::from_secs(100));
}

#[test]
fn command_is_not_asked_after_too_many_failures() {
    let outcomes = said(&mut part("sys.exit(0)", 60.0, 0.25), &groups(8));
    let n_asked = outcomes.iter().filter(|outcome| reason(outcome).starts_with("twice")).count();
    assert_eq!(n_asked, 3, "{outcomes:?}");
    assert_eq!(reason(&outcomes[7]), "not asked after too many failures");
}

#[test]
fn command_ends_with_all_that_it_has_started() {
    let child = "answer([subprocess.Popen(['sleep', '1000']).pid, os.getpid()])";
    let mut parent = part(child, 60.0, 0.0);
    let outcome = said(&mut parent, &groups(1)).remove(0);
    let pids = [0, 1].map(|member| outcome.value(member).unwrap() as u32);
    let is_running = |pid: &u32| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/stat")));
        // behind the name in brackets: the state, Z for one that nobody waits for
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    };
    assert!(pids.iter().all(is_running), "{pids:?}");
    drop(parent);
    let until = Instant::now() + Duration::from_secs(60);
    while pids.iter().any(is_running) {
        assert!(Instant::now() < until, "{pids:?}");
        std::thread::yield_now();
    }
}

#[test]
fn command_that_cannot_be_started_is_named() {
    let run = vec!["no-such-program".to_owned()];
    let config = CommandPartConfig { run, timeout_s: 1.0 };
    let error = CommandPart::open("mine", &config, 0.0).err().unwrap().to_string();
    let wanted = "part `mine`: \"no-such-program\" cannot be started: No such file";
    assert!(error.starts_with(wanted), "{error}");
}
