//! State that a server restores after it was killed or stopped.

use joust_schema::tables::{Completion, Reward, Vote};

use super::fixture::*;
use crate::dump::journal;
use joust_reward::judge::{RuleJudge, ScriptControl};

/// A judge by the known answer, and the handle that counts its votes.
fn counting() -> (Box<dyn Judge>, ScriptControl) {
    let judge = ScriptedJudge::new(RuleJudge::reply).named("counting");
    let control = judge.control();
    (Box::new(judge), control)
}

/// A server with a dump folder, and the handle that counts its judge's votes.
fn start(dump: &Path) -> (Server, ScriptControl) {
    let (judge, votes) = counting();
    (running(judge, |config| config.dump = Some(dump_into(dump, 100))), votes)
}

/// Copies a folder as a killed server leaves it: with all bytes that were handed to the operating
/// system.
fn copy_of_killed(dump: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dump).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn restart_after_a_kill_judges_no_group_again() {
    let dir = tempfile::tempdir().unwrap();
    let (server, votes) = start(dir.path());
    let mut asked = group();
    asked["traces"] = json!(true);
    let first = json_of(post(&server.router(), &asked.to_string()).await).await;
    assert_eq!(votes.n_submitted(), 6);
    let again = json_of(post(&server.router(), &asked.to_string()).await).await;
    assert_eq!((again, votes.n_submitted()), (first.clone(), 6));

    let copy = copy_of_killed(dir.path());
    // killed in the middle of a line
    let segment = journal::segment_path(copy.path(), 0);
    let mut text = std::fs::read(&segment).unwrap();
    text.extend(br#"{"judged":{"at":1"#);
    std::fs::write(&segment, text).unwrap();
    let (server, votes) = start(copy.path());
    let after = json_of(post(&server.router(), &asked.to_string()).await).await;
    assert_eq!((after, votes.n_submitted()), (first, 0));
    // the set that was open is written by now
    let rows: Vec<Vote> = rows_of(copy.path(), 0);
    assert_eq!(rows.len(), 6);
    let rows: Vec<Completion> = rows_of(copy.path(), 0);
    assert_eq!(rows[1].completion, "5");
    assert_eq!((rows[1].correct, rows[1].completion_tokens), (Some(false), None));
    let mut other = group();
    other["prompt"] = json!("3+1?");
    post(&server.router(), &other.to_string()).await;
    assert_eq!(votes.n_submitted(), 6);
}

#[tokio::test]
async fn restart_answers_undelivered_members_and_begins_new_groups_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _) = start(dir.path());
    let named = |member: &'static str, said: &'static str, app: Router| async move {
        let headers = [("x-joust-group", "g"), ("x-joust-member", member)];
        let body = json!({"prompt": "2+2?", "response": said, "label": "4"});
        let response = send(&app, "/remote_rm", &headers, &body).await;
        (response.status().as_u16(), json_of(response).await)
    };
    let app = server.router();
    let (a, b, c) = tokio::join!(
        named("0", "4", app.clone()),
        named("1", "5", app.clone()),
        named("2", "6", app.clone())
    );
    let unnamed =
        ["7", "8", "9"].map(|said| spawn(&app, "/get_reward", openrlhf("3+4?", said, "7")));
    for task in unnamed {
        assert_eq!(task.await.unwrap().0, 200);
    }
    // records of deliveries are written between two groups
    let mut last = group();
    last["group_id"] = json!("last");
    post(&app, &last.to_string()).await;

    let copy = copy_of_killed(dir.path());
    let (server, votes) = start(copy.path());
    let app = server.router();
    assert_eq!(named("1", "5", app.clone()).await, b);
    assert_eq!(named("0", "4", app.clone()).await, a);
    assert_eq!(named("2", "6", app.clone()).await, c);
    assert_eq!(votes.n_submitted(), 0);
    // the unnamed members were answered: the same completions form a new group, whose result is
    // cached
    let unnamed =
        ["7", "8", "9"].map(|said| spawn(&app, "/get_reward", openrlhf("3+4?", said, "7")));
    for task in unnamed {
        assert_eq!(task.await.unwrap().0, 200);
    }
    assert_eq!(server.state.barrier.n_open(), 0);
}

#[tokio::test]
async fn dump_folder_is_locked_against_a_second_server() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, _) = start(dir.path());
    let scorer =
        Scorer::with_judge(&RewardConfig::default(), Some(Box::<RuleJudge>::default()), true);
    let mut config = plain_config();
    config.dump = Some(dump_into(dir.path(), 1));
    let error = ScorerHandle::spawn(scorer, config).err().unwrap().to_string();
    assert!(error.contains("another server writes its dump here"), "{error}");
}

#[tokio::test]
async fn journal_segments_expire_and_sets_stay() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let server = running(Box::<RuleJudge>::default(), |config| {
        config.dump = Some(DumpConfig { keep_bytes: 1, ..dump_into(&dump, 1) });
    });
    for number in 0..3 {
        let mut asked = group();
        asked["group_id"] = json!(format!("g{number}"));
        post(&server.router(), &asked.to_string()).await;
    }
    for number in 0..3 {
        assert_eq!(rows_of::<Reward>(&dump, number).len(), 4);
    }
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let left = || journal::segments(&dump).unwrap().iter().map(|it| it.number).collect::<Vec<_>>();
    while left() != [3] {
        assert!(std::time::Instant::now() < end, "{:?}", left());
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn restart_does_not_write_a_moved_set_again() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let app = server(counting().0, |config| config.dump = Some(dump_into(&dump, 1)));
    post(&app, &group().to_string()).await;
    assert_eq!(rows_of::<Reward>(&dump, 0).len(), 4);
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !journal::segments(&dump).unwrap()[0].is_written {
        assert!(std::time::Instant::now() < end, "{:?}", journal::segments(&dump));
        std::thread::yield_now();
    }
    // the copy has the journal without the sets
    let copy = copy_of_killed(&dump);
    let (server, votes) = start(copy.path());
    assert_eq!(post(&server.router(), &group().to_string()).await.status(), StatusCode::OK);
    assert_eq!(votes.n_submitted(), 0);
    assert!(journal::set_numbers(copy.path()).unwrap().is_empty());
}
