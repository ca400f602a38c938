//! The routes as a client sees them, without sockets.

mod flight;
mod jobs;
mod protocols;
mod restart;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::cohort::terms::{CohortConfig, Incomplete};
use super::{DumpConfig, ScorerHandle, Server, ServerConfig};
use joust_reward::RewardConfig;
use joust_reward::Scorer;
use joust_reward::judge::{Judge, RuleJudge, ScriptedJudge};

/// A judge whose every vote fails.
fn broken() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::failing("out of memory").named("broken"))
}

/// A judge that never replies.
fn silent() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::silent())
}

/// A judge whose thread panics at the first vote.
fn panicking() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::new(|_| panic!("the GPU fell off the bus")))
}

/// A judge that prefers the longer answer: groups of some protocols bring no known answer.
fn longer() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::of_verdicts(|vote| {
        let is_first = vote.answer_first.len() > vote.answer_second.len();
        Ok(if is_first { Verdict::First } else { Verdict::Second })
    }))
}

fn dump_into(dir: &Path, every_groups: usize) -> DumpConfig {
    DumpConfig {
        dir: dir.to_owned(),
        every_groups,
        every: Duration::from_secs(3600),
        max_set_bytes: 1 << 20,
        keep: Duration::from_secs(60),
        keep_bytes: 1 << 20,
        judged_by: String::new(),
    }
}

fn plain_config() -> ServerConfig {
    ServerConfig {
        queue_capacity: 8,
        queue_tokens: 0,
        timeout: Duration::from_secs(30),
        keep_bytes: 1 << 20,
        dump: None,
        seed: 0,
        tokens: Vec::new(),
        cohorts: CohortConfig {
            group_size: 3,
            collect: Duration::from_secs(10),
            keep: Duration::from_secs(60),
            incomplete: Incomplete::Fail,
            max_open: 8,
        },
    }
}

/// The rows of a set, which another thread writes.
fn rows_of<T: joust_schema::table::Table>(dir: &Path, set: usize) -> Vec<T> {
    let set = dir.join(format!("set_{set:05}"));
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !set.exists() {
        assert!(std::time::Instant::now() < end, "{} was not written", set.display());
        std::thread::yield_now();
    }
    joust_schema::parquet::read(&set.join(format!("{}.parquet", T::NAME))).unwrap()
}

fn running(judge: Box<dyn Judge>, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let scorer = Scorer::with_judge(&RewardConfig::default(), Some(judge), true);
    let mut config = plain_config();
    change(&mut config);
    Server::new(ScorerHandle::spawn(scorer, config).unwrap().0)
}

fn server(judge: Box<dyn Judge>, change: impl FnOnce(&mut ServerConfig)) -> Router {
    running(judge, change).router()
}

