//! A server without a socket, scripted judges, and requests to it.

pub(super) use crate::cohort::terms::{CohortConfig, Incomplete};
pub(super) use crate::{
    BearerToken, ConnectionEnd, DumpConfig, ScorerHandle, Server, ServerConfig,
};
pub(super) use axum::Router;
pub(super) use axum::body::Body;
pub(super) use axum::http::{Request, Response, StatusCode};
pub(super) use joust_reward::RewardConfig;
pub(super) use joust_reward::Scorer;
pub(super) use joust_reward::judge::{Judge, RuleJudge, ScriptedJudge};
pub(super) use joust_schema::seed::Seed;
pub(super) use joust_schema::tables::Verdict;
pub(super) use serde_json::{Value, json};
pub(super) use std::collections::{BTreeMap, BTreeSet};
pub(super) use std::path::Path;
pub(super) use std::time::Duration;
pub(super) use tower::ServiceExt as _;

/// A judge whose every vote fails.
pub(super) fn broken() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::failing("out of memory").named("broken"))
}

/// A judge that never replies.
pub(crate) fn silent() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::silent())
}

/// A judge whose thread panics at the first vote.
pub(super) fn panicking() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::new(|_| panic!("the GPU fell off the bus")))
}

/// A judge that prefers the longer answer, for protocols without a known answer.
pub(super) fn longer() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::of_verdicts(|vote| {
        let is_first = vote.answer_first.len() > vote.answer_second.len();
        Ok(if is_first { Verdict::First } else { Verdict::Second })
    }))
}

pub(crate) fn dump_into(dir: &Path, every_groups: usize) -> DumpConfig {
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

pub(crate) fn plain_config() -> ServerConfig {
    ServerConfig {
        queue_capacity: 8,
        queue_tokens: 0,
        timeout: Duration::from_secs(30),
        keep_bytes: 1 << 20,
        max_body_memory: 1 << 30,
        host_names: Vec::new(),
        dump: None,
        seed: 0,
        tokens: Vec::new(),
        cohorts: CohortConfig {
            group_size: 3,
            collect: Duration::from_secs(10),
            settle: Duration::from_millis(10),
            retry: Duration::from_secs(30),
            keep: Duration::from_secs(60),
            incomplete: Incomplete::Fail,
            max_open: 8,
            max_bytes: 1 << 20,
        },
    }
}

/// The rows of a table of a set; waits until another thread has written the set.
pub(super) fn rows_of<T: joust_schema::table::Table>(dir: &Path, set: usize) -> Vec<T> {
    let set = dir.join(format!("set_{set:05}"));
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !set.exists() {
        assert!(std::time::Instant::now() < end, "{} was not written", set.display());
        std::thread::yield_now();
    }
    joust_schema::parquet::read(&set.join(format!("{}.parquet", T::NAME))).unwrap()
}

pub(super) fn running(judge: Box<dyn Judge>, change: impl FnOnce(&mut ServerConfig)) -> Server {
    let scorer = Scorer::with_judge(&RewardConfig::default(), Some(judge), true);
    let mut config = plain_config();
    change(&mut config);
    Server::new(ScorerHandle::spawn(scorer, config).unwrap().0)
}

pub(super) fn server(judge: Box<dyn Judge>, change: impl FnOnce(&mut ServerConfig)) -> Router {
    running(judge, change).router()
}

pub(super) async fn post(app: &Router, body: &str) -> Response<Body> {
    let request = Request::post("/v1/score_group").body(Body::from(body.to_owned())).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

pub(super) async fn json_of(response: Response<Body>) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

pub(super) fn group() -> Value {
    json!({"prompt": "2+2?", "completions": ["4", "5", "It is 4.", "22"], "answer": 4, "seed": 1,
           "tournament": "round_robin", "group_id": "g/1"})
}

/// Sends a body to a route, with headers.
pub(super) async fn send(
    app: &Router,
    route: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Response<Body> {
    let mut request = Request::post(route);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

/// Body of OpenRLHF for one completion.
pub(super) fn openrlhf(prompt: &str, completion: &str, label: &str) -> Value {
    json!({"query": [format!("{prompt}{completion}</s>")], "prompts": [prompt], "labels": [label]})
}

/// Sends a request in a task of its own.
pub(super) fn spawn(
    app: &Router,
    route: &'static str,
    body: Value,
) -> tokio::task::JoinHandle<(u16, Value)> {
    let app = app.clone();
    tokio::spawn(async move {
        let response = send(&app, route, &[], &body).await;
        (response.status().as_u16(), json_of(response).await)
    })
}

/// Waits until `wanted` completions wait for their group.
pub(super) async fn until_waiting(app: &Router, wanted: u64) {
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

/// The result of work that ends soon.
pub(super) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it takes too long")
}

/// Waits until the bodies that are read take as much memory as wanted.
pub(super) async fn until_body_bytes(server: &Server, is_wanted: impl Fn(usize) -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !is_wanted(server.state.bodies.n_bytes()) {
        let seen = server.state.bodies.n_bytes();
        assert!(std::time::Instant::now() < end, "the bodies take {seen} bytes");
        tokio::task::yield_now().await;
    }
}

/// Waits until `key` of `/health` is `wanted`.
async fn until_health(app: &Router, key: &str, wanted: u64) {
    let health = || Request::get("/health").body(Body::empty()).unwrap();
    while json_of(app.clone().oneshot(health()).await.unwrap()).await[key] != wanted {
        tokio::task::yield_now().await;
    }
}

/// Waits until `wanted` completions wait, in any number of groups.
pub(super) async fn until_all_wait(app: &Router, wanted: u64) {
    until_health(app, "waiting_completions", wanted).await;
}

/// Waits until the judge has `wanted` groups.
pub(super) async fn until_open(app: &Router, wanted: u64) {
    until_health(app, "open_groups", wanted).await;
}

pub(super) async fn get(app: &Router, route: &str, token: Option<&str>) -> (u16, String) {
    let mut request = Request::get(route);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
