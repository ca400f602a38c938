//! The routes, and what each failure looks like to a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, CtOption};
use tokio::sync::watch;
use utoipa_swagger_ui::SwaggerUi;

use super::barrier::Barrier;
use super::desk::ScorerHandle;
use super::input::{Client, MAX_BODY_BYTES, header_text};
use super::unscored::Unscored;
use super::{api, chat, flight, groups, jobs, scores, singles, streams};

/// Routes that need no token: what watches the server asks them.
pub(crate) const OPEN_ROUTES: [&str; 2] = ["/health", "/ready"];

/// What all routes share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) scorer: ScorerHandle,
    pub(crate) barrier: Barrier,
    is_closing: Arc<watch::Sender<bool>>,
}

impl Shared {
    /// Whether no new groups are taken.
    pub(crate) fn is_closing(&self) -> bool {
        *self.is_closing.borrow()
    }

    /// Completes when no new groups are taken any more.
    pub(crate) async fn until_closing(&self) {
        let mut is_closing = self.is_closing.subscribe();
        // the sender is here, and does not go meanwhile
        let _ = is_closing.wait_for(|is_closing| *is_closing).await;
    }
}

/// The server around a scorer.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Shared,
}

impl Server {
    /// Must be called where tokio runs.
    pub fn new(scorer: ScorerHandle) -> Self {
        let barrier = Barrier::new(scorer.clone());
        Self { shared: Shared { scorer, barrier, is_closing: Arc::default() } }
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        let description = api::description(!self.shared.scorer.config.tokens.is_empty());
        // page and description need no token: what is asked from the page does
        let page = SwaggerUi::new("/docs").external_url_unchecked("/openapi.json", description);
        Router::new()
            .merge(page)
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/info", get(info))
            .route("/v1/models", get(models))
            .route("/v1/score_group", post(groups::score_group))
            .route(streams::PATH, post(streams::score_groups))
            .route_service(flight::ROUTE, flight::service(self.shared.clone()))
            .route("/compare", post(groups::compare))
            .route("/rerank", post(groups::rerank))
            .route("/v1/rerank", post(groups::rerank))
            .route("/v1/jobs", post(jobs::accept))
            .route("/v1/jobs/{job_id}", get(jobs::show).delete(jobs::cancel))
            .route("/v1/jobs/{job_id}/events", get(jobs::events))
            .route("/v1/chat/completions", post(chat::completions))
            .route("/score", post(scores::score))
            .route("/classify", post(scores::classify))
            .route("/verify", post(singles::nemo_gym))
            .route("/get_reward", post(singles::openrlhf))
            .route("/remote_rm", post(singles::slime))
            .fallback(async || failure(StatusCode::NOT_FOUND, "no such route; see /docs"))
            .method_not_allowed_fallback(async || {
                failure(StatusCode::METHOD_NOT_ALLOWED, "the route wants another method; see /docs")
            })
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(middleware::from_fn_with_state(self.shared.clone(), observe))
            .with_state(self.shared.clone())
    }

    /// Takes no new groups: what is judged is answered, groups that are still collected are told to come
    /// again.
    pub fn close(&self) {
        self.shared.is_closing.send_replace(true);
        self.shared.barrier.close();
    }
}

