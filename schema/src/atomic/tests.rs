//! Writers that fail, are killed, or meet.

use super::*;

#[test]
fn write_dir_replaces_whole_folders_and_sweep_deletes_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    for text in ["one", "two"] {
        write_dir::<Error>(&path, |dir| {
            fs::write(dir.join("f"), text).map_err(|e| Error::io(dir, e))
        })
        .unwrap();
        assert_eq!(fs::read_to_string(path.join("f")).unwrap(), text);
    }
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    write_dir::<Error>(&link, |dir| {
        fs::write(dir.join("f"), "three").map_err(|e| Error::io(dir, e))
    })
    .unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "three");
    fs::remove_file(&link).unwrap();
    let fails = |_: &Path| Err(Error::bad_file("x", "broken"));
    write_dir::<Error>(&path, fails).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    fs::create_dir(dir.path().join("half.tmp")).unwrap();
    sweep(dir.path(), |name| name == "half").unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn write_dir_refuses_a_folder_that_another_writer_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let write = || write_dir::<Error>(&path, |_| Ok(()));
    write_dir::<Error>(&path, |_| {
        let error = write().unwrap_err().to_string();
        assert!(error.contains("another program"), "{error}");
        sweep(dir.path(), |_| true).unwrap();
        Ok(())
    })
    .unwrap();
    for name in ["model.tmp", "model.old.tmp"] {
        // leftovers of a killed program are deleted, other folders are kept
        let in_the_way = dir.path().join(name);
        fs::create_dir(&in_the_way).unwrap();
        for error in [write().unwrap_err(), check_free(&path).unwrap_err()] {
            assert!(error.to_string().contains("in the way"), "{error}");
        }
        fs::write(in_the_way.join(MARK), "").unwrap();
        write().unwrap();
        assert!(!in_the_way.exists());
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
}

#[test]
fn write_dir_restores_the_replaced_folder_after_a_kill_between_two_renames() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    fs::create_dir(replaced_path(&path)).unwrap();
    fs::write(replaced_path(&path).join(MARK), "").unwrap();
    fs::write(replaced_path(&path).join("f"), "old").unwrap();
    write_dir::<Error>(&path, |_| Err(Error::bad_file("x", "broken"))).unwrap_err();
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "old");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn lock_refuses_a_mark_that_another_program_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mark = File::create(dir.path().join(MARK)).unwrap();
    fs::remove_file(dir.path().join(MARK)).unwrap();
    lock(&mark, dir.path()).unwrap_err();
    fs::write(dir.path().join(MARK), "").unwrap();
    lock(&mark, dir.path()).unwrap_err();
}

#[test]
fn write_dir_of_many_writers_at_once_writes_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let write = |text: String| {
        write_dir::<Error>(&path, |dir| {
            for name in ["a", "b", "c"] {
                fs::write(dir.join(name), &text).map_err(|e| Error::io(dir, e))?;
            }
            Ok(())
        })
    };
    let n_written: usize = std::thread::scope(|scope| {
        let many = |writer: usize| {
            (0..50).filter(|turn| write(format!("{writer} {turn}")).is_ok()).count()
        };
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || many(writer))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(n_written > 0);
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!((read("a"), read("a")), (read("b"), read("c")));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn sweep_keeps_names_of_others_and_restores_what_was_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let others =
        ["notes.tmp", "draft.old.tmp", "own.bak", "own.7.tmp", "own.tmp.txt", "own.old.tmp"];
    for name in others {
        fs::write(at(name), "mine").unwrap();
    }
    for name in ["own.tmp", "own.12-0.tmp"] {
        fs::write(at(name), "half").unwrap();
    }
    // killed between two renames, and killed after both
    for name in ["first.old.tmp", "first.tmp", "second.old.tmp", "second"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("f"), name).unwrap();
        if name != "second" {
            fs::write(at(name).join(MARK), "").unwrap();
        }
    }
    sweep(dir.path(), |name| ["own", "first", "second"].contains(&name)).unwrap();
    let entries = fs::read_dir(dir.path()).unwrap();
    let mut left: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    let mut wanted = others.to_vec();
    wanted.extend(["first", "second"]);
    wanted.sort();
    assert_eq!(left, wanted);
    assert_eq!(fs::read_to_string(at("first/f")).unwrap(), "first.old.tmp");
    assert_eq!(fs::read_to_string(at("second/f")).unwrap(), "second");
    assert!(!at("first").join(MARK).exists());
}

#[test]
fn check_free_tries_to_write_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    check_free(&dir.path().join("a/b/model")).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("file"), "").unwrap();
    for path in [&dir.path().join("file/model"), Path::new("/proc/model")] {
        let error = check_free(path).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

#[test]
fn marks_are_opened_for_writing() {
    use std::os::fd::AsRawFd as _;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(MARK), "").unwrap();
    let mark = leftover_mark(dir.path()).unwrap().unwrap();
    // NFS emulates these locks by locks of byte ranges, which need a file that is open for writing
    let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", mark.as_raw_fd())).unwrap();
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let (write_only, read_and_write) = (1, 2);
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_eq!(flags & (write_only | read_and_write), read_and_write);
}
