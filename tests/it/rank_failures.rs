//! One rank of several that fails, hangs or dies: all end, in time, for one reason that each says
//! in one line.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::binary::{joust, succeed};
use crate::ranks::{Ranks, args};

/// A run of two steps that is not measured.
fn short(dir: &Path, more: &[&str]) -> Vec<String> {
    let warmup = "trainer.learner.optim.schedule.warmup_updates=0";
    let short = ["eval.every=0", "eval.max_prompts=1", "train.steps=2", warmup];
    args(dir, "run", &[&short[..], more].concat())
}

/// The lines of error that a rank has said.
fn errors(ranks: &Ranks, rank: usize) -> Vec<String> {
    let said = ranks.said(rank);
    said.lines().filter(|line| line.starts_with("error: ")).map(str::to_owned).collect()
}

/// Asserts that rank 1 has failed by itself, and that the others have ended for its reason.
fn check_rank_1_failed(ranks: &Ranks, n: usize, wanted: &str) {
    let own = errors(ranks, 1);
    let [own] = &own[..] else { panic!("{own:?}") };
    let reason = own.strip_prefix("error: rank 1: ").unwrap_or_else(|| panic!("{own}"));
    assert!(reason.contains(wanted), "{reason}");
    for rank in (0..n).filter(|rank| *rank != 1) {
        assert_eq!(errors(ranks, rank), [format!("error: rank 1 has failed: {reason}")]);
    }
}

#[test]
fn what_one_rank_lacks_at_the_start_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/cat", bin.join("only-here")).unwrap();
    let part = "reward.parts=[{ kind = \"command\", name = \"mine\", run = [\"only-here\"] }]";
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut ranks = Ranks::start_with(dir, &vec![short(dir, &[part]); 3], |rank, args| {
        let mut command = joust(args);
        if rank != 1 {
            command.env("PATH", &path);
        }
        command
    });
    ranks.end();
    check_rank_1_failed(&ranks, 3, "only-here");
}

#[test]
fn what_the_first_rank_cannot_write_ends_all() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let by_rule = ["reward.kind=correct"];
    succeed(&short(dir, &[&by_rule[..], &["train.steps=1"]].concat()));
    let tables = dir.join("run/completions");
    std::fs::remove_dir_all(&tables).unwrap();
    std::fs::write(&tables, "in the way").unwrap();
    let args = short(dir, &[&by_rule[..], &["--resume"]].concat());
    let mut ranks = Ranks::start(dir, &vec![args; 2]);
    ranks.end();
    let [own, other] = [errors(&ranks, 0), errors(&ranks, 1)];
    let reason = own[0].strip_prefix("error: rank 0: ").unwrap_or_else(|| panic!("{own:?}"));
    assert!(reason.contains("completions"), "{reason}");
    assert_eq!((own.len(), &other[..]), (1, &[format!("error: rank 0 has failed: {reason}")][..]));
}

#[test]
fn a_failure_of_all_ranks_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let more = [
        "reward.kind=correct",
        "rollout.max_completion_length=2",
        "trainer.mask_truncated_completions=true",
    ];
    let mut ranks = Ranks::start(dir.path(), &vec![short(dir.path(), &more); 3]);
    assert_eq!(ranks.end(), [Some(1); 3]);
    let told = errors(&ranks, 0);
    assert!(told.len() == 1 && told[0].starts_with("error: step 1: all "), "{told:?}");
    assert_eq!([ranks.said(1), ranks.said(2)], [""; 2]);
}

#[test]
fn a_rank_that_hangs_ends_the_others_after_the_time_limit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let more = ["reward.kind=correct", "train.steps=2000", "run.ranks.timeout_s=10"];
    let mut ranks = Ranks::start(dir, &vec![short(dir, &more); 3]);
    ranks.wait_for("\n1/");
    ranks.send(1, "-STOP");
    let stopped = Instant::now();
    while [0, 2].iter().any(|rank| ranks.children[*rank].try_wait().unwrap().is_none()) {
        assert!(stopped.elapsed() < Duration::from_secs(60), "{}", ranks.said(0));
        std::thread::yield_now();
    }
    let told: Vec<String> = [0, 2].iter().flat_map(|rank| errors(&ranks, *rank)).collect();
    // whoever ends first is gone for the other
    let late = "error: a rank did not take part within 10 s: ";
    let is_known = |line: &&String| line.starts_with(late) || line.contains(" is gone: ");
    assert!(told.len() == 2 && told.iter().filter(is_known).count() == 2, "{told:?}");
    assert!(told.iter().any(|line| line.starts_with(late)), "{told:?}");
}

#[test]
fn a_rank_that_does_not_come_ends_the_others_after_the_time_limit() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let args = short(dir, &["run.ranks.join_timeout_s=3"]);
    let mut ranks = Ranks::start(dir, &vec![args; 2]);
    ranks.send(1, "-KILL");
    ranks.end();
    let told = errors(&ranks, 0);
    let wanted = "rank 1 of 2 did not come within 3 s";
    assert!(told.len() == 1 && told[0].ends_with(wanted), "{told:?}");
}
