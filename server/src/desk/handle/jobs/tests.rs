//! Jobs posted twice at the same time, while the journal's disk has no room.

use std::path::Path;

use super::*;
use crate::desk::results::GroupStage;
use crate::dump::fixture::fill_disk;
use crate::group::fixture::pair;
use crate::tests::fixture::{dump_into, plain_config, silent};
use joust_reward::{RewardConfig, Scorer};

/// A server whose judge never replies, and whose journal has no room from now on.
async fn handle_on_full_disk(dir: &Path) -> ScorerHandle {
    let scorer = Scorer::with_judge(&RewardConfig::default(), Some(silent()), true);
    let mut config = plain_config();
    config.dump = Some(dump_into(dir, 1));
    let handle = ScorerHandle::spawn(scorer, config).unwrap().0;
    fill_disk(dir, 1);
    // equal completions need no judge; their result ends the first segment
    let mut before = pair("before");
    before.completions[1] = before.completions[0].clone();
    handle.score(before, &Client::default(), None).await.unwrap();
    handle
}

fn is_refused<T>(accepted: &Result<T, Problem>) -> bool {
    matches!(accepted, Err(Problem::NotRecorded(_)))
}

#[tokio::test]
async fn job_posted_while_the_same_one_is_taken_back_is_refused_like_it() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle_on_full_disk(dir.path()).await;
    let client = Client::default();
    // the second request finds the group of the first one in flight ...
    let first = handle.request(pair("q"), &client, None);
    let (key, group_json) = (first.key, Arc::clone(&first.group_json));
    assert!(handle.begin(first, AdmissionCheck::Enforce).is_ok());
    assert!(is_refused(&handle.accept_job(pair("q"), &client).await));
    // ... and asks for its record once the first one was taken back
    let second = handle.record_job(key, group_json, &client).await;
    assert!(is_refused(&second), "{second:?}");
    assert_eq!(handle.n_open(), 0);
    // a later one, too
    assert!(is_refused(&handle.accept_job(pair("q"), &client).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_job_of_many_posted_at_the_same_time_is_accepted_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle_on_full_disk(dir.path()).await;
    let post = |_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.accept_job(pair("q"), &Client::default()).await })
    };
    for _ in 0..50 {
        for posted in (0..8).map(post).collect::<Vec<_>>() {
            let accepted = posted.await.unwrap();
            assert!(is_refused(&accepted), "{accepted:?}");
        }
    }
    assert_eq!(handle.n_open(), 0);
}

#[tokio::test]
async fn refused_job_of_a_group_that_others_want_leaves_the_group_and_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let handle = handle_on_full_disk(dir.path()).await;
    let client = Client::default();
    let waiting = handle.begin(handle.request(pair("q"), &client, None), AdmissionCheck::Enforce);
    let key = handle.request(pair("q"), &client, None).key;
    assert!(is_refused(&handle.accept_job(pair("q"), &client).await));
    let stage = handle.stage(&client, key);
    assert!(matches!(stage, Some(GroupStage::Queued | GroupStage::Judging(_))), "{stage:?}");
    drop(waiting);
}