/// Asks for a token, where tokens are set, and counts the answer.
async fn observe(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let response = match token(&shared, &request) {
        Ok(number) => {
            let client = Client::of(&request, number);
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(Unauthorized) => {
            let reason =
                "wanted a header `Authorization: Bearer TOKEN` with a token of this server";
            match route {
                flight::ROUTE => flight::unauthenticated(reason),
                _ => {
                    let response = failure(StatusCode::UNAUTHORIZED, reason);
                    ([(header::WWW_AUTHENTICATE, "Bearer")], response).into_response()
                }
            }
        }
    };
    // all methods of Flight are one route
    let route = route.strip_suffix("/{method}").unwrap_or(route);
    shared.scorer.figures.answered(route, response.status().as_u16(), started.elapsed());
    response
}

/// A token is wanted, and none of them was brought.
struct Unauthorized;

/// The number of the request's token; none where none is wanted.
fn token(shared: &Shared, request: &Request) -> Result<Option<usize>, Unauthorized> {
    let tokens = &shared.scorer.config.tokens;
    let path = request.uri().path();
    let is_page = path == "/docs" || path.starts_with("/docs/") || path == "/openapi.json";
    if tokens.is_empty() || is_page || OPEN_ROUTES.contains(&path) {
        return Ok(None);
    }
    let header = header_text(request.headers(), header::AUTHORIZATION.as_str());
    let (scheme, given) = header.and_then(|value| value.split_once(' ')).ok_or(Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unauthorized);
    }
    let given = given.trim_start();
    // all are compared, each in constant time
    let matches = tokens.iter().map(|token| token.as_bytes().ct_eq(given.as_bytes()));
    let found =
        matches.enumerate().fold(CtOption::new(0, Choice::from(0)), |found, (at, is_it)| {
            CtOption::conditional_select(&found, &CtOption::new(at as u64, Choice::from(1)), is_it)
        });
    Option::from(found).map(|at: u64| Some(at as usize)).ok_or(Unauthorized)
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
    } else if scorer
        .servers
        .as_ref()
        .is_some_and(|servers| servers.n_resting() == servers.n_servers())
    {
        "all servers of the judge rest after failures"
    } else if scorer.n_open() >= scorer.config.queue_capacity {
        "the queue is full"
    } else {
        return Json(json!({ "ready": true })).into_response();
    };
    let body = json!({ "ready": false, "reason": reason });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let Shared { scorer, barrier, .. } = &shared;
    let (n_kept, kept_bytes) = scorer.n_kept();
    let page = scorer.figures.page([
        scorer.n_open() as u64,
        scorer.n_tokens(),
        barrier.n_waiting() as u64,
        barrier.n_open() as u64,
        n_kept as u64,
        kept_bytes as u64,
        scorer.cache.as_ref().map_or(0, |cache| cache.hits() + cache.joined()),
        scorer.cache.as_ref().map_or(0, |cache| cache.shared_tokens()),
        scorer.servers.as_ref().map_or(0, |servers| servers.n_resting() as u64),
    ]);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

async fn info(State(shared): State<Shared>) -> Json<serde_json::Value> {
    let config = &shared.scorer.config;
    let routes: Vec<&str> = api::operations().iter().map(|operation| operation.path).collect();
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
        "routes": routes,
    }))
}

/// The judge, as OpenAI's clients list models.
async fn models(State(shared): State<Shared>) -> Json<serde_json::Value> {
    let model = json!({"id": shared.scorer.judge.as_ref(), "object": "model", "owned_by": "joust"});
    Json(json!({"object": "list", "data": [model]}))
}

/// What may go better at the next try: `Retry-After` says when.
pub(crate) fn later(status: StatusCode, reason: &str) -> Response {
    later_by(status, reason, Duration::from_secs(1))
}

fn later_by(status: StatusCode, reason: &str, after: Duration) -> Response {
    let mut response = failure(status, reason);
    let seconds = HeaderValue::from(after.as_secs_f64().ceil() as u64);
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

/// What a client is told whose group has no result.
pub(crate) fn unscored(why: &Unscored) -> Response {
    let (status, reason) = (why.status(), why.to_string());
    match why {
        Unscored::Full(full) => later_by(status, &format!("{reason}; try again later"), full.after),
        Unscored::TooLate(_) | Unscored::Failed(_) => later(status, &reason),
        Unscored::Stopped | Unscored::Cancelled | Unscored::Wanted(_) | Unscored::Bad(_) => {
            failure(status, &reason)
        }
    }
}

pub(crate) fn failure(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}
