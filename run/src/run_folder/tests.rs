//! Configs of earlier starts.

use super::*;

#[test]
fn resuming_names_the_key_that_differs_or_has_a_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(CONFIG);
    let check = |old: &str, new: &str| {
        std::fs::write(&path, old).unwrap();
        check_same_config(&path, new).map_err(|error| error.to_string())
    };
    assert!(check("[train]\nsteps = 3", "train = { steps = 3 }").is_ok());
    let other = check("[train]\nsteps = 3", "[train]\nsteps = 4").unwrap_err();
    assert!(other.contains("key `train.steps` differs"), "{other}");
    let old = check("[rollout]\nmax_batch = 3", "[rollout.engine]\nmax_batch = 3").unwrap_err();
    assert!(old.contains("`rollout.max_batch` has a new name: rollout.engine.max_batch"), "{old}");
}
