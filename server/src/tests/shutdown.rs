//! `/health`, `/ready` and shutdown.

use super::fixture::*;

#[tokio::test]
async fn ready_answers_503_while_all_judge_servers_rest() {
    let app = server(Box::new(ScriptedJudge::silent().with_servers(2, 2)), |_| {});
    let (status, body) = get(&app, "/ready", None).await;
    assert_eq!(status, 503);
    assert!(body.contains("all servers of the judge rest"), "{body}");
    let (_, page) = get(&app, "/metrics", None).await;
    assert!(page.contains("joust_server_resting_judges 2\n"), "{page}");
}

#[tokio::test]
async fn health_answers_503_once_the_judge_thread_has_ended() {
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
        assert!(
            status == 503 && body["error"]["message"].as_str().unwrap().contains("stopped"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn close_gives_up_open_cohorts_and_refuses_new_groups() {
    let running = running(Box::<RuleJudge>::default(), |config| {
        config.cohorts.collect = Duration::from_secs(600);
    });
    let app = running.router();
    assert_eq!(get(&app, "/ready", None).await.0, 200);
    let alone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    until_waiting(&app, 1).await;
    running.close();
    let (status, body) = alone.await.unwrap();
    assert_eq!((status, body["error"]["message"].as_str()), (503, Some("the server stops")));
    assert_eq!(get(&app, "/ready", None).await.0, 503);
    assert_eq!(get(&app, "/health", None).await.0, 200);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let late = spawn(&app, "/get_reward", openrlhf("2+2?", " 5", "4"));
    assert_eq!(late.await.unwrap().0, 503);
}

/// Requests of every protocol of single completions, to groups of different prompts.
fn one_of_each_protocol(said: &str) -> Vec<(&'static str, Value)> {
    let start = "<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n";
    let output = json!({"output": [{"type": "message", "content": said}]});
    let input = json!({"input": [{"role": "user", "content": "2+2+0?"}]});
    vec![
        ("/get_reward", openrlhf("2+2?", said, "4")),
        ("/remote_rm", json!({"prompt": "2+1?", "response": said})),
        ("/score", json!({"queries": "2+0?", "documents": said})),
        ("/classify", json!({"input": format!("{start}{said}<|im_end|>")})),
        ("/verify", json!({"responses_create_params": input, "response": output})),
    ]
}

#[tokio::test]
async fn close_tells_the_waiting_members_of_every_protocol_to_come_again() {
    let running = running(longer(), |config| config.cohorts.collect = Duration::from_secs(600));
    let app = running.router();
    let sent = one_of_each_protocol(" 4");
    let waiting: Vec<_> = sent
        .iter()
        .map(|(route, body)| {
            let (app, route, body) = (app.clone(), *route, body.clone());
            tokio::spawn(async move { send(&app, route, &[], &body).await })
        })
        .collect();
    until_all_wait(&app, sent.len() as u64).await;
    running.close();
    for (task, (route, _)) in waiting.into_iter().zip(&sent) {
        let response = task.await.unwrap();
        assert_eq!(response.status(), 503, "{route}");
        assert_eq!(response.headers()["retry-after"], "1", "{route}");
    }
}

#[tokio::test]
async fn members_of_a_complete_group_that_finds_the_queue_full_are_told_to_come_again() {
    let app = server(silent(), |config| {
        config.queue_capacity = 1;
        config.cohorts.group_size = 2;
    });
    let held = spawn(&app, "/v1/score_group", group());
    until_open(&app, 1).await;
    let pairs = one_of_each_protocol(" 4").into_iter().zip(one_of_each_protocol(" 5"));
    for ((route, body), (_, other)) in pairs {
        for task in [spawn(&app, route, body), spawn(&app, route, other)] {
            assert_eq!(task.await.unwrap().0, 429, "{route}");
        }
    }
    held.abort();
}
