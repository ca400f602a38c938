//! Answers over a socket in forms that no client library makes, what a call sends, and how failures
//! are told.

use axum::body::Body;

use super::mock::raw;
use super::*;

const RIGHT: &str = r#"{"choices": [{"index": 0, "message": {"content": "\\boxed{Assistant 1}",
    "reasoning": "a", "reasoning": "b", "reasoning_content": "b"}, "finish_reason": "stop",
    "logprob": NaN}], "usage": null}"#;

/// The failure of a vote after two tries; a connection that breaks off is not waited for.
fn failure(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> String {
    let settings = |http: &mut HttpJudgeConfig| (http.tries, http.outage_s) = (2, 0.0);
    let server = mock(move |_, _| std::future::ready(answer()));
    let outcomes = all_votes(&mut judge(vec![server.url.clone()], settings), 1);
    let Err(JudgeError::Failed(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 2, "{reason}");
    reason.clone()
}

#[test]
fn http_answer_with_repeated_keys_and_odd_numbers_is_read() {
    for body in [RIGHT.to_owned(), format!("\n\n  {RIGHT}"), format!("\u{feff}{RIGHT}")] {
        let server = mock(move |_, _| std::future::ready(raw(body.clone())));
        let mut judge = judge(vec![server.url.clone()], |_| {});
        let reply = all_votes(&mut judge, 1).remove(0).1.unwrap();
        assert_eq!(reply.verdict, Verdict::First);
        assert_eq!(reply.text, "<think>\nb\n</think>\n\n\\boxed{Assistant 1}");
    }
}

#[test]
fn http_failure_tells_the_field_or_the_cause() {
    for (body, wanted) in [
        (
            "<html>Please log in</html>",
            "the answer is no JSON: expected value at line 1 column 1; it begins \"<html>Please",
        ),
        (
            "{\"choices\": [{\"message\": {\"content\": 4}}]}",
            "choices[0].message.content is a number",
        ),
        ("{\"choices\": null}", "choices is missing or null, wanted a list"),
        ("{\"error\": {\"message\": \"busy\"}}", "an error in place of an answer: busy"),
    ] {
        let reason = failure(move || raw(body));
        assert!(reason.contains(wanted), "{reason}");
        assert!(reason.starts_with("no vote after 2 calls; http://127.0.0.1"), "{reason}");
    }
    let encoded = || ([("content-encoding", "gzip")], "x").into_response();
    assert!(failure(encoded).contains("the answer is encoded (\"gzip\")"));
}

#[test]
fn http_error_in_a_successful_response_is_final_if_it_names_the_request() {
    let body = r#"{"object": "error", "message": "context too long", "code": 400}"#;
    let server = mock(move |_, _| std::future::ready(raw(body)));
    let outcomes = all_votes(&mut judge(vec![server.url.clone()], |_| {}), 1);
    let Err(JudgeError::Refused(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(reason.ends_with("context too long (400)"), "{reason}");
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 1);
}

#[test]
fn http_error_body_of_openai_is_read_as_its_message() {
    let body = r#"{"error": {"message": "max_tokens is too large", "type": "BadRequestError"}}"#;
    let server =
        mock(move |_, _| std::future::ready((StatusCode::BAD_REQUEST, body).into_response()));
    let outcomes = all_votes(&mut judge(vec![server.url.clone()], |_| {}), 1);
    let Err(JudgeError::Refused(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(reason.ends_with("400 Bad Request max_tokens is too large"), "{reason}");
}

#[test]
fn http_answer_that_is_too_long_or_never_ends_fails_in_time_and_memory() {
    let spaces =
        || futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
    let reason = failure(move || Body::from_stream(spaces()).into_response());
    assert!(reason.contains("the answer is longer than 64 MiB"), "{reason}");

    let trickle = || {
        let steps = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(" "), ()))
        });
        Body::from_stream(steps).into_response()
    };
    let server = mock(move |_, _| std::future::ready(trickle()));
    let mut judge = judge(vec![server.url.clone()], |http| {
        (http.tries, http.timeout_s) = (1, 0.3);
    });
    let outcomes = all_votes(&mut judge, 1);
    let Err(JudgeError::Failed(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(reason.contains("timed out"), "{reason}");
}

#[test]
fn http_vote_that_is_cut_off_says_so() {
    let server = mock(|number, _| async move {
        let reason = if number == 0 { "length" } else { "stop" };
        axum::Json(json!({
            "choices": [
                {"message": {"content": null, "reasoning": "and"}, "finish_reason": reason},
            ],
            "usage": {"prompt_tokens": 130, "completion_tokens": 165},
        }))
        .into_response()
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.concurrency = 1);
    let outcomes = all_votes(&mut judge, 2);
    let replies = outcomes.into_iter().map(|(_, outcome)| outcome.unwrap());
    let mut cut_off: Vec<bool> = replies
        .map(|reply| {
            assert_eq!(reply.verdict, Verdict::Invalid);
            reply.is_cut_off
        })
        .collect();
    cut_off.sort();
    assert_eq!(cut_off, [false, true]);
}

#[test]
fn http_call_has_the_headers_and_fields_of_the_config() {
    let server = mock(|_, body| async move {
        assert_eq!((&body["top_k"], &body["min_p"]), (&json!(-1), &json!(0.0)));
        assert_eq!(body["chat_template_kwargs"], json!({"enable_thinking": true}));
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(8192), None));
        says("hm</think> \\boxed{Assistant 1}")
    });
    let extra = json!({
        "top_k": -1, "min_p": 0.0, "chat_template_kwargs": {"enable_thinking": true},
    });
    let change = |http: &mut HttpJudgeConfig| {
        http.headers.insert("X-Team".to_owned(), "rewards".to_owned());
        // any variable that every process has
        http.headers_env.insert("x-secret".to_owned(), "PATH".to_owned());
        http.api_key_env = Some("PATH".to_owned());
        http.extra_body = extra.as_object().unwrap().clone();
        http.max_tokens_field = TokenLimitName::MaxCompletionTokens;
    };
    let mut with_headers = judge(vec![server.url.clone()], change);
    assert!(all_votes(&mut with_headers, 1)[0].1.is_ok());
    let path = std::env::var("PATH").unwrap();
    let headers = server.headers.lock().unwrap()[0].clone();
    assert_eq!(headers["x-team"], "rewards");
    assert_eq!(headers["x-secret"], path.trim());
    assert_eq!(headers["authorization"], format!("Bearer {}", path.trim()));
    assert_eq!(headers["content-type"], "application/json");

    let open = |change: fn(&mut HttpJudgeConfig)| {
        let mut http =
            HttpJudgeConfig { urls: vec![server.url.clone()], ..HttpJudgeConfig::default() };
        change(&mut http);
        HttpJudge::open(&http, &JudgeConfig::default()).map(drop).unwrap_err().to_string()
    };
    let error = open(|http| {
        http.headers_env.insert("x-secret".to_owned(), "JOUST_NO_SUCH_VARIABLE".to_owned());
    });
    let wanted = "judge.headers_env.x-secret: the variable JOUST_NO_SUCH_VARIABLE is not set";
    assert!(error.contains(wanted), "{error}");
    let error = open(|http| drop(http.headers.insert("a b".to_owned(), "c".to_owned())));
    assert!(error.contains("the header \"a b\""), "{error}");
}
