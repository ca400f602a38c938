//! The corpora of the fuzz targets, replayed: every input, and inputs cut off and with changed
//! bytes, by the checks that fuzzing runs. A parser's inputs are read in a process of their own,
//! with limits of time and memory, so that a hang, a stack overflow or an abort fails, too.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Strategy as _, any};
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::binary::root;

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets are crates of their own")]
mod parsers;

/// Number of changed inputs of each parser; the variable of this name sets another one, for a long
/// search without a fuzzer.
const CHANGED: u32 = 1500;
const CHANGED_NAME: &str = "JOUST_TEST_CHANGED";

/// Maximum time of one parser.
const TIME: Duration = Duration::from_secs(120);

/// Maximum memory of one parser over the memory of a process that has read nothing, in KiB.
const MEMORY_KIB: u64 = 512 << 10;

/// Variables by which the process of a parser knows its parser, and the file for the input that it
/// reads.
const PARSER: &str = "JOUST_TEST_PARSER";
const INPUT: &str = "JOUST_TEST_INPUT";

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = root().join("fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} inputs in {}", paths.len(), folder.display());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Reads the corpus of one parser in a process of its own.
fn check_parser(name: &str, folder: &Path) {
    let input = folder.join(format!("{name}.input"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["corpora::replay", "--exact", "--ignored", "--nocapture"])
        .env(PARSER, name)
        .env(INPUT, &input)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join(format!("{name}.stderr"))).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + TIME;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.to_string(),
            None if Instant::now() > end => {
                child.kill().unwrap();
                child.wait().unwrap();
                break format!("no end after {TIME:?}");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if status != "exit status: 0" {
        let told = std::fs::read_to_string(folder.join(format!("{name}.stderr"))).unwrap();
        let bytes = std::fs::read(&input).unwrap_or_default();
        panic!("{name}: {status}\n{told}\nat {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn parsers_read_or_refuse_every_input_of_their_corpora() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<&str> = parsers::PARSERS.iter().map(|(name, _)| *name).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|part| {
                let (names, folder) = (&names, folder.path());
                scope.spawn(move || {
                    for name in names.iter().skip(part).step_by(2) {
                        check_parser(name, folder);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    // a corpus without a check would be read by nobody
    for entry in std::fs::read_dir(root().join("fuzz/corpus")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&&name[..]), "fuzz/corpus/{name} has no parser");
    }
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "run by the test before it, in a process of its own"]
fn replay() {
    let name = std::env::var(PARSER).unwrap();
    let (_, check) = parsers::PARSERS.iter().find(|(parser, _)| *parser == name).unwrap();
    let input = PathBuf::from(std::env::var(INPUT).unwrap());
    let read = |bytes: &[u8]| {
        // for the message after a hang or an abort
        std::fs::write(&input, bytes).unwrap();
        check(bytes);
    };
    let inputs = corpus(&name);
    read(b"");
    let before = peak_kib();
    for (_, bytes) in &inputs {
        read(bytes);
    }
    let change = (
        any::<Index>(),
        proptest::option::weighted(0.4, any::<Index>()),
        vec((any::<Index>(), any::<u8>()), 0..4),
    );
    let change = change.prop_map(|(of, cut, flips)| {
        let mut bytes = inputs[of.index(inputs.len())].1.clone();
        if !bytes.is_empty() {
            bytes.truncate(cut.map_or(bytes.len(), |cut| 1 + cut.index(bytes.len())));
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    });
    let wanted = std::env::var(CHANGED_NAME).ok().and_then(|text| text.parse().ok());
    let n_changed = wanted.unwrap_or(CHANGED);
    let config = Config { cases: n_changed, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&change, |bytes| {
        read(&bytes);
        Ok::<(), TestCaseError>(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let used = peak_kib() - before;
    let n_inputs = inputs.len();
    assert!(used < MEMORY_KIB, "{used} KiB for {n_inputs} inputs and {n_changed} changed ones");
}
