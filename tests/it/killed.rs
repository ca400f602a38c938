//! A server that is killed under load and started again: clients that ask again get their answers,
//! nothing that was judged is judged twice, and every file of the dump can be read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use joust_schema::tables::{Completion, Match, Reward, Vote};
use serde_json::{Value, json};

use crate::http::exchange;
use crate::serving::Server;

const GROUPS: usize = 24;
const SIZE: usize = 4;

/// Requests one completion's reward until there is one, each time at the current server.
fn ask(address: &Mutex<String>, group: usize, member: usize, answered: &AtomicUsize) -> f64 {
    let right = 10 + group;
    let said = right + [0, 3, 10, 20][member];
    let body = json!({
        "prompt": format!("What is {} + {}?", group, 10),
        "response": format!("The answer is {said}."),
        "label": right.to_string(),
    });
    let body = body.to_string();
    let id = format!("{group}-{member}");
    let headers = [("x-request-id", &id[..])];
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let address = address.lock().unwrap().clone();
        let answer = exchange(&address, "POST /remote_rm", &headers, body.as_bytes());
        if let Some(answer) = answer.filter(|answer| answer.status == 200) {
            answered.fetch_add(1, Ordering::Relaxed);
            return serde_json::from_slice(&answer.body).unwrap();
        }
        assert!(Instant::now() < end, "group {group}, member {member}: no answer");
        std::thread::yield_now();
    }
}

/// Rows of all sets of a dump; fails if a set cannot be read.
fn rows<T: joust_schema::table::Table>(dump: &Path) -> Vec<T> {
    let mut sets: Vec<_> = std::fs::read_dir(dump)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("set_"))
        .collect();
    sets.sort();
    sets.iter()
        .flat_map(|set| {
            let file = set.join(format!("{}.parquet", T::NAME));
            joust_schema::parquet::read(&file).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect()
}

#[test]
fn killed_server_loses_no_answer_and_judges_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let dump = format!("serve.dump={}", dir.path().display());
    let group_size = format!("serve.group_size={SIZE}");
    // a set every few groups, so that kills come between them
    let settings =
        [&dump[..], &group_size, "serve.dump_every=5", "reward.judge.engine.max_batch=4"];
    let mut server = Server::start(&settings);
    let address = Arc::new(Mutex::new(server.address.clone()));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..GROUPS * SIZE)
        .map(|number| {
            let (address, answered) = (Arc::clone(&address), Arc::clone(&answered));
            // the members of a group come from far apart
            let (member, group) = (number / GROUPS, number % GROUPS);
            std::thread::spawn(move || ((group, member), ask(&address, group, member, &answered)))
        })
        .collect();
    // killed in the middle of it, twice
    for share in [4, 2] {
        let end = Instant::now() + Duration::from_secs(120);
        while answered.load(Ordering::Relaxed) < GROUPS * SIZE / share {
            assert!(Instant::now() < end, "{} answers", answered.load(Ordering::Relaxed));
            std::thread::yield_now();
        }
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        server = Server::start(&settings);
        *address.lock().unwrap() = server.address.clone();
    }
    let rewards: BTreeMap<(usize, usize), f64> =
        clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(rewards.len(), GROUPS * SIZE);
    let (status, figures) = server.request("GET /health", "");
    assert_eq!((status, &figures["open_cohorts"]), (200, &json!(0)), "{figures}");

    server.stop();
    let completions: Vec<Completion> = rows(dir.path());
    // every group is there once, with the rewards that its clients got
    assert_eq!(completions.len(), GROUPS * SIZE);
    for row in &completions {
        let group: usize =
            row.prompt.trim_start_matches("What is ").split(' ').next().unwrap().parse().unwrap();
        let said: usize =
            row.completion.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let member = [0, 3, 10, 20].iter().position(|more| said == 10 + group + more).unwrap();
        assert_eq!(row.reward, Some(rewards[&(group, member)]), "group {group}, member {member}");
    }
    assert_eq!(rows::<Reward>(dir.path()).len(), GROUPS * SIZE);
    let matches: Vec<Match> = rows(dir.path());
    let votes: Vec<Vote> = rows(dir.path());
    assert!(votes.len() >= matches.len() && !matches.is_empty());
    let left: Vec<Value> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| json!(entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.as_str().unwrap().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
