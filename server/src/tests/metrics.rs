//! `/metrics`, `/info` and `/v1/models`; probes.

use super::fixture::*;

#[tokio::test]
async fn metrics_count_answers_and_judged_groups() {
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
    // the page has exactly the metrics of the table
    for (name, meaning) in crate::metrics::METRICS {
        assert!(page.contains(name.trim_end_matches("_total")) && page.contains(meaning), "{name}");
    }
    let n_described = page.lines().filter(|line| line.starts_with("# HELP")).count();
    assert_eq!(n_described, crate::metrics::METRICS.len());
    let (_, info) = get(&app, "/info", None).await;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["program"], &info["group_size"]), (&json!("joust"), &json!(3)));
    let (_, models) = get(&app, "/v1/models", None).await;
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!(models["data"][0]["id"], "rule");
}

#[tokio::test(start_paused = true)]
async fn metrics_count_groups_whose_clients_have_gone_for_good() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.cohorts.collect = Duration::from_secs(100);
        config.cohorts.retry = Duration::from_secs(30);
    });
    let request = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    until_waiting(&app, 1).await;
    request.abort();
    for (seconds, n_forgotten) in [(20, 0), (20, 1)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (_, page) = get(&app, "/metrics", None).await;
        let line = format!("joust_server_forgotten_groups_total {n_forgotten}");
        assert!(page.lines().any(|seen| seen == line), "{line} is not in\n{page}");
    }
}

#[test]
fn probes_are_answered_while_no_request_is_worked_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // nobody drives this one, as if all its threads were busy
    let workers = runtime();
    let app = {
        let _inside = workers.enter();
        server(Box::<RuleJudge>::default(), |_| {})
    };
    runtime().block_on(async {
        let stuck = tokio::spawn({
            let app = app.clone();
            async move { get(&app, "/info", None).await }
        });
        for path in ["/health", "/ready", "/metrics"] {
            assert_eq!(get(&app, path, None).await.0, 200, "{path}");
        }
        assert!(!stuck.is_finished(), "/info is no probe");
        stuck.abort();
    });
}
