//! Folders of versions, written and deleted.

use std::path::Path;

use joust_engine::folder;
use tempfile::tempdir;

use super::*;

fn policy() -> (Arc<Tokenizer>, Decoder) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/models/nano-policy");
    let engine = joust_engine::Engine::open(
        &path,
        &joust_engine::EngineConfig {
            device: joust_engine::device::DeviceChoice::Cpu,
            ..joust_engine::EngineConfig::default()
        },
    )
    .unwrap();
    (Arc::clone(engine.tokenizer()), engine.model().shared())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn versions_appear_whole_under_names_of_their_own_and_old_ones_go() {
    let (tokenizer, policy) = policy();
    let dir = tempdir().unwrap();
    let config = ServersConfig {
        weights_dir: Some(dir.path().to_owned()),
        weights_dir_on_server: Some(PathBuf::from("/shared/weights")),
        ..ServersConfig::default()
    };
    let start = StartId { id: "ab".to_owned(), publishes: true };
    let sink = DiskSink::new(&config, Arc::clone(&tokenizer), &start).unwrap();
    std::fs::create_dir(dir.path().join("vacation")).unwrap();
    let written: Vec<WeightsFolder> =
        (0..4).map(|version| sink.write(&policy, PolicyVersion(version)).unwrap()).collect();
    assert_eq!(written[3].on_server, Path::new("/shared/weights/v000003"));
    assert!(written[3].label == "3-ab" && sink.is_own(&written[3].label));
    assert_eq!(sink.folder_of(PolicyVersion(3)), written[3]);
    assert!(!sink.is_own("default") && !sink.is_own("3"));
    let drill = sink.write_drill(&policy).unwrap();
    assert!(sink.is_own(&drill.label) && drill.label != written[3].label);
    sink.delete_old();
    assert_eq!(names(dir.path()), ["v000002", "v000003", "vacation"]);
    let files = folder::open(&dir.path().join("v000003")).unwrap();
    assert!(files.weights.contains("lm_head.weight") && !files.config.tie_word_embeddings);
    // a program that was interrupted while it wrote
    let unfinished = dir.path().join("v000004.tmp");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join(atomic::MARK), "").unwrap();
    drop(DiskSink::new(&config, tokenizer, &start).unwrap());
    assert!(!unfinished.exists());
}
