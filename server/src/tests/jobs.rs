//! `/v1/jobs`: jobs that are accepted, shown, cancelled and resumed.

use super::fixture::*;
use crate::dump::journal;

async fn get(app: &Router, path: &str) -> Response<Body> {
    app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn jobs_are_accepted_shown_and_done() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let response = send(&app, "/v1/jobs", &[], &group()).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let place = response.headers()["location"].to_str().unwrap().to_owned();
    let job = json_of(response).await;
    assert_eq!(place, format!("/v1/jobs/{}", job["job_id"].as_str().unwrap()));
    // the stream of events ends with the job
    let events = get(&app, &format!("{place}/events")).await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let events = axum::body::to_bytes(events.into_body(), usize::MAX).await.unwrap();
    let events = String::from_utf8(events.to_vec()).unwrap();
    let last = events.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: done\ndata: {"), "{events}");
    let done = json_of(get(&app, &format!("{place}?traces=true")).await).await;
    assert_eq!(done["status"], "done");
    assert_eq!(done["result"]["traces"].as_array().unwrap().len(), 6);
    let scored = json_of(post(&app, &group().to_string()).await).await;
    assert_eq!(done["result"]["rewards"], scored["rewards"]);
    for missing in ["/v1/jobs/00000000000000000000000000000000", "/v1/jobs/x", "/v1/jobs/x/events"]
    {
        assert_eq!(get(&app, missing).await.status(), StatusCode::NOT_FOUND, "{missing}");
    }
}

#[tokio::test]
async fn jobs_are_cancelled_only_while_no_other_request_wants_the_group() {
    let app = server(silent(), |config| config.queue_capacity = 1);
    let job = json_of(send(&app, "/v1/jobs", &[], &group()).await).await;
    let place = format!("/v1/jobs/{}", job["job_id"].as_str().unwrap());
    let waiting = tokio::spawn({
        let app = app.clone();
        async move { post(&app, &group().to_string()).await.status() }
    });
    let delete = async || {
        let delete = Request::delete(&place).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(delete).await.unwrap();
        (response.status(), json_of(response).await)
    };
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let job = json_of(get(&app, &place).await).await;
        if job["status"] == "running" {
            assert_eq!(job["progress"], json!({"matches_over": 0, "matches_begun": 6, "votes": 0}));
            break;
        }
        assert!(std::time::Instant::now() < end, "{job}");
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let (status, body) = delete().await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("others want"), "{body}");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // a job of another client for the same group
    let other = [("x-joust-client", "b")];
    assert_eq!(send(&app, "/v1/jobs", &other, &group()).await.status(), StatusCode::ACCEPTED);
    assert_eq!(delete().await.0, StatusCode::CONFLICT);
    let theirs = Request::delete(&place).header("x-joust-client", "b").body(Body::empty()).unwrap();
    let response = app.clone().oneshot(theirs).await.unwrap();
    let (status, body) = (response.status(), json_of(response).await);
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("cancelled")));
    // the queue has room again
    let mut other = group();
    other["prompt"] = json!("3+1?");
    assert_eq!(send(&app, "/v1/jobs", &[], &other).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn jobs_accepted_before_a_kill_are_judged_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let app = server(silent(), |config| config.dump = Some(dump_into(&dump, 1)));
    let job = json_of(send(&app, "/v1/jobs", &[], &group()).await).await;
    let copy = tempfile::tempdir().unwrap();
    let name = "journal_00000.jsonl";
    std::fs::copy(dump.join(name), copy.path().join(name)).unwrap();
    let dump = copy.path().to_owned();
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.dump = Some(DumpConfig { keep_bytes: 1, ..dump_into(&dump, 1) });
    });
    let place = format!("/v1/jobs/{}/events", job["job_id"].as_str().unwrap());
    let events =
        axum::body::to_bytes(get(&app, &place).await.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&events).contains("event: done"), "{events:?}");
    // the segment with the open job expires with the segment of its result: the job must not return
    let end = std::time::Instant::now() + Duration::from_secs(30);
    let open = || journal::segments(&dump).unwrap().iter().map(|it| it.number).collect::<Vec<_>>();
    while open() != [2] {
        assert!(std::time::Instant::now() < end, "{:?}", open());
        std::thread::yield_now();
    }
}
