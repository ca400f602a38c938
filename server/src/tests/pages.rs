//! Requests that a web page may have sent, and seeds that do not fit.

use super::fixture::*;
use joust_reward::judge::RuleJudge;

async fn status_of(app: &Router, headers: &[(&str, &str)]) -> (u16, String) {
    let response = send(app, "/v1/score_group", headers, &group()).await;
    let status = response.status().as_u16();
    (status, json_of(response).await["error"].to_string())
}

#[tokio::test]
async fn server_without_tokens_refuses_requests_of_web_pages() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.host_names = vec!["reward.example.org".to_owned()];
    });
    for (headers, wanted) in [
        (&[("host", "127.0.0.1:8000")][..], 200),
        (&[("host", "localhost:8000"), ("origin", "http://localhost:8000")], 200),
        (&[("host", "reward.example.org"), ("origin", "https://reward.example.org")], 200),
        (&[("host", "evil.example")], 403),
        (&[("host", "evil.example"), ("origin", "http://evil.example")], 403),
        (&[("host", "127.0.0.1:8000"), ("origin", "https://evil.example")], 403),
        (&[("host", "127.0.0.1:8000"), ("content-type", "text/plain")], 415),
    ] {
        let (status, error) = status_of(&app, headers).await;
        assert_eq!(status, wanted, "{headers:?}: {error}");
        assert!(status != 403 || error.contains("serve.host_names"), "{error}");
    }
    // probes come under any name
    let probe = Request::get("/health").header("host", "10-0-0-1.pods.example");
    let response = app.clone().oneshot(probe.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn server_with_tokens_takes_them_from_any_page() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.tokens = vec![BearerToken::parse("secret").unwrap()];
    });
    let page = [("host", "joust.example"), ("origin", "https://lab.example")];
    let with_token = [&page[..], &[("authorization", "Bearer secret")]].concat();
    assert_eq!(status_of(&app, &page).await.0, 401);
    assert_eq!(status_of(&app, &with_token).await.0, 200);
}

#[tokio::test]
async fn seeds_that_do_not_fit_are_named() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    for seed in ["18446744073709551616", "-1", "1.5", "\"7\""] {
        let body = format!(r#"{{"prompt": "q", "completions": ["a", "b"], "seed": {seed}}}"#);
        let response = post(&app, &body).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let error = json_of(response).await["error"].to_string();
        assert!(error.contains("wanted a whole number of 0 to 18446744073709551615"), "{error}");
    }
    for seed in ["null", "18446744073709551615"] {
        let body = format!(
            r#"{{"prompt": "q", "completions": ["a", "b"], "answer": "a", "seed": {seed}}}"#
        );
        assert_eq!(post(&app, &body).await.status(), StatusCode::OK, "{seed}");
    }
}
