//! Requests to the server, without a socket: bodies of all routes, JSON lines and Arrow streams.

use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use joust_reward::judge::RuleJudge;
use joust_reward::{RewardConfig, Scorer};
use joust_server::{ScorerHandle, ServeConfig, Server, ServerConfig};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Maximum length of an answer, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// A server whose judge is the rule, and the runtime that it lives in.
struct RunningServer {
    runtime: Runtime,
    router: Router,
}

static SERVER: LazyLock<RunningServer> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let config = ServeConfig {
        // nothing waits for members that never come, and nothing is kept
        timeout_s: 2.0,
        collect_s: 0.001,
        keep_s: 0.001,
        keep_mib: 1,
        ..ServeConfig::default()
    };
    let judge = Box::new(RuleJudge::default());
    let scorer = Scorer::with_judge(&RewardConfig::default(), Some(judge), true);
    let config = ServerConfig::new(&config, 0, Vec::new());
    let (handle, _) = ScorerHandle::spawn(scorer, config).expect("a judge thread");
    let router = runtime.block_on(async { Server::new(handle).router() });
    RunningServer { runtime, router }
});

/// Sends the lines after the first one to the route of the first line; `lines` behind the route
/// makes the body JSON lines.
pub fn check_json(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = bytes.split_at(end);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (route, kind) = match head.strip_suffix(" lines") {
        Some(route) => (route, "application/x-ndjson"),
        None => (head, "application/json"),
    };
    send(route, kind, body);
}

/// Sends an Arrow stream to `/v1/score_groups`.
pub fn check_arrow(bytes: &[u8]) {
    send("/v1/score_groups", "application/vnd.apache.arrow.stream", bytes);
}

/// Panics where a request makes the server fail: 500, or an answer that is not what it says.
fn send(route: &str, kind: &str, body: &[u8]) {
    let request = Request::post(route).header(header::CONTENT_TYPE, kind);
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let server = &*SERVER;
    server.runtime.block_on(async {
        let answer = server.router.clone().oneshot(request).await.expect("a router answers");
        let status = answer.status().as_u16();
        assert_ne!(status, 500, "{route} fails");
        let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
        // a stream that breaks off has said why
        let Ok(body) = to_bytes(answer.into_body(), MAX_BYTES).await else { return };
        if kind.is_some_and(|kind| kind == "application/json") {
            let json: Result<serde_json::Value, _> = serde_json::from_slice(&body);
            json.unwrap_or_else(|error| panic!("{status} of {route} is no JSON: {error}"));
        }
    });
}
