//! A server on a real socket that answers by functions and counts its calls: the one mock of all
//! tests of the http judge.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// A server, and the requests that it got.
pub(super) struct Mock {
    pub(super) url: String,
    pub(super) n_calls: Arc<AtomicUsize>,
    pub(super) most_at_once: Arc<AtomicUsize>,
    /// Headers of the calls.
    pub(super) headers: Arc<Mutex<Vec<HeaderMap>>>,
    /// Dropping it stops the server.
    _runtime: Runtime,
}

/// Routes beside calls: path and answer.
pub(super) type Extras = Vec<(&'static str, Arc<dyn Fn(Value) -> Response + Send + Sync>)>;

/// Starts a server that answers its n-th call by `answer`, and has no other route.
pub(super) fn mock<F, A>(answer: F) -> Mock
where
    F: Fn(usize, Value) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    mock_with(listener(), Vec::new(), answer)
}

/// A socket on a free port.
pub(super) fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Starts a server on a socket, with further routes.
pub(super) fn mock_with<F, A>(listener: std::net::TcpListener, extras: Extras, answer: F) -> Mock
where
    F: Fn(usize, Value) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (n_calls, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (most_at_once, headers) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (calls, most, seen) =
        (Arc::clone(&n_calls), Arc::clone(&most_at_once), Arc::clone(&headers));
    let handler = move |headers: HeaderMap, body: Bytes| {
        let (answer, calls) = (answer.clone(), Arc::clone(&calls));
        let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
        seen.lock().unwrap().push(headers);
        async move {
            let number = calls.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let response = answer(number, serde_json::from_slice(&body).unwrap()).await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            response
        }
    };
    let mut app = Router::new().route("/v1/chat/completions", post(handler));
    for (path, answer) in extras {
        let extra = move |request: Request| {
            let answer = Arc::clone(&answer);
            async move {
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
                answer(serde_json::from_slice(&body).unwrap_or_default())
            }
        };
        app = app.route(path, get(extra.clone()).post(extra));
    }
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).unwrap()
    };
    runtime.spawn(async move { axum::serve(listener, app).await });
    Mock { url, n_calls, most_at_once, headers, _runtime: runtime }
}

/// A successful response that is sent as it is.
pub(super) fn raw(body: impl Into<String>) -> Response {
    (StatusCode::OK, [("content-type", "application/json")], body.into()).into_response()
}

pub(super) fn says(text: &str) -> Response {
    axum::Json(json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 7,
                  "prompt_tokens_details": {"cached_tokens": 288}},
    }))
    .into_response()
}
