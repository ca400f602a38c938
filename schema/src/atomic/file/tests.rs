//! Files that fail, and places that are no plain files.

use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn write_file_keeps_the_old_file_and_nothing_else_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    let text = |text: &'static str| {
        move |writer: &mut BufWriter<File>| {
            writer.write_all(text.as_bytes()).map_err(|e| Error::io("x", e))
        }
    };
    write_file(&path, text("old")).unwrap();
    let failed = write_file(&path, |_| Err(Error::bad_file("x", "broken")));
    assert!(failed.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_file(path, |writer| {
        writer.write_all(text.as_bytes()).map_err(|source| Error::io(path, source))
    })
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn write_file_keeps_links_and_writes_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("disk")).unwrap();
    fs::write(at("disk/there"), "old").unwrap();
    symlink("disk/there", at("link")).unwrap();
    symlink(at("link"), at("far")).unwrap();
    symlink("disk/new", at("dangling")).unwrap();
    for (name, behind) in [("link", "disk/there"), ("far", "disk/there"), ("dangling", "disk/new")]
    {
        check_file(&at(name)).unwrap();
        write_text(&at(name), name).unwrap();
        assert!(fs::symlink_metadata(at(name)).unwrap().is_symlink(), "{name}");
        assert_eq!(fs::read_to_string(at(behind)).unwrap(), name);
    }
    assert_eq!(names(dir.path()), ["dangling", "disk", "far", "link"]);
    assert_eq!(names(&at("disk")), ["new", "there"]);
    symlink("round", at("round")).unwrap();
    write_text(&at("round"), "x").unwrap_err();
}

#[test]
fn write_file_replaces_no_file_of_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let (path, theirs) = (dir.path().join("x"), dir.path().join("x.tmp"));
    fs::write(&theirs, "theirs").unwrap();
    check_file(&path).unwrap();
    assert!(!path.exists());
    write_text(&path, "mine").unwrap();
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    assert_eq!(names(dir.path()), ["x", "x.tmp"]);
}

#[test]
fn write_file_writes_into_pipes_and_devices() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // it opens no pipe, which would wait for a reader
    check_file(&pipe).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let from = pipe.clone();
    std::thread::spawn(move || sender.send(fs::read_to_string(from)));
    write_text(&pipe, "a text").unwrap();
    let limit = std::time::Duration::from_secs(60);
    assert_eq!(receiver.recv_timeout(limit).unwrap().unwrap(), "a text");
    assert_eq!(names(dir.path()), ["pipe"]);

    write_text(Path::new("/dev/null"), "a text").unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    // a file that is open already, as /dev/stdout may be
    let mut open = File::options()
        .create_new(true)
        .read(true)
        .append(true)
        .open(dir.path().join("log"))
        .unwrap();
    open.write_all(b"first, ").unwrap();
    let descriptor = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    write_text(Path::new(&descriptor), "second").unwrap();
    let mut text = String::new();
    std::io::Seek::rewind(&mut open).unwrap();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first, second");
    assert_eq!(names(dir.path()), ["log", "pipe"]);
}

#[test]
fn check_file_refuses_folders_and_places_that_take_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folder/x");
    check_file(&path).unwrap();
    assert!(names(path.parent().unwrap()).is_empty());
    for path in [dir.path(), Path::new("/proc/x"), Path::new("/dev/null/x")] {
        check_file(path).unwrap_err();
        write_text(path, "x").unwrap_err();
    }
    fs::write(dir.path().join("file"), "").unwrap();
    check_file(&dir.path().join("file/x")).unwrap_err();
}
