//! Which checkpoints are kept.

use super::*;

/// Makes the files by which a checkpoint is known.
fn make(run_dir: &Path, step: u64, is_interim: bool) {
    let dir = path(run_dir, step).join(STATE_DIR);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(STATE_FILE), "{}").unwrap();
    if is_interim {
        std::fs::write(dir.join(INTERIM_FILE), "").unwrap();
    }
}

/// The steps that are left after saves at the given steps, interim ones marked.
fn kept(keep_last: usize, saves: &[(u64, bool)]) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    for &(step, is_interim) in saves {
        make(dir.path(), step, is_interim);
        delete_old(dir.path(), step, Retention { keep_last, is_interim }).unwrap();
        assert_eq!(latest(dir.path()).unwrap().unwrap().0, step);
    }
    list(dir.path()).unwrap().into_iter().map(|(step, _)| step).collect()
}

#[test]
fn before_is_the_newest_complete_checkpoint_before_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let before = |step| before(dir.path(), step).unwrap().map(|(at, _)| at);
    assert_eq!(before(9), None);
    [2, 4, 12].into_iter().for_each(|step| make(dir.path(), step, step == 4));
    std::fs::create_dir(path(dir.path(), 5)).unwrap();
    assert_eq!([1, 2, 3, 12, 13].map(before), [None, None, Some(2), Some(4), Some(12)]);
}

#[test]
fn interim_checkpoints_are_deleted_by_newer_ones_and_do_not_count() {
    let regular = |steps: &[u64]| steps.iter().map(|&step| (step, false)).collect::<Vec<_>>();
    assert_eq!(kept(2, &regular(&[2, 4, 6])), [4, 6]);
    assert_eq!(kept(0, &regular(&[2, 4, 6])), [2, 4, 6]);
    let mixed = [(2, false), (3, true), (4, false), (5, true), (6, false)];
    for keep_last in [0, 1, 2] {
        let without: Vec<_> = mixed.into_iter().filter(|(_, is_interim)| !is_interim).collect();
        assert_eq!(kept(keep_last, &mixed), kept(keep_last, &without));
    }
    // a regular one is never given up for an interim one
    assert_eq!(kept(1, &[(2, false), (3, true), (5, true)]), [2, 5]);
    assert_eq!(kept(1, &[(1, true)]), [1]);
}
