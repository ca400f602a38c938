//! `/v1/score_group`, and the limits of every body.

use super::fixture::*;

#[tokio::test]
async fn score_group_scores_and_dumps_a_group() {
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
async fn score_group_permutes_rewards_with_members_and_reads_chats() {
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
async fn score_group_names_what_is_wrong_with_a_body() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let cases = [
        ("{", 400, "invalid JSON"),
        ("[]", 422, "wanted an object"),
        (r#"{"completions": ["a"]}"#, 422, "prompt is missing"),
        (r#"{"prompt": "", "completions": ["a"]}"#, 422, "prompt is empty"),
        (r#"{"prompt": "a", "completions": []}"#, 422, "completions is empty"),
        (r#"{"prompt": "a", "completions": ["b"], "votes": 0}"#, 422, "votes is 0"),
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
async fn score_group_answers_503_for_a_failed_judge() {
    let app = server(broken(), |_| {});
    let response = post(&app, &group().to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = json_of(response).await;
    assert_eq!(body["rewards"], json!([null, null, null, null]));
    assert_eq!(body["statuses"][3], "judge_failed");
    assert!(body["error"].to_string().contains("out of memory"));
}

#[tokio::test]
async fn score_group_rerank_and_remote_rm_answer_422_for_what_the_judge_refuses() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let unknown = json!({"prompt": "2+2?", "completions": ["4", "5"]});
    let response = post(&app, &unknown.to_string()).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let answer = json_of(response).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("no known answer"), "{answer}");
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
        assert!(
            answer["error"]["message"].as_str().unwrap().contains("no known answer"),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn score_group_answers_429_for_a_full_queue_and_504_for_a_late_result() {
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

#[tokio::test]
async fn score_group_refuses_bodies_too_large_too_deep_or_not_text() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let ask = |body: Body| {
        let app = app.clone();
        async move {
            let request = Request::post("/v1/score_group").body(body).unwrap();
            let response = app.oneshot(request).await.unwrap();
            (response.status().as_u16(), json_of(response).await["error"].to_string())
        }
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"prompt": "a", "completions": {deep}}}"#);
    let (status, reason) = ask(Body::from(deep)).await;
    assert!(matches!(status, 400 | 422), "{status} {reason}");
    let (status, reason) = ask(Body::from(&b"{\"prompt\": \"\xff\xfe\"}"[..])).await;
    assert_eq!(status, 400, "{reason}");
    let (status, reason) = ask(Body::from(vec![b' '; (64 << 20) + 1])).await;
    assert_eq!(status, 413, "{reason}");
    assert!(reason.contains("larger than 64 MiB"), "{reason}");
    // a body without a content length
    let pieces = (0..65).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
    let (status, _) = ask(Body::from_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!(status, 413);
    let many: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let (status, reason) =
        ask(Body::from(json!({"prompt": "a", "completions": many}).to_string())).await;
    assert_eq!(status, 422);
    assert!(reason.contains("2000 entries, wanted at most 1024"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn score_group_answers_408_for_a_body_that_never_ends() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let stream = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::post("/v1/score_group").body(Body::from_stream(stream)).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}
