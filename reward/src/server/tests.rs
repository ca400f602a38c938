//! The routes as a client sees them, without sockets.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{ScorerHandle, ServerConfig, router};
use crate::config::RewardConfig;
use crate::judge::{Judge, JudgeError, RuleJudge, VoteId, VoteOutcome, VoteRequest};
use crate::scorer::Scorer;

/// A judge that gives no verdict, ever.
struct Broken(Vec<VoteOutcome>);

impl Judge for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn submit(&mut self, request: VoteRequest) {
        self.0.push((request.id, Err(JudgeError::Failed("out of memory".to_owned()))));
    }

    fn cancel(&mut self, _id: VoteId) {}

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.0)
    }
}

/// A judge that never answers.
struct Silent;

impl Judge for Silent {
    fn name(&self) -> &str {
        "silent"
    }

    fn submit(&mut self, _request: VoteRequest) {}

    fn cancel(&mut self, _id: VoteId) {}

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::thread::yield_now();
        Vec::new()
    }
}

fn server(judge: Box<dyn Judge>, change: impl FnOnce(&mut ServerConfig)) -> Router {
    let scorer = Scorer::with_judge(&RewardConfig::default(), Some(judge), true);
    let mut config = ServerConfig {
        queue_capacity: 8,
        timeout: Duration::from_secs(30),
        dump: None,
        dump_every: 1,
        seed: 0,
    };
    change(&mut config);
    router(ScorerHandle::spawn(scorer, config).unwrap().0)
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
    let app = server(Box::<RuleJudge>::default(), |config| config.dump = Some(dump.clone()));
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
    let matches: Vec<joust_schema::tables::Match> =
        joust_schema::parquet::read(&dump.join("set_00000/matches.parquet")).unwrap();
    assert_eq!(matches[0].group_id.0, "g/1");
    assert!(matches[0].match_id.0.starts_with("g/1/1-"), "{}", matches[0].match_id);
}

#[tokio::test]
async fn members_may_be_permuted_and_chats_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let change = |config: &mut ServerConfig| {
        config.dump = Some(dump.clone());
        config.dump_every = 3;
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
    let matches: Vec<joust_schema::tables::Match> =
        joust_schema::parquet::read(&dump.join("set_00000/matches.parquet")).unwrap();
    let ids: std::collections::BTreeSet<_> = matches.iter().map(|row| &row.match_id).collect();
    assert_eq!(ids.len(), matches.len(), "match ids are unique within the file");
}

#[tokio::test]
async fn bad_bodies_are_named() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let cases = [
        ("{", 400, "invalid JSON"),
        ("[]", 422, "invalid"),
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
    let app = server(Box::new(Broken(Vec::new())), |_| {});
    let response = post(&app, &group().to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = json_of(response).await;
    assert_eq!(body["rewards"], json!([null, null, null, null]));
    assert_eq!(body["statuses"][3], "judge_failed");
    assert!(body["error"].to_string().contains("out of memory"));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_late_result_are_told_apart() {
    let app = server(Box::new(Silent), |config| config.queue_capacity = 1);
    let first = tokio::spawn({
        let app = app.clone();
        async move { post(&app, &group().to_string()).await.status() }
    });
    tokio::task::yield_now().await;
    let second = post(&app, &group().to_string()).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_eq!(first.await.unwrap(), StatusCode::GATEWAY_TIMEOUT);
}
