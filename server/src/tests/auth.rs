//! Tokens: which routes require one.

use super::fixture::*;

#[tokio::test]
async fn tokens_are_required_on_all_routes_but_probes() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.tokens = ["first", "second"].map(|text| BearerToken::parse(text).unwrap()).into();
    });
    for route in ["/health", "/ready"] {
        assert_eq!(get(&app, route, None).await.0, 200, "{route}");
    }
    for route in ["/metrics", "/info", "/v1/models", "/nothing"] {
        for token in [None, Some(""), Some("firs"), Some("first "), Some("third")] {
            let (status, body) = get(&app, route, token).await;
            assert_eq!(status, 401, "{route} {token:?}");
            assert!(!body.contains("second"), "{body}");
        }
    }
    assert_eq!(get(&app, "/info", Some("second")).await.0, 200);
    assert_eq!(get(&app, "/nothing", Some("first")).await.0, 404);
    assert_eq!(post(&app, &group().to_string()).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_are_not_required_for_the_page_but_for_its_requests() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.tokens = vec![BearerToken::parse("t").unwrap()]
    });
    for (path, status) in [("/docs/", 200), ("/openapi.json", 200), ("/info", 401), ("/docsx", 401)]
    {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let get = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let described = json_of(app.oneshot(get).await.unwrap()).await;
    assert_eq!(described["paths"]["/v1/score_group"]["post"]["security"], json!([{"token": []}]));
}
