//! Tenants: groups, jobs and results of different tokens never meet, nor block each other's names.

use super::fixture::*;
use joust_reward::judge::RuleJudge;

fn tenants(config: &mut ServerConfig) {
    config.tokens = ["alice a-token", "bob b-token", "alice a-other"]
        .map(|text| BearerToken::parse(text).unwrap())
        .into();
}

/// Sends a completion of one group in a task of its own.
fn spawn_as(
    app: &Router,
    token: &'static str,
    headers: &'static [(&'static str, &'static str)],
    said: &'static str,
) -> tokio::task::JoinHandle<(u16, Value)> {
    let app = app.clone();
    tokio::spawn(async move {
        let authorization = format!("Bearer {token}");
        let headers = [&[("authorization", &authorization[..])], headers].concat();
        let response = send(&app, "/get_reward", &headers, &openrlhf("2+2?", said, "4")).await;
        (response.status().as_u16(), json_of(response).await)
    })
}

#[tokio::test]
async fn groups_of_different_tenants_never_meet() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        tenants(config);
        config.cohorts.group_size = 2;
    });
    // the same prompt, with and without the same names: alice is right once, bob never
    let named: &[(&str, &str)] = &[("x-joust-group", "17")];
    for headers in [&[], named] {
        let rewards = [("a-token", " 4"), ("b-token", " 5"), ("a-other", " 7"), ("b-token", " 6")];
        let tasks = rewards.map(|(token, said)| spawn_as(&app, token, headers, said));
        let mut rewards = Vec::new();
        for task in tasks {
            let (status, answer) = task.await.unwrap();
            assert_eq!(status, 200, "{answer}");
            rewards.push(answer["rewards"][0].as_f64().unwrap());
        }
        assert!(rewards[0] > 0.5 && rewards[2] < 0.5, "{rewards:?}");
        assert!((rewards[1] + rewards[3] - 1.0).abs() < 1e-9, "{rewards:?}");
    }
    // the same name for another question
    let (a, b) = (openrlhf("1+1?", " 2", "2"), openrlhf("3+3?", " 6", "6"));
    let ask = async |token: &str, body: &Value, member: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [
            ("authorization", &authorization[..]),
            ("x-joust-group", "18"),
            ("x-joust-member", member),
        ];
        send(&app, "/get_reward", &headers, body).await.status().as_u16()
    };
    let answers = tokio::join!(
        ask("a-token", &a, "0"),
        ask("b-token", &b, "0"),
        ask("a-token", &a, "1"),
        ask("b-token", &b, "1")
    );
    assert_eq!(answers, (200, 200, 200, 200));
}

#[tokio::test]
async fn jobs_of_other_tenants_are_neither_shown_nor_in_the_way() {
    let app = server(silent(), tenants);
    let request = async |method: &str, token: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        (status, if path.ends_with("events") { Value::Null } else { json_of(response).await })
    };
    let accept = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let response = send(&app, "/v1/jobs", &[("authorization", &authorization)], &group()).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        format!("/v1/jobs/{}", json_of(response).await["job_id"].as_str().unwrap())
    };
    let (alice, bob) = (accept("a-token").await, accept("b-token").await);
    assert_ne!(alice, bob);
    for (method, path) in
        [("GET", alice.clone()), ("DELETE", alice.clone()), ("GET", format!("{alice}/events"))]
    {
        let (status, body) = request(method, "b-token", &path).await;
        assert_eq!(status, 404, "{method} {path}: {body}");
    }
    // the other token of the same tenant is the same client
    assert_eq!(request("GET", "a-other", &alice).await.0, 200);
    let (status, body) = request("DELETE", "a-other", &alice).await;
    assert_eq!(
        (status, &body["status"]),
        (200, &json!("cancelled")),
        "bob's job is in nobody's way"
    );
    assert_eq!(request("GET", "b-token", &bob).await.0, 200);
}

#[tokio::test]
async fn results_of_other_tenants_are_not_shown_as_jobs_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let start = |dump: &Path| {
        server(Box::<RuleJudge>::default(), |config| {
            tenants(config);
            config.dump = Some(dump_into(dump, 100));
        })
    };
    let app = start(&dump);
    let response = send(&app, "/v1/jobs", &[("authorization", "Bearer a-token")], &group()).await;
    let job = json_of(response).await["job_id"].as_str().unwrap().to_owned();
    let place = format!("/v1/jobs/{job}");
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while !get(&app, &place, Some("a-token")).await.1.contains("\"done\"") {
        assert!(std::time::Instant::now() < end);
        tokio::task::yield_now().await;
    }
    let copy = tempfile::tempdir().unwrap();
    let name = "journal_00000.jsonl";
    std::fs::copy(dump.join(name), copy.path().join(name)).unwrap();
    let app = start(copy.path());
    assert_eq!(get(&app, &place, Some("b-token")).await.0, 404);
    assert_eq!(get(&app, &place, Some("a-token")).await.0, 200);
}

#[tokio::test]
async fn client_names_of_any_length_are_refused() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let name = "n".repeat(201);
    let response = send(&app, "/v1/score_group", &[("x-joust-client", &name)], &group()).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}
