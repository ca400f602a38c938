//! The look at a server before its first call: its models, its context, its tokens.

use joust_engine::tokenizer::Tokenizer;

use super::mock::{Extras, listener, mock_with};
use super::*;

const NANO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/models/nano-rrm");

fn server_with(extras: Extras) -> Mock {
    mock_with(listener(), extras, |_, _| async { says("hm</think> \\boxed{Assistant 1}") })
}

fn models(models: Value) -> (&'static str, Arc<dyn Fn(Value) -> Response + Send + Sync>) {
    ("/v1/models", Arc::new(move |_| axum::Json(json!({"data": models})).into_response()))
}

fn open(url: &str, change: impl FnOnce(&mut HttpJudgeConfig)) -> Result<HttpJudge, String> {
    let mut http = HttpJudgeConfig {
        urls: vec![url.to_owned()],
        model: "rrm".to_owned(),
        ..HttpJudgeConfig::default()
    };
    change(&mut http);
    let config = JudgeConfig { max_thinking_tokens: 500, ..JudgeConfig::default() };
    HttpJudge::open(&http, &config).map_err(|error| error.to_string())
}

#[test]
fn http_server_without_the_model_is_refused_with_the_names_that_it_has() {
    let names: Vec<Value> = (0..12).map(|idx| json!({"id": format!("m{idx}")})).collect();
    let server = server_with(vec![models(json!(names))]);
    let error = open(&server.url, |_| {}).map(drop).unwrap_err();
    assert!(error.contains("judge.model is \"rrm\", which http://127.0.0.1"), "{error}");
    assert!(error.contains("it has \"m0\", \"m1\"") && error.ends_with("and 2 more"), "{error}");
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 0);
    for known in [json!([{"id": "a"}, {"id": "rrm"}]), json!([{"id": "rrm:latest"}]), json!([])] {
        let server = server_with(vec![models(known.clone())]);
        let mut judge = open(&server.url, |_| {}).unwrap();
        assert!(all_votes(&mut judge, 1)[0].1.is_ok(), "{known}");
    }
}

#[test]
fn http_server_whose_context_is_too_short_for_a_thought_is_refused() {
    for (length, is_refused) in [(499, true), (500, false), (501, false), (32_768, false)] {
        let server = server_with(vec![models(json!([{"id": "rrm", "max_model_len": length}]))]);
        let opened = open(&server.url, |_| {}).map(drop);
        assert_eq!(opened.is_err(), is_refused, "{length}");
        if let Err(error) = opened {
            let wanted = "judge.max_thinking_tokens is 500, but the context of";
            assert!(error.contains(wanted) && error.contains("holds 499 tokens"), "{error}");
        }
    }
}

/// A server that reads text by a tokenizer, after a change of it.
fn tokenizing(change: fn(Vec<u32>) -> Vec<u32>) -> Mock {
    let tokenizer = Tokenizer::from_folder(NANO.as_ref()).unwrap();
    let tokenize = move |body: Value| {
        let text = match body["messages"].as_array() {
            None => body["prompt"].as_str().unwrap().to_owned(),
            Some(_) => {
                let messages: Vec<Message> =
                    serde_json::from_value(body["messages"].clone()).unwrap();
                tokenizer.render_chat(&messages, true).unwrap()
            }
        };
        let ids = change(tokenizer.encode(&text).unwrap());
        axum::Json(json!({"count": ids.len(), "max_model_len": 1024, "tokens": ids}))
            .into_response()
    };
    server_with(vec![models(json!([{"id": "rrm"}])), ("/tokenize", Arc::new(tokenize))])
}

#[test]
fn http_server_with_another_tokenizer_is_refused_before_any_vote() {
    let same = tokenizing(|ids| ids);
    let with_tokenizer = |http: &mut HttpJudgeConfig| http.tokenizer = Some(NANO.into());
    let mut judge = open(&same.url, with_tokenizer).unwrap();
    assert!(all_votes(&mut judge, 1)[0].1.is_ok());

    let other = tokenizing(|ids| ids.into_iter().flat_map(|id| [id, id]).collect());
    let error = open(&other.url, with_tokenizer).map(drop).unwrap_err();
    assert!(error.contains("nano-rrm as") && error.contains("differ from token 1"), "{error}");
    assert!(error.contains("--tokenizer"), "{error}");
    assert_eq!(other.n_calls.load(Ordering::SeqCst), 0);
    // without a tokenizer at hand there is nothing to compare
    assert!(open(&other.url, |_| {}).is_ok());
    let none = open(&other.url, |http| http.tokenizer = Some("no/such/folder".into()));
    assert!(none.map(drop).unwrap_err().contains("no/such/folder/tokenizer.json"));
}

