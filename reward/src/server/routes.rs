//! The routes, and what each failure looks like to a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use subtle::{Choice, ConstantTimeEq as _};

use super::barrier::Barrier;
use super::thread::ScorerHandle;
use super::{flight, groups, singles, streams};

/// A group of long completions fits, a mistaken upload does not.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;

/// Routes that need no token: what watches the server asks them.
const OPEN_ROUTES: [&str; 2] = ["/health", "/ready"];

/// The routes by which requests are counted; others are one.
const ROUTES: [&str; 13] = [
    "/health",
    "/ready",
    "/metrics",
    "/info",
    "/v1/models",
    "/v1/score_group",
    "/v1/score_groups",
    "/compare",
    "/rerank",
    "/v1/rerank",
    "/verify",
    "/get_reward",
    "/remote_rm",
];

/// What all routes share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) scorer: ScorerHandle,
    pub(super) barrier: Barrier,
    is_closing: Arc<AtomicBool>,
}

impl Shared {
    /// Whether no new groups are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

/// The server around a scorer.
#[derive(Clone)]
pub struct Server {
    shared: Shared,
}

impl Server {
    /// Must be called where tokio runs.
    pub fn new(scorer: ScorerHandle) -> Self {
        let barrier = Barrier::new(scorer.clone());
        Self { shared: Shared { scorer, barrier, is_closing: Arc::default() } }
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/info", get(info))
            .route("/v1/models", get(models))
            .route("/v1/score_group", post(groups::score_group))
            .route("/v1/score_groups", post(streams::score_groups))
            .route_service(flight::ROUTE, flight::service(self.shared.clone()))
            .route("/compare", post(groups::compare))
            .route("/rerank", post(groups::rerank))
            .route("/v1/rerank", post(groups::rerank))
            .route("/verify", post(singles::nemo_gym))
            .route("/get_reward", post(singles::openrlhf))
            .route("/remote_rm", post(singles::slime))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(middleware::from_fn_with_state(self.shared.clone(), watch))
            .with_state(self.shared.clone())
    }

    /// Takes no new groups: what is judged is answered, groups that are still collected are told to come
    /// again.
    pub fn close(&self) {
        self.shared.is_closing.store(true, Ordering::Release);
        self.shared.barrier.close();
    }
}

/// Asks for a token, where tokens are set, and counts the answer.
async fn watch(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.uri().path();
    let route = match path.starts_with(flight::PREFIX) {
        true => flight::PREFIX,
        false => ROUTES.into_iter().find(|route| *route == path).unwrap_or("other"),
    };
    let response = match is_allowed(&shared, &request) {
        true => next.run(request).await,
        false => {
            let reason =
                "wanted a header `Authorization: Bearer TOKEN` with a token of this server";
            match route {
                flight::PREFIX => flight::unauthenticated(reason),
                _ => failure(StatusCode::UNAUTHORIZED, reason),
            }
        }
    };
    shared.scorer.figures.answered(route, response.status().as_u16(), started.elapsed());
    response
}

fn is_allowed(shared: &Shared, request: &Request) -> bool {
    let tokens = &shared.scorer.config.tokens;
    if tokens.is_empty() || OPEN_ROUTES.contains(&request.uri().path()) {
        return true;
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let given = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // all are compared, each in constant time
    given.is_some_and(|given| {
        let matches = tokens.iter().map(|token| token.as_bytes().ct_eq(given.as_bytes()));
        matches.fold(Choice::from(0), |any, one| any | one).into()
    })
}

async fn health(State(shared): State<Shared>) -> Response {
    let scorer = &shared.scorer;
    let (status, word) = match scorer.is_running() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the judge has stopped"),
    };
    let body = json!({
        "status": word,
        "judge": scorer.judge.as_ref(),
        "open_groups": scorer.n_open(),
        "queue_capacity": scorer.config.queue_capacity,
        "open_cohorts": shared.barrier.n_open(),
        "waiting_completions": shared.barrier.n_waiting(),
        "group_size": scorer.config.cohorts.group_size,
    });
    (status, Json(body)).into_response()
}

/// Whether requests are welcome now.
async fn ready(State(shared): State<Shared>) -> Response {
    let scorer = &shared.scorer;
    let reason = if shared.is_closing() {
        "the server stops"
    } else if !scorer.is_running() {
        "the judge has stopped"
    } else if scorer.n_open() >= scorer.config.queue_capacity {
        "the queue is full"
    } else {
        return Json(json!({ "ready": true })).into_response();
    };
    let body = json!({ "ready": false, "reason": reason });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let barrier = &shared.barrier;
    let page =
        shared.scorer.figures.page(shared.scorer.n_open(), barrier.n_waiting(), barrier.n_open());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

async fn info(State(shared): State<Shared>) -> Json<serde_json::Value> {
    let config = &shared.scorer.config;
    Json(json!({
        "program": "joust",
        "version": env!("CARGO_PKG_VERSION"),
        "judge": shared.scorer.judge.as_ref(),
        "tournament": shared.scorer.tournament.as_ref(),
        "group_size": config.cohorts.group_size,
        "collect_s": config.cohorts.collect.as_secs_f64(),
        "incomplete": config.cohorts.incomplete,
        "timeout_s": config.timeout.as_secs_f64(),
        "queue_capacity": config.queue_capacity,
        "max_body_bytes": MAX_BODY_BYTES,
        "routes": ROUTES,
    }))
}

/// The judge, as OpenAI's clients list models.
async fn models(State(shared): State<Shared>) -> Json<serde_json::Value> {
    let model = json!({"id": shared.scorer.judge.as_ref(), "object": "model", "owned_by": "joust"});
    Json(json!({"object": "list", "data": [model]}))
}

/// Reads a JSON body: 400 for what is no JSON, 422 for what is not what was wanted.
pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(match error.is_data() {
            true => failure(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
            false => failure(StatusCode::BAD_REQUEST, &format!("invalid JSON: {error}")),
        })
    })
}

/// What may go better at the next try: `Retry-After` says when.
pub(super) fn later(status: StatusCode, reason: &str) -> Response {
    let mut response = failure(status, reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(super) fn failure(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}
