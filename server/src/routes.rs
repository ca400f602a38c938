//! The router, made from the table of operations; and for every request the check of its headers
//! and its token, and the count of its answer.
//!
//! Knows no handler by name.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use tokio::task::JoinSet;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::api;
use crate::desk::handle::ScorerHandle;
use crate::input::{MAX_BODY_BYTES, client_of, header_text};
use crate::openapi;
use crate::page_guard::{PageGuard, PageHeaders};
use crate::problem::Problem;
use crate::protocols::flight;
use crate::protocols::system::ApiDocument;
use crate::state::ServerState;
use crate::tokens::tenant_of;

/// The server around a scorer.
#[derive(Clone)]
pub struct Server {
    pub(crate) state: ServerState,
}

/// State of the middleware that checks tokens and counts answers.
#[derive(Clone)]
struct AccessCheck {
    state: ServerState,
    /// Paths that need no token, for the probes that watch the server.
    open_paths: Arc<[&'static str]>,
    /// Paths that are answered at once, where the sockets are.
    at_once_paths: Arc<[&'static str]>,
    pages: Arc<PageGuard>,
}

impl Server {
    /// Must be called inside a tokio runtime: requests are worked on there. The router may be
    /// served in another one, where it answers probes whatever the requests do.
    pub fn new(scorer: ScorerHandle) -> Self {
        Self { state: ServerState::new(scorer) }
    }

    /// The routes of all operations, the page of the documentation, and Flight.
    pub fn router(&self) -> Router {
        let operations = api::operations();
        let wants_token = !self.state.scorer.config.tokens.is_empty();
        let document = Arc::new(ApiDocument {
            paths: operations.iter().map(|operation| operation.path).collect(),
            openapi: openapi::description(&operations, wants_token),
        });
        let open = operations.iter().filter(|operation| operation.is_open);
        let open_paths = open.map(|operation| operation.path).collect();
        let at_once = operations.iter().filter(|operation| operation.is_at_once);
        let at_once_paths = at_once.map(|operation| operation.path).collect();
        let pages = Arc::new(PageGuard::new(&self.state.scorer.config.host_names));
        let access = AccessCheck { state: self.state.clone(), open_paths, at_once_paths, pages };
        // the page and its document need no token; requests sent from the page do
        let page = SwaggerUi::new("/docs").config(Config::new(["/openapi.json"]));
        let routes = operations.into_iter().fold(Router::new().merge(page), |router, operation| {
            router.route(operation.path, operation.handler)
        });
        routes
            .route(flight::ROUTE, flight::service(self.state.clone()))
            .fallback(async || Problem::NotFound("no such route; see /docs".to_owned()))
            .method_not_allowed_fallback(async || Problem::WrongMethod)
            .layer(Extension(document))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(middleware::from_fn_with_state(access, observe))
            .with_state(self.state.clone())
    }

    /// Begins the shutdown: groups at the judge are answered, open cohorts are given up, new groups
    /// are refused.
    pub fn close(&self) {
        self.state.close();
    }
}

/// Checks headers and token of a request, and counts the answer.
async fn observe(State(access): State<AccessCheck>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", MatchedPath::as_str);
    let client = check_headers(&access, &request)
        .and_then(|()| tenant(&access, &request))
        .and_then(|tenant| client_of(&request, tenant));
    let response = match client {
        Ok(client) => {
            request.extensions_mut().insert(client);
            match access.at_once_paths.contains(&route) {
                true => next.run(request).await,
                false => worked_on(&access.state, next.run(request)).await,
            }
        }
        Err(problem) if route == flight::ROUTE => flight::refused(problem),
        Err(problem) => problem.into_response(),
    };
    // the methods of Flight count as one route
    let route = route.strip_suffix("/{method}").unwrap_or(route);
    let status = response.status().as_u16();
    access.state.scorer.metrics.count_answer(route, status, started.elapsed());
    response
}

/// Works on a request on the server's own runtime, whatever runtime has the sockets. The work is
/// dropped with this future, when the client goes.
async fn worked_on(
    state: &ServerState,
    work: impl Future<Output = Response> + Send + 'static,
) -> Response {
    let mut task = JoinSet::new();
    task.spawn_on(work, &state.runtime);
    let ended = task.join_next().await.and_then(Result::ok);
    let broken = || Problem::Internal("working on the request broke down".to_owned());
    ended.unwrap_or_else(|| broken().into_response())
}

/// Refuses requests of web pages if there are no tokens.
///
/// # Errors
/// [`Problem::FromPage`], [`Problem::UnsupportedType`]; [`Problem::Invalid`] for a header that is
/// no text.
fn check_headers(access: &AccessCheck, request: &Request) -> Result<(), Problem> {
    let header = |name: HeaderName| header_text(request.headers(), name.as_str());
    let is_probe = access.open_paths.contains(&request.uri().path());
    if is_probe || !access.state.scorer.config.tokens.is_empty() {
        return Ok(());
    }
    let authority = request.uri().authority().map(Authority::as_str);
    access.pages.check(PageHeaders {
        host: header(header::HOST)?.or(authority),
        origin: header(header::ORIGIN)?,
        content_type: header(header::CONTENT_TYPE)?,
    })
}

/// Name of the tenant whose token the request has; `None` if the route needs none.
///
/// # Errors
/// [`Problem::Unauthorized`]
fn tenant<'a>(access: &'a AccessCheck, request: &Request) -> Result<Option<&'a str>, Problem> {
    let tokens = &access.state.scorer.config.tokens;
    let path = request.uri().path();
    let is_page = path == "/docs" || path.starts_with("/docs/") || path == "/openapi.json";
    if tokens.is_empty() || is_page || access.open_paths.contains(&path) {
        return Ok(None);
    }
    let header = header_text(request.headers(), header::AUTHORIZATION.as_str());
    let (scheme, given) = header
        .ok()
        .flatten()
        .and_then(|value| value.split_once(' '))
        .ok_or(Problem::Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Problem::Unauthorized);
    }
    tenant_of(tokens, given.trim_start()).map(Some).ok_or(Problem::Unauthorized)
}