async fn post(app: &Router, body: &str) -> Response<Body> {
    let request = Request::post("/v1/score_group").body(Body::from(body.to_owned())).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn group() -> Value {
    json!({"prompt": "2+2?", "completions": ["4", "5", "It is 4.", "22"], "answer": 4, "seed": 1,
           "tournament": "round_robin", "group_id": "g/1"})
}

#[tokio::test]
async fn a_group_is_scored_and_dumped() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let app = server(Box::<RuleJudge>::default(), |config| config.dump = Some(dump_into(&dump, 1)));
    let response = post(&app, &group().to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = json_of(response).await;
    let rewards: Vec<f64> = serde_json::from_value(body["rewards"].clone()).unwrap();
    assert!(rewards[0] > rewards[1] && rewards[2] > rewards[3], "{rewards:?}");
    assert_eq!(body["group_id"], "g/1");
    assert_eq!(body["matches"].as_array().unwrap().len(), 6);
    assert_eq!(body["statuses"][0], "scored");
    let again = json_of(post(&app, &group().to_string()).await).await;
    assert_eq!(again, body, "the same group gets the same answer");
    let mut asking = group();
    asking["traces"] = json!(true);
    let traced = json_of(post(&app, &asking.to_string()).await).await;
    let traces = traced["traces"].as_array().unwrap();
    assert_eq!(traces.len(), 6);
    for trace in traces {
        let (first, second) = (&trace["shown_first"], &trace["shown_second"]);
        let better = if trace["verdict"] == "first" { first } else { second };
        let right = [json!(0), json!(2)];
        let is_even = right.contains(first) == right.contains(second);
        assert!(is_even || right.contains(better), "{trace}");
        assert!(trace["text"].is_string());
    }
    let matches: Vec<joust_schema::tables::Match> = rows_of(&dump, 0);
    assert_eq!(matches[0].group_id.0, "g/1");
    assert!(matches[0].match_id.0.starts_with("g/1/1-"), "{}", matches[0].match_id);
}

#[tokio::test]
async fn members_may_be_permuted_and_chats_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let change = |config: &mut ServerConfig| {
        config.dump = Some(dump_into(&dump, 2));
    };
    let app = server(Box::<RuleJudge>::default(), change);
    let chat = |text: &str| json!([{"role": "assistant", "content": text}]);
    let texts = ["4", "5", "6", "7", "8"];
    let reversed: Vec<Value> = texts.iter().rev().map(|text| chat(text)).collect();
    let mut bodies = Vec::new();
    for completions in [json!(texts), json!(texts), json!(reversed)] {
        let body = json!({"prompt": [{"role": "user", "content": "2+2?"}],
                          "completions": completions, "answer": "4"});
        let response = post(&app, &body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        bodies.push(json_of(response).await);
    }
    let rewards =
        |body: &Value| -> Vec<f64> { serde_json::from_value(body["rewards"].clone()).unwrap() };
    let backwards: Vec<f64> = rewards(&bodies[2]).into_iter().rev().collect();
    assert_eq!(rewards(&bodies[0]), backwards);
    assert_eq!(bodies[0]["group_id"], bodies[1]["group_id"]);
    let matches: Vec<joust_schema::tables::Match> = rows_of(&dump, 0);
    let ids: std::collections::BTreeSet<_> = matches.iter().map(|row| &row.match_id).collect();
    assert_eq!(ids.len(), matches.len(), "match ids are unique within the file");
}

#[tokio::test]
async fn bad_bodies_are_named() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let cases = [
        ("{", 400, "invalid JSON"),
        ("[]", 422, "wanted an object"),
        (r#"{"completions": ["a"]}"#, 422, "prompt is missing"),
        (r#"{"prompt": "", "completions": ["a"]}"#, 422, "prompt is empty"),
        (r#"{"prompt": "a", "completions": []}"#, 422, "completions is empty"),
        (r#"{"prompt": "a", "completions": ["b"], "votes": 2}"#, 422, "votes is 2, wanted an odd"),
        (r#"{"prompt": "a", "completions": ["b"], "vote": 3}"#, 422, "unknown field `vote`"),
        (r#"{"prompt": "a", "completions": ["b"], "tournament": "x"}"#, 422, "unknown variant `x`"),
    ];
    for (body, status, wanted) in cases {
        let response = post(&app, body).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let text = json_of(response).await["error"].to_string();
        assert!(text.contains(wanted), "{body}: {text}");
    }
    let response =
        app.clone().oneshot(Request::get("/health").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(json_of(response).await["judge"], "rule");
}

#[tokio::test]
async fn a_failed_judge_is_never_a_number() {
    let app = server(broken(), |_| {});
    let response = post(&app, &group().to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = json_of(response).await;
    assert_eq!(body["rewards"], json!([null, null, null, null]));
    assert_eq!(body["statuses"][3], "judge_failed");
    assert!(body["error"].to_string().contains("out of memory"));
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_nothing_behind() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let mut two = openrlhf("2+2?", "phantom", "4");
    for (key, more) in [("query", "nothing"), ("prompts", "zzz"), ("labels", "4")] {
        two[key].as_array_mut().unwrap().push(json!(more));
    }
    let response = send(&app, "/get_reward", &[], &two).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let whole = ["4", "5"].map(|said| spawn(&app, "/get_reward", openrlhf("2+2?", said, "4")));
    for one in whole {
        assert_eq!(one.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn members_of_a_named_group_have_one_prompt() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let named = |group: &'static str, prompt: &'static str, said: &'static str| {
        let app = app.clone();
        tokio::spawn(async move {
            let body = json!({"prompt": prompt, "response": said, "label": "4"});
            send(&app, "/remote_rm", &[("x-joust-group", group)], &body).await.status().as_u16()
        })
    };
    let first = named("g", "2+2?", "4");
    tokio::task::yield_now().await;
    assert_eq!(named("g", "3+1?", "4").await.unwrap(), 409);
    assert_eq!(named("g", "2+2?", "5").await.unwrap(), 200);
    assert_eq!(first.await.unwrap(), 200);
    // an empty name is none
    let first = named("", "2+2+0?", "4");
    let other = named(" ", "3+1+0?", "4");
    assert_eq!(named("", "2+2+0?", "5").await.unwrap(), 200);
    assert_eq!(named("", "3+1+0?", "5").await.unwrap(), 200);
    assert_eq!((first.await.unwrap(), other.await.unwrap()), (200, 200));
    let headers = [("x-joust-attempt", "2")];
    let body = json!({"prompt": "2+2?", "response": "4", "label": "4"});
    let response = send(&app, "/remote_rm", &headers, &body).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn what_the_judge_refuses_is_the_clients_to_mend() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let unknown = json!({"prompt": "2+2?", "completions": ["4", "5"]});
    let response = post(&app, &unknown.to_string()).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let answer = json_of(response).await;
    assert!(answer["error"].as_str().unwrap().contains("no known answer"), "{answer}");
    assert_eq!(answer["rewards"], json!([null, null]));
    let documents = json!({"query": "2+2?", "documents": ["4", "5"]});
    let response = send(&app, "/rerank", &[], &documents).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(response.headers().get("retry-after"), None);
    let singles = ["4", "5"]
        .map(|said| spawn(&app, "/remote_rm", json!({"prompt": "2+2?", "response": said})));
    for single in singles {
        let (status, answer) = single.await.unwrap();
        assert_eq!(status, 422);
        assert!(answer["error"].as_str().unwrap().contains("no known answer"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_late_result_are_told_apart() {
    let app = server(silent(), |config| config.queue_capacity = 1);
    let first = tokio::spawn({
        let app = app.clone();
        async move { post(&app, &group().to_string()).await.status() }
    });
    tokio::task::yield_now().await;
    let mut other = group();
    other["prompt"] = json!("3+1?");
    let second = post(&app, &other.to_string()).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(first.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
}

/// Sends a body to a route, with headers.
async fn send(app: &Router, route: &str, headers: &[(&str, &str)], body: &Value) -> Response<Body> {
    let mut request = Request::post(route);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

/// As OpenRLHF sends a finished completion.
fn openrlhf(prompt: &str, completion: &str, label: &str) -> Value {
    json!({"query": [format!("{prompt}{completion}</s>")], "prompts": [prompt], "labels": [label]})
}

/// One completion's request on its own task.
fn spawn(app: &Router, route: &'static str, body: Value) -> tokio::task::JoinHandle<(u16, Value)> {
    let app = app.clone();
    tokio::spawn(async move {
        let response = send(&app, route, &[], &body).await;
        (response.status().as_u16(), json_of(response).await)
    })
}

#[tokio::test]
async fn completions_that_come_one_by_one_are_scored_as_a_group() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let mut tasks = Vec::new();
    for said in [" 4", " 5", " 22"] {
        tasks.push(spawn(&app, "/get_reward", openrlhf("2+2?", said, "4")));
    }
    // another group, by the other protocol
    for said in ["7", "8", "7"] {
        let body = json!({"prompt": [{"role": "user", "content": "3+4?"}], "response": said, "label": "7"});
        tasks.push(spawn(&app, "/remote_rm", body));
    }
    let mut answers = Vec::new();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answers.push(answer);
    }
    let reward = |answer: &Value| answer["rewards"][0].as_f64().unwrap();
    assert!(reward(&answers[0]) > reward(&answers[1]) && reward(&answers[0]) > reward(&answers[2]));
    for answer in &answers[..3] {
        assert_eq!(answer["rewards"].as_array().unwrap().len(), 1);
        let score = answer["scores"][0].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score));
        // the client makes tensors of these
        for values in answer["extra_logs"].as_object().unwrap().values() {
            assert!(values[0].is_number(), "{answer}");
        }
    }
    let slime: Vec<f64> = answers[3..].iter().map(|answer| answer.as_f64().unwrap()).collect();
    assert!(slime[0] > slime[1] && slime[0] == slime[2], "{slime:?}");
}

#[tokio::test]
async fn a_whole_group_may_come_in_one_request_and_rewards_have_a_key() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let body = json!({"query": ["q 1", "q 2", "q 3"], "prompts": ["q", "q", "q"], "labels": ["1", "1", "1"]});
    let response = send(&app, "/get_reward", &[], &body).await;
    let answer = json_of(response).await;
    let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
    assert!(rewards[0] > rewards[1] && rewards[0] > rewards[2], "{rewards:?}");
    let one = |said: &str| json!({"prompt": "p", "response": said, "label": "1"});
    let tasks = ["1", "2", "3"].map(|said| spawn(&app, "/remote_rm?key=score", one(said)));
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200);
        assert!(answer["score"].is_number() && answer["win_rate"].is_number(), "{answer}");
    }
}

#[tokio::test]
async fn what_is_no_reward_is_an_error_to_clients_that_take_any_number() {
    let soon = Duration::from_millis(100);
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.collect = soon);
    let alone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    let (status, answer) = alone.await.unwrap();
    assert_eq!(status, 504);
    assert!(answer["error"].as_str().unwrap().contains("1 of 3 members"), "{answer}");

    let partial = server(Box::<RuleJudge>::default(), |config| {
        config.cohorts.incomplete = Incomplete::Partial;
        config.cohorts.collect = soon;
    });
    let two = [" 4", " 5"].map(|said| spawn(&partial, "/get_reward", openrlhf("2+2?", said, "4")));
    for task in two {
        assert_eq!(task.await.unwrap().0, 200);
    }

    let broken = server(broken(), |_| {});
    let three =
        [" 4", " 5", " 6"].map(|said| spawn(&broken, "/get_reward", openrlhf("2+2?", said, "4")));
    for task in three {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 503);
        assert!(answer["error"].as_str().unwrap().contains("no valid vote"), "{answer}");
    }
}

#[tokio::test]
async fn a_member_that_is_known_by_name_is_judged_once() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let join = |member: &'static str, said: &'static str| {
        let app = app.clone();
        tokio::spawn(async move {
            let headers = [("x-joust-group", "g"), ("x-joust-member", member)];
            let response = send(&app, "/get_reward", &headers, &openrlhf("2+2?", said, "4")).await;
            (response.status().as_u16(), json_of(response).await)
        })
    };
    let (first, twin) = (join("0", " 4"), join("0", " 4"));
    tokio::task::yield_now().await;
    assert_eq!(join("0", " 5").await.unwrap().0, 409);
    let others = [join("1", " 5"), join("2", " 4")];
    let mut rewards = Vec::new();
    for task in [first, twin].into_iter().chain(others) {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        rewards.push(answer["rewards"][0].as_f64().unwrap());
    }
    assert!(rewards[0] == rewards[1] && rewards[0] == rewards[3] && rewards[0] > rewards[2]);
    // again: the same answer; one more: too late
    assert_eq!(join("1", " 5").await.unwrap().1["rewards"][0].as_f64(), Some(rewards[2]));
    assert_eq!(join("3", " 6").await.unwrap().0, 410);
}

/// Waits until so many completions wait for their group.
async fn until_waiting(app: &Router, wanted: u64) {
    let health = || Request::get("/health").body(Body::empty()).unwrap();
    loop {
        let health = json_of(app.clone().oneshot(health()).await.unwrap()).await;
        if health["waiting_completions"] == wanted {
            assert_eq!(health["open_cohorts"], 1, "a retry opens no second group");
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_gave_up_finds_its_member_again() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let gone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    let other = spawn(&app, "/get_reward", openrlhf("2+2?", " 5", "4"));
    until_waiting(&app, 2).await;
    gone.abort();
    assert!(gone.await.is_err());
    until_waiting(&app, 1).await;
    let again = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    until_waiting(&app, 2).await;
    let last = spawn(&app, "/get_reward", openrlhf("2+2?", " 6", "4"));
    for task in [other, again, last] {
        assert_eq!(task.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn bad_singles_are_named() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let one = json!({"prompt": "p", "response": "r"});
    let cases = [
        ("/get_reward", json!({"query": [], "prompts": []}), 422, "have 0, 0 and 0 entries"),
        ("/get_reward", json!({"query": ["ab"], "prompts": ["a", "b"]}), 422, "1, 2 and 0"),
        (
            "/get_reward",
            json!({"query": ["x y"], "prompts": ["z"]}),
            422,
            "does not hold its prompt",
        ),
        ("/get_reward", json!({"prompts": ["z"]}), 422, "missing field `query`"),
        ("/remote_rm", json!({"prompt": "", "response": "r"}), 422, "prompt is empty"),
        (
            "/remote_rm",
            json!({"prompt": "p", "response": "r", "label": {}}),
            422,
            "label is neither",
        ),
        ("/remote_rm", json!({"prompt": "p", "response": 3}), 422, "invalid type"),
    ];
    for (route, body, status, wanted) in cases {
        let response = send(&app, route, &[], &body).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let text = json_of(response).await["error"].to_string();
        assert!(text.contains(wanted), "{body}: {text}");
    }
    let headers = [("x-joust-group", "g"), ("x-joust-member", "first")];
    let response = send(&app, "/remote_rm", &headers, &one).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(json_of(response).await["error"].to_string().contains("wanted a number"));
}

/// 40 groups of 8 by 64 clients at once, in random order: one request in ten is sent twice (with its own
/// id), one in twenty is given up and sent again, one member in twenty never comes. Members say the same
/// as others of their group. Every whole group is judged once, with its own members; the others fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_mix_no_groups_and_judge_none_twice() {
    const GROUPS: u64 = 40;
    const SIZE: u64 = 8;
    let drawn = |what: &str, at: u64| Seed::new(9).child_str("test", what).child("at", at).unit();
    let is_missing = |at: u64| drawn("missing", at) < 0.05;
    let members = || (0..GROUPS * SIZE).filter(|&at| !is_missing(at));
    let whole: BTreeSet<u64> =
        (0..GROUPS).filter(|group| !(0..SIZE).any(|at| is_missing(group * SIZE + at))).collect();
    assert!((10..40).contains(&whole.len()), "{}", whole.len());

    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.queue_capacity = 64;
        config.dump = Some(dump_into(&dump, whole.len()));
        config.cohorts.group_size = SIZE as usize;
        config.cohorts.collect = Duration::from_secs(6);
        config.cohorts.max_open = 64;
    });
    let mut order: Vec<u64> = members().collect();
    order.sort_by_key(|&at| Seed::new(3).child("order", at).0);
    // a client has a rollout of each of its groups under way
    let clients = std::sync::Arc::new(tokio::sync::Semaphore::new(64 * 8));
    let mut tasks = Vec::new();
    for at in order {
        let (group, member) = (at / SIZE, at % SIZE);
        let (app, clients) = (app.clone(), std::sync::Arc::clone(&clients));
        let is_double = drawn("double", at) < 0.1;
        let is_retry = drawn("retry", at) < 0.05;
        tasks.push(tokio::spawn(async move {
            let _client = clients.acquire().await.unwrap();
            // every other one is right, and half of each kind say the same
            let said = if member % 2 == 0 { group } else { group + member / 4 + 1 };
            let body =
                openrlhf(&format!("group {group}?"), &format!(" {said}"), &group.to_string());
            let id = format!("{at}");
            let once = || async {
                let response = send(&app, "/get_reward", &[("x-request-id", &id)], &body).await;
                (response.status().as_u16(), json_of(response).await)
            };
            if is_retry {
                // the client's own time limit
                let _ = tokio::time::timeout(Duration::from_millis(20), once()).await;
            }
            let answer = match is_double {
                true => {
                    let (first, second) = tokio::join!(once(), once());
                    assert_eq!(first, second);
                    first
                }
                false => once().await,
            };
            (group, member, answer)
        }));
    }
    let mut right: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut wrong: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for task in tasks {
        let (group, member, (status, answer)) = task.await.unwrap();
        match whole.contains(&group) {
            true => {
                assert_eq!(status, 200, "group {group}: {answer}");
                let kind = if member % 2 == 0 { &mut right } else { &mut wrong };
                kind.entry(group).or_default().push(answer["rewards"][0].as_f64().unwrap());
            }
            false => assert_eq!(status, 504, "group {group}: {answer}"),
        }
    }
    for group in &whole {
        let (right, wrong) = (&right[group], &wrong[group]);
        assert_eq!((right.len(), wrong.len()), (4, 4));
        let least = right.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(wrong.iter().all(|reward| *reward < least), "group {group}: {right:?} {wrong:?}");
    }
    let rewards: Vec<joust_schema::tables::Reward> = rows_of(&dump, 0);
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for row in rewards {
        *sizes.entry(row.group_id.0).or_default() += 1;
    }
    assert_eq!(sizes.len(), whole.len(), "each whole group was judged once");
    assert!(sizes.values().all(|size| *size == SIZE));
    assert!(!dump.join("set_00001").exists());
}

async fn get(app: &Router, route: &str, token: Option<&str>) -> (u16, String) {
    let mut request = Request::get(route);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn tokens_are_asked_for_where_they_are_set() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.tokens = vec!["first".to_owned(), "second".to_owned()];
    });
    for route in ["/health", "/ready"] {
        assert_eq!(get(&app, route, None).await.0, 200, "{route}");
    }
    for route in ["/metrics", "/info", "/v1/models", "/nothing"] {
        for token in [None, Some(""), Some("firs"), Some("first "), Some("third")] {
            let (status, body) = get(&app, route, token).await;
            assert_eq!(status, 401, "{route} {token:?}");
            assert!(!body.contains("second"), "{body}");
        }
    }
    assert_eq!(get(&app, "/info", Some("second")).await.0, 200);
    assert_eq!(get(&app, "/nothing", Some("first")).await.0, 404);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn figures_count_what_was_answered_and_judged() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    post(&app, &group().to_string()).await;
    post(&app, "{").await;
    get(&app, "/nothing/at/all", None).await;
    let (status, page) = get(&app, "/metrics", None).await;
    assert_eq!(status, 200);
    for line in [
        "joust_server_requests_total{route=\"/v1/score_group\",status=\"200\"} 1",
        "joust_server_requests_total{route=\"/v1/score_group\",status=\"400\"} 1",
        "joust_server_requests_total{route=\"other\",status=\"404\"} 1",
        "joust_server_request_duration_seconds_count{route=\"/v1/score_group\"} 2",
        "joust_reward_groups_total 1",
        "joust_reward_completions_total{status=\"scored\"} 4",
        "joust_server_open_groups 0",
    ] {
        assert!(page.lines().any(|seen| seen == line), "{line} is not in\n{page}");
    }
    // each is on the page, and none that has no meaning
    for (name, meaning) in super::figures::FIGURES {
        assert!(page.contains(name.trim_end_matches("_total")) && page.contains(meaning), "{name}");
    }
    let n_described = page.lines().filter(|line| line.starts_with("# HELP")).count();
    assert_eq!(n_described, super::figures::FIGURES.len());
    let (_, info) = get(&app, "/info", None).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["program"], &info["group_size"]), (&json!("joust"), &json!(3)));
    let (_, models) = get(&app, "/v1/models", None).await;
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!(models["data"][0]["id"], "rule");
}

#[tokio::test]
async fn a_judge_whose_servers_all_rest_is_not_ready() {
    let app = server(Box::new(ScriptedJudge::silent().with_servers(2, 2)), |_| {});
    let (status, body) = get(&app, "/ready", None).await;
    assert_eq!(status, 503);
    assert!(body.contains("all servers of the judge rest"), "{body}");
    let (_, page) = get(&app, "/metrics", None).await;
    assert!(page.contains("joust_server_resting_judges 2\n"), "{page}");
}

#[tokio::test]
async fn a_judge_whose_thread_ended_is_seen_from_outside() {
    let app = server(panicking(), |_| {});
    assert_eq!(get(&app, "/health", None).await.0, 200);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    loop {
        let (status, body) = get(&app, "/health", None).await;
        if status == 503 {
            assert!(body.contains("the judge has stopped"), "{body}");
            break;
        }
        tokio::task::yield_now().await;
    }
    let (status, body) = get(&app, "/ready", None).await;
    assert!(status == 503 && body.contains("the judge has stopped"), "{body}");
    let tasks =
        [" 1", " 2", " 3"].map(|said| spawn(&app, "/get_reward", openrlhf("q?", said, "1")));
    for task in tasks {
        let (status, body) = task.await.unwrap();
        assert!(status == 503 && body["error"].as_str().unwrap().contains("stopped"), "{body}");
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_what_is_collected_and_takes_nothing_new() {
    let running = running(Box::<RuleJudge>::default(), |config| {
        config.cohorts.collect = Duration::from_secs(600);
    });
    let app = running.router();
    assert_eq!(get(&app, "/ready", None).await.0, 200);
    let alone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    until_waiting(&app, 1).await;
    running.close();
    let (status, body) = alone.await.unwrap();
    assert_eq!((status, body["error"].as_str()), (503, Some("the server stops")));
    assert_eq!(get(&app, "/ready", None).await.0, 503);
    assert_eq!(get(&app, "/health", None).await.0, 200);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let late = spawn(&app, "/get_reward", openrlhf("2+2?", " 5", "4"));
    assert_eq!(late.await.unwrap().0, 503);
}

/// A Responses object, as NeMo-Gym has it.
fn said(text: &str) -> Value {
    json!({"id": "resp", "object": "response", "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]})
}

#[tokio::test]
async fn nemo_gym_compares_a_group_and_verifies_members_one_by_one() {
    let app = server(longer(), |_| {});
    let body = json!({
        "conversation_history": [{"role": "user", "content": "Tell me."}],
        "response_objs": [said("a"), said("a longer one"), said("middle")],
    });
    let response = send(&app, "/compare", &[], &body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer = json_of(response).await;
    let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
    assert!(rewards[1] > rewards[2] && rewards[2] > rewards[0], "{rewards:?}");
    let comparisons = answer["comparison_results"].as_array().unwrap();
    assert!(!comparisons.is_empty());
    for row in comparisons {
        let ranking = row["ranking"].as_f64().unwrap();
        let (i, j) = (row["response_i"].as_u64().unwrap(), row["response_j"].as_u64().unwrap());
        let first_won = rewards[i as usize] > rewards[j as usize];
        assert_eq!(ranking, if first_won { 1.0 } else { 6.0 }, "{row}");
        assert_eq!(row["score_1"].as_f64() > row["score_2"].as_f64(), first_won);
    }
    assert!(answer["metrics"]["mean_individual_score"].is_number());

    let member = |at: u64, text: &str| {
        json!({"responses_create_params": {"input": "Tell me."}, "response": said(text),
               "_ng_group_id": 7, "_ng_group_attempt": 1, "_ng_rollout_index": at, "kept": [1]})
    };
    let texts = ["a", "a longer one", "middle"];
    let tasks: Vec<_> =
        (0..).zip(texts).map(|(at, text)| spawn(&app, "/verify", member(at, text))).collect();
    for (task, wanted) in tasks.into_iter().zip(rewards) {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["kept"]), (200, &json!([1])), "the body comes back");
        assert!(answer["_ng_failure_class"].is_null() && answer["mask_sample"].is_null());
        assert!((answer["reward"].as_f64().unwrap() - wanted).abs() < 0.2, "{answer} {wanted}");
    }

    // what is no reward is named as the client names it
    let broken = server(broken(), |_| {});
    let tasks: Vec<_> =
        (0..).zip(texts).map(|(at, text)| spawn(&broken, "/verify", member(at, text))).collect();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["_ng_failure_class"]), (200, &json!("judge_failed")));
        assert!(answer["_ng_failure_judge_error"].as_str().unwrap().contains("no valid vote"));
        // the marks of its later versions, and of NeMo-RL
        assert_eq!(answer["mask_sample"], true);
        assert_eq!(answer["failure_kind"], "judge_failed");
        assert_eq!(answer["failure_reason"], answer["_ng_failure_judge_error"]);
        assert_eq!(answer["instance_config"]["mask_sample"], true);
    }
    let response = send(&broken, "/compare", &[], &body).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn documents_are_ranked_best_first() {
    let app = server(longer(), |_| {});
    let body = json!({"model": "any", "query": "Tell me.", "top_n": 2,
                      "documents": ["a", {"text": "a longer one"}, "middle"]});
    for route in ["/rerank", "/v1/rerank"] {
        let answer = json_of(send(&app, route, &[], &body).await).await;
        let results = answer["results"].as_array().unwrap();
        let order: Vec<u64> = results.iter().map(|row| row["index"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 2], "{answer}");
        assert_eq!(results[0]["document"]["text"], "a longer one");
        assert!(results[0]["relevance_score"].as_f64() > results[1]["relevance_score"].as_f64());
        assert_eq!(answer["model"], "any");
        assert!(answer["usage"]["total_tokens"].as_i64().unwrap() > 0);
    }
    let alone = send(&app, "/rerank", &[], &json!({"query": "q", "documents": ["a"]})).await;
    assert_eq!(alone.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let broken = server(broken(), |_| {});
    assert_eq!(send(&broken, "/rerank", &[], &body).await.status(), 503);
}
