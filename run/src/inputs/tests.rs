//! Which changes of a run's inputs are seen.

use super::*;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn digest_sees_contents_and_names_and_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    for name in ["a", "b"] {
        write(&folder(name).join("config.json"), "{}");
        write(&folder(name).join("model.safetensors"), "weights");
        write(&folder(name).join("additional_chat_templates/tool.jinja"), "{{ tools }}");
    }
    let digest = |name: &str| InputPath::model("policy.path", &folder(name)).digest().unwrap();
    let first = digest("a");
    assert_eq!(first, digest("b"), "moved to another place");
    write(&folder("b").join("README.md"), "no part of the model");
    assert_eq!(first, digest("b"));
    let changes = [
        ("config.json", "{ }"),
        ("model.safetensors", "Weights"),
        ("additional_chat_templates/tool.jinja", "{{ tool }}"),
        ("tokenizer.json", "{}"),
    ];
    for (name, text) in changes {
        let path = folder("b").join(name);
        let before = std::fs::read(&path);
        write(&path, text);
        assert_ne!(first, digest("b"), "{name}");
        match before {
            Ok(before) => std::fs::write(&path, before).unwrap(),
            Err(_) => std::fs::remove_file(&path).unwrap(),
        }
        assert_eq!(first, digest("b"), "{name}");
    }
    std::fs::rename(folder("b/config.json"), folder("b/config2.json")).unwrap();
    assert_ne!(first, digest("b"), "renamed");

    let file = |name: &str| InputPath::file("prompts.path", &folder(name)).digest();
    write(&folder("p.jsonl"), "1");
    write(&folder("q.jsonl"), "1");
    assert_eq!(file("p.jsonl").unwrap(), file("q.jsonl").unwrap());
    assert!(file("none.jsonl").unwrap_err().to_string().contains("none.jsonl"));
}

#[test]
fn digest_of_a_split_gguf_file_covers_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let part = |idx: u32| dir.path().join(format!("m-0000{idx}-of-00002.gguf"));
    write(&part(1), "one");
    write(&part(2), "two");
    write(&dir.path().join("other-00001-of-00002.gguf"), "other");
    let input = InputPath::model("policy.path", &part(1));
    assert_eq!(input.files().unwrap(), [part(1), part(2)]);
    let before = input.digest().unwrap();
    write(&part(2), "TWO");
    assert_ne!(before, input.digest().unwrap());
}

#[test]
fn digest_of_a_large_file_is_made_of_samples() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    // a sparse file takes no room on the disk
    let file = File::create(&path).unwrap();
    file.set_len(WHOLE_BYTES + 12_345).unwrap();
    let input = InputPath::model("policy.path", dir.path());
    let before = input.digest().unwrap();
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(b"x", 5 * SAMPLE_EVERY + 100).unwrap();
    let in_a_sample = input.digest().unwrap();
    file.write_all_at(b"x", WHOLE_BYTES + 12_344).unwrap();
    let at_the_end = input.digest().unwrap();
    file.set_len(WHOLE_BYTES + 12_346).unwrap();
    let longer = input.digest().unwrap();
    let mut all = vec![before, in_a_sample, at_the_end, longer];
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn digest_refuses_what_cannot_be_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("rows.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(InputPath::file("prompts.path", &pipe).digest().map_err(|e| e.to_string()))
    });
    let limit = std::time::Duration::from_secs(60);
    let message = receiver.recv_timeout(limit).expect("the pipe is not opened").unwrap_err();
    assert!(message.starts_with("prompts.path: ") && message.contains("is a pipe"), "{message}");
}
