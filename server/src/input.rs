//! What a request brings: who asks, and its body, read within limits of size, time and depth.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;

use super::routes::{Shared, failure};

/// A group of long completions fits, a mistaken upload does not.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 20;

/// Longest time from a request's head to the end of its body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// The header by which clients behind one address, or with one token, are told apart.
const CLIENT: &str = "x-joust-client";

/// Who asks: clients have equal shares of the judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client(pub(super) String);

impl Client {
    /// By the name that it gives itself, its token (`token` is that token's number) or its address.
    pub(crate) fn of(request: &Request, token: Option<usize>) -> Self {
        let name = header_text(request.headers(), CLIENT).map(str::to_owned);
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let of_token = token.map(|number| format!("token {number}"));
        let of_address = || address.map(|ConnectInfo(address)| address.ip().to_string());
        let known = of_token.or_else(of_address).unwrap_or_default();
        Self(name.map_or(known.clone(), |name| format!("{known} {name}")))
    }
}

/// A header's text; one that is empty says nothing.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    Some(text).filter(|text| !text.trim().is_empty())
}

/// A job's id out of the path.
pub(crate) struct JobId(pub(super) String);

impl FromRequestParts<Shared> for JobId {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        match Path::from_request_parts(parts, shared).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(failure(StatusCode::NOT_FOUND, "there is no such job")),
        }
    }
}

/// A JSON body.
pub(crate) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Input<T> {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Response> {
        let body = body(request, shared).await?;
        object(&body).map(Self).map_err(|(status, reason)| failure(status, &reason))
    }
}

/// Reads a JSON object; lists are none, though their places could be taken for fields.
///
/// # Errors
/// What is wrong with the text: 400 for what is no JSON, 422 for what is not what was wanted.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, (StatusCode, String)> {
    if text.trim_ascii_start().starts_with(b"[") {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, "wanted an object, not a list".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| why_unreadable(&error))
}

/// What is wrong with a JSON text: 400 for what is no JSON, 422 for what is not what was wanted.
fn why_unreadable(error: &serde_json::Error) -> (StatusCode, String) {
    match error.is_data() {
        true => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        false => (StatusCode::BAD_REQUEST, format!("invalid JSON: {error}")),
    }
}

/// Parameters after the question mark.
pub(crate) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        match Query::from_request_parts(parts, shared).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                Err(failure(StatusCode::UNPROCESSABLE_ENTITY, &rejection.body_text()))
            }
        }
    }
}

/// The whole body: 413 where it is too large, 408 where it takes too long.
async fn body(request: Request, shared: &Shared) -> Result<Bytes, Response> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, shared)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(rejection)) => {
            let rejection = rejection.into_response();
            Err(match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => too_large(),
                status => failure(status, "the body could not be read to its end"),
            })
        }
        Err(_) => {
            let reason = format!("the body did not come within {BODY_TIME:?}");
            Err(failure(StatusCode::REQUEST_TIMEOUT, &reason))
        }
    }
}

fn too_large() -> Response {
    let reason = format!("the body is larger than {} MiB", MAX_BODY_BYTES >> 20);
    failure(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}