#[test]
fn http_model_that_is_a_folder_is_its_own_tokenizer() {
    let server = tokenizing(|mut ids| {
        ids.push(7);
        ids
    });
    let error = open(&server.url, |http| http.model = NANO.to_owned()).map(drop).unwrap_err();
    assert!(error.contains("which") && error.contains("does not have"), "{error}");
    let tokenizer = Tokenizer::from_folder(NANO.as_ref()).unwrap();
    let longer = move |body: Value| {
        let mut ids = tokenizer.encode(body["prompt"].as_str().unwrap_or_default()).unwrap();
        ids.push(7);
        axum::Json(json!({"tokens": ids})).into_response()
    };
    let server = server_with(vec![("/tokenize", Arc::new(longer))]);
    let error = open(&server.url, |http| http.model = NANO.to_owned()).map(drop).unwrap_err();
    assert!(error.contains("reads the judge's prompt as"), "{error}");
}

#[test]
fn http_server_that_cannot_be_looked_at_is_used() {
    let odd: [fn() -> Response; 5] = [
        || StatusCode::NOT_IMPLEMENTED.into_response(),
        || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        || "<html>".into_response(),
        || axum::Json(json!({"data": "none", "tokens": "none"})).into_response(),
        || axum::Json(json!({"data": [{"name": "x"}], "tokens": []})).into_response(),
    ];
    for answer in odd {
        let extra = || Arc::new(move |_| answer());
        let server = server_with(vec![("/v1/models", extra()), ("/tokenize", extra())]);
        let mut judge = open(&server.url, |http| http.tokenizer = Some(NANO.into())).unwrap();
        assert!(all_votes(&mut judge, 1)[0].1.is_ok());
    }
}

#[test]
fn http_server_that_fails_at_a_look_is_looked_at_again() {
    // a server that is busy when it is looked at is the wrong one all the same
    let failures: [fn() -> Response; 3] = [
        || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        || StatusCode::TOO_MANY_REQUESTS.into_response(),
        || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
    ];
    for failure in failures {
        let n_looks = std::sync::atomic::AtomicUsize::new(0);
        let listed = json!({"data": [{"id": "other", "max_model_len": 100}]});
        let models = move |_| match n_looks.fetch_add(1, Ordering::SeqCst) {
            0 => failure(),
            _ => axum::Json(listed.clone()).into_response(),
        };
        let server = server_with(vec![("/v1/models", Arc::new(models))]);
        let mut judge = open(&server.url, |_| {}).unwrap();
        for (_, outcome) in all_votes(&mut judge, 3) {
            let Err(JudgeError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
            assert!(reason.contains("\"rrm\"") && reason.contains("\"other\""), "{reason}");
        }
        assert_eq!(server.n_calls.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn http_tokenizer_is_checked_although_the_server_failed_at_first() {
    let n_looks = std::sync::atomic::AtomicUsize::new(0);
    let tokenize = move |_| match n_looks.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => axum::Json(json!({"tokens": [1, 2, 3]})).into_response(),
    };
    let server = server_with(vec![("/tokenize", Arc::new(tokenize))]);
    let mut judge = open(&server.url, |http| http.tokenizer = Some(NANO.into())).unwrap();
    let Err(JudgeError::Failed(reason)) = all_votes(&mut judge, 1).remove(0).1 else {
        panic!("a vote of another tokenizer")
    };
    assert!(reason.contains("reads the judge's prompt as 3 tokens"), "{reason}");
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 0);
}

#[test]
fn http_server_that_redirects_elsewhere_is_refused_with_the_address() {
    let moved = |to: &'static str| {
        let answer = move |_| (StatusCode::MOVED_PERMANENTLY, [("location", to)]).into_response();
        server_with(vec![("/v1/models", Arc::new(answer))])
    };
    let server = moved("https://judge.example/v1/models");
    let error = open(&server.url, |_| {}).map(drop).unwrap_err();
    assert!(error.contains(&format!("judge.urls holds {}", server.url)), "{error}");
    assert!(error.contains("redirects to https://judge.example/v1: "), "{error}");
    // a page for people says nothing about calls
    let server = moved("/login");
    let mut judge = open(&server.url, |_| {}).unwrap();
    assert!(all_votes(&mut judge, 1)[0].1.is_ok());
}
