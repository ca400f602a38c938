//! Requests of a size that would stop a server: refused before anything is built of them.

use futures_util::stream;

use super::fixture::*;
use joust_reward::RewardKind;
use joust_reward::judge::RuleJudge;

#[tokio::test]
async fn group_with_too_many_votes_or_too_much_text_is_refused() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let texts = |n: usize, size: usize| -> Vec<String> {
        (0..n).map(|number| format!("{number} {}", "x".repeat(size))).collect()
    };
    let ask = async |route: &str, completions: Vec<String>, votes: Value| {
        let body = json!({"prompt": "q", "completions": completions, "answer": "0",
            "tournament": "round_robin", "votes": votes});
        let response = send(&app, route, &[], &body).await;
        (response.status().as_u16(), json_of(response).await["error"].to_string())
    };
    let many = json!({"max": 1024, "stop": "never"});
    for route in ["/v1/score_group", "/v1/jobs"] {
        let (status, error) = ask(route, texts(160, 10), many.clone()).await;
        assert_eq!(status, 422, "{error}");
        assert!(error.contains("12720 matches with up to 13025280 votes"), "{error}");
        let (status, error) = ask(route, texts(100, 100_000), json!(51)).await;
        assert_eq!(status, 422, "{error}");
        assert!(error.contains("MiB, and 4096 are the limit"), "{error}");
    }
    let (status, error) = ask("/v1/score_group", texts(20, 10), json!(3)).await;
    assert_eq!(status, 200, "{error}");
}

#[tokio::test]
async fn groups_without_matches_have_no_limit_of_votes() {
    let config = RewardConfig { kind: RewardKind::Correct, ..RewardConfig::default() };
    let scorer = Scorer::with_judge(&config, None, true);
    let app = Server::new(ScorerHandle::spawn(scorer, plain_config()).unwrap().0).router();
    let completions: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let body = json!({"prompt": "q", "completions": completions, "answer": "7",
        "tournament": "round_robin"});
    assert_eq!(post(&app, &body.to_string()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_of_many_values_are_refused() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let values = format!("{{\"x\": [{}[]]}}", "[],".repeat(9 << 20));
    for route in ["/verify", "/v1/score_group"] {
        let request = Request::post(route).body(Body::from(values.clone())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE, "{route}");
    }
}

#[tokio::test]
async fn bodies_that_are_read_at_once_take_a_bounded_memory() {
    let app = server(Box::<RuleJudge>::default(), |config| config.max_body_memory = 1 << 20);
    // a body that stops half way holds its share
    let (pieces, receive) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let body = Body::from_stream(stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, std::io::Error>(receive.recv().await?), receive))
    }));
    let slow = tokio::spawn({
        let app = app.clone();
        async move {
            let request = Request::post("/v1/score_group").body(body).unwrap();
            app.oneshot(request).await.unwrap().status()
        }
    });
    let text = format!("{{\"prompt\": \"q\", \"completions\": [\"{}", "a".repeat(1 << 20));
    pieces.send(text.into_bytes()).unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let response = post(&app, &group().to_string()).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let error = json_of(response).await["error"].to_string();
            assert!(error.contains("serve.body_mib"), "{error}");
            break;
        }
        assert!(std::time::Instant::now() < end, "the share is never taken");
        tokio::task::yield_now().await;
    }
    drop(pieces);
    assert_eq!(slow.await.unwrap(), StatusCode::BAD_REQUEST, "the text breaks off");
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn idle_streams_end() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let body = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post("/v1/score_groups").header("content-type", "application/x-ndjson");
    let response = app.oneshot(request.body(body).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let end = json_of(response).await;
    assert_eq!(end["status"], 408, "{end}");
}
