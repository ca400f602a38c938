//! Bodies in other encodings, with a byte order mark, and with nulls.

use super::fixture::*;

#[tokio::test]
async fn encoded_bodies_are_refused_with_415_and_the_encodings_that_are_read() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    for route in ["/v1/score_group", "/v1/score_groups", "/verify", "/get_reward"] {
        for (encoding, status) in [("gzip", 415), ("br, gzip", 415), ("identity", 200), ("", 200)] {
            let headers =
                [("content-encoding", encoding), ("content-type", "application/x-ndjson")];
            let response = send(&app, route, &headers, &group()).await;
            if status == 415 {
                assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{route}");
                assert_eq!(response.headers()["accept-encoding"], "identity");
                let error = json_of(response).await["error"].clone();
                assert_eq!(error["code"], "unsupported_encoding");
                assert!(error["message"].as_str().unwrap().contains(encoding), "{error}");
            } else {
                assert_ne!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{route}");
            }
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_and_nulls_are_read() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let mut nulls = group();
    for key in ["traces", "votes", "rounds", "messages"] {
        nulls[key] = Value::Null;
    }
    for body in [format!("\u{feff}{}", group()), nulls.to_string()] {
        assert_eq!(post(&app, &body).await.status(), StatusCode::OK, "{body}");
    }
    nulls["answer"] = Value::Null;
    let response = post(&app, &nulls.to_string()).await;
    assert!(json_of(response).await["error"].to_string().contains("no known answer"));
}

#[tokio::test]
async fn known_answers_keep_every_digit() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let number = "36893488147419103233";
    let said = format!(r#"["36893488147419103232", "{number}"]"#);
    let body = format!(r#"{{"prompt": "x", "completions": {said}, "answer": {number}}}"#);
    let answer = json_of(post(&app, &body).await).await;
    assert_eq!(answer["winner"], 1, "{answer}");
}

#[tokio::test]
async fn known_answers_have_the_forms_of_data_files() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    for (answer, right) in [
        (r#"["7", "seven"]"#, "seven"),
        ("[7, 36893488147419103233]", "36893488147419103233"),
        ("[7]", "7"),
        ("true", "true"),
    ] {
        let body = format!(
            r#"{{"prompt": {answer:?}, "completions": ["8", "{right}"], "answer": {answer}}}"#
        );
        let judged = json_of(post(&app, &body).await).await;
        assert_eq!(judged["winner"], 1, "{answer}: {judged}");
    }
    for (answer, wanted) in
        [(r#"{"a": 7}"#, "answer is neither"), ("[[7]]", "answer is neither"), ("[]", "no known")]
    {
        let body =
            format!(r#"{{"prompt": {answer:?}, "completions": ["8", "7"], "answer": {answer}}}"#);
        let told = json_of(post(&app, &body).await).await["error"].to_string();
        assert!(told.contains(wanted), "{answer}: {told}");
    }
}
