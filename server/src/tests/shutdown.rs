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
        assert!(status == 503 && body["error"].as_str().unwrap().contains("stopped"), "{body}");
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
    assert_eq!((status, body["error"].as_str()), (503, Some("the server stops")));
    assert_eq!(get(&app, "/ready", None).await.0, 503);
    assert_eq!(get(&app, "/health", None).await.0, 200);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let late = spawn(&app, "/get_reward", openrlhf("2+2?", " 5", "4"));
    assert_eq!(late.await.unwrap().0, 503);
}
