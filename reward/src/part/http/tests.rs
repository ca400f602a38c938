//! A server on a real socket that answers, lies, or is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::json;

use super::*;
use crate::part::fixture::{group, said};

/// A server that answers the n-th question by `answer`; dropping it stops it.
struct PartServer {
    url: String,
    n_calls: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

fn server(answer: fn(usize, Value) -> Response) -> PartServer {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let n_calls = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&n_calls);
    let handler = move |body: String| {
        let n = calls.fetch_add(1, Ordering::SeqCst) + 1;
        async move { answer(n, serde_json::from_str(&body).unwrap()) }
    };
    let routes = Router::new().route("/reward/of", post(handler));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}/reward/of", listener.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(listener, routes).await });
    PartServer { url, n_calls, _runtime: runtime }
}

fn part(url: &str) -> HttpPart {
    let config = HttpPartConfig {
        url: url.to_owned(),
        tries: 2,
        timeout_s: 60.0,
        outage_s: 0.0,
        ..HttpPartConfig::default()
    };
    HttpPart::open("mine", &config).unwrap()
}

fn json_text(text: &'static str) -> Response {
    ([("content-type", "application/json")], text).into_response()
}

#[test]
fn http_asks_about_each_group_and_keeps_their_order() {
    let server = server(|_, asked| {
        let number: f64 = asked["id"].as_str().unwrap()[1..].parse().unwrap();
        assert_eq!(asked["row"]["level"], 0.5);
        axum::Json(json!({"id": asked["id"], "rewards": [number, null]})).into_response()
    });
    let groups: Vec<PartGroup> = (0..20).map(|n| group(&format!("g{n}"), &["a", "b"])).collect();
    let wanted = (0..20).map(|n| PartOutcome::Given(vec![Some(f64::from(n)), None]));
    assert_eq!(said(&mut part(&server.url), &groups), wanted.collect::<Vec<_>>());
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 20);
}

#[test]
fn http_answer_that_is_none_is_asked_for_again_and_fails_in_the_end() {
    let fails = |answer, n_calls| {
        let server = server(answer);
        let outcome = said(&mut part(&server.url), &[group("g", &["a", "b"])]).remove(0);
        assert_eq!(server.n_calls.load(Ordering::SeqCst), n_calls);
        match outcome {
            PartOutcome::Failed(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    let odd = fails(|_, _| json_text("{\"id\": \"g\", \"rewards\": [NaN, 1]}"), 2);
    assert!(odd.contains("2 calls; ") && odd.contains("has NaN or Infinity"), "{odd}");
    let short = fails(|_, _| json_text("{\"id\": \"g\", \"rewards\": [1]}"), 2);
    assert!(short.contains("1 rewards for 2 completions; it begins \"{"), "{short}");
    let refused = fails(|_, _| (StatusCode::BAD_REQUEST, "no such task").into_response(), 1);
    assert!(refused.contains("400") && refused.contains("no such task"), "{refused}");

    let second = server(|n, _| match n {
        1 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => json_text("{\"id\": \"g\", \"rewards\": [0, 1]}"),
    });
    let outcomes = said(&mut part(&second.url), &[group("g", &["a", "b"])]);
    assert_eq!(outcomes, [PartOutcome::Given(vec![Some(0.0), Some(1.0)])]);
}

#[test]
fn http_without_a_server_fails_and_names_it() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcomes = said(&mut part(&format!("http://{address}")), &[group("g", &["a", "b"])]);
    let PartOutcome::Failed(reason) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(reason.contains(&format!("http://{address}/")), "{reason}");
}

#[test]
fn url_is_split_behind_the_servers_name() {
    for (url, parts) in [
        ("http://host:8000/reward/of?task=1", ("http://host:8000", "reward/of?task=1")),
        ("https://host/", ("https://host", "")),
        ("https://host", ("https://host", "")),
    ] {
        assert_eq!(split_url(url), parts);
    }
}

#[test]
fn http_header_whose_variable_is_not_set_is_named() {
    let headers_env = [("authorization".to_owned(), "JOUST_NO_SUCH_KEY".to_owned())].into();
    let config = HttpPartConfig { headers_env, ..HttpPartConfig::default() };
    let error = HttpPart::open("mine", &config).err().unwrap().to_string();
    let wanted =
        "part `mine`: headers_env.authorization: the variable JOUST_NO_SUCH_KEY is not set";
    assert_eq!(error, wanted);
}
