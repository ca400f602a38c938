//! Input of a request: the client's name, and its body, read within limits of size, time and depth.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::body_blocks::BodyBlocks;
use crate::body_budget::BodyShare;
use crate::client::Client;
use crate::heavy;
use crate::problem::Problem;
use crate::state::ServerState;

/// Maximum size of a body: fits a group of long completions.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 20;

/// Maximum time from a request's head to the end of its body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Header with the name that a client gives itself.
const CLIENT: &str = "x-joust-client";

/// Maximum size of that name, in bytes.
const MAX_NAME_BYTES: usize = 200;

/// The client of a request: its tenant or else its address, and its own name.
///
/// # Errors
/// [`Problem::Invalid`] if the name is too long, not clear or no text.
pub(crate) fn client_of(request: &Request, tenant: Option<&str>) -> Result<Client, Problem> {
    let name = one_header(request.headers(), CLIENT)?;
    if let Some(name) = name.filter(|name| name.len() > MAX_NAME_BYTES) {
        let n = name.len();
        let reason = format!("header {CLIENT} has {n} bytes, wanted at most {MAX_NAME_BYTES}");
        return Err(Problem::Invalid(reason));
    }
    let address = || {
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        address.map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()
    };
    Ok(match tenant {
        Some(tenant) => Client::of_tenant(tenant, name),
        None => Client::of_address(address(), name),
    })
}

/// Text of a header that has one meaning; `None` if it is missing or blank.
///
/// # Errors
/// [`Problem::Invalid`] if it is repeated with different values, or no text.
pub(crate) fn one_header<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.all(|value| Some(value) == first) {
        true => header_text(headers, name),
        false => Err(Problem::Invalid(format!("header {name} comes with different values"))),
    }
}

/// Text of a header; `None` if it is missing or blank.
///
/// # Errors
/// [`Problem::Invalid`] if it is no text: a header that was sent is never read as missing.
pub(crate) fn header_text<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> Result<Option<&'a str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Problem::Invalid(format!("header {name} is not UTF-8: {value:?}")))?;
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// The job id in the path.
pub(crate) struct JobId(pub(crate) String);

impl FromRequestParts<ServerState> for JobId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::NotFound("there is no such job".to_owned())),
        }
    }
}

/// A JSON body.
pub(crate) struct Input<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ServerState> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, Problem> {
        HeldInput::from_request(request, state).await.map(|HeldInput(body, _)| Self(body))
    }
}

/// A JSON body with its share of the memory for bodies, for work on it that takes long.
pub(crate) struct HeldInput<T>(pub(crate) T, pub(crate) BodyShare);

impl<T: DeserializeOwned> FromRequest<ServerState> for HeldInput<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ServerState) -> Result<Self, Problem> {
        let client = request.extensions().get::<Client>().cloned().unwrap_or_default();
        let mut share = state.bodies.holder(&client).share();
        let body = read_body(request, &mut share).await?;
        heavy::work_on(body.n_bytes(), || {
            let body = body.joined();
            share.resize(parsed_bytes(&body))?;
            object(&body).map(|read| Self(read, share))
        })
    }
}

/// Parses a JSON object. Lists are refused: serde would read their values as fields.
///
/// # Errors
/// [`Problem::Malformed`] if the text is not JSON; [`Problem::Invalid`] if it is of another type;
/// [`Problem::TooLarge`] if it has too many values.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // some clients begin a body with a byte order mark
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::Invalid("wanted an object, not a list".to_owned()));
    }
    if parsed_bytes(text) > MAX_PARSED_BYTES {
        return Err(Problem::TooLarge("the body has too many values".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| json_problem(&error))
}

fn json_problem(error: &serde_json::Error) -> Problem {
    match error.is_data() {
        true => Problem::Invalid(error.to_string()),
        false => Problem::Malformed(format!("invalid JSON: {error}")),
    }
}

/// Parameters of the query string.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<ServerState> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ServerState) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::Invalid(rejection.body_text())),
        }
    }
}

/// Refuses an encoded body.
///
/// # Errors
/// [`Problem::UnsupportedEncoding`]
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut texts = encodings.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let is_none = |text: &String| {
        let text = text.trim();
        text.is_empty() || text.eq_ignore_ascii_case("identity")
    };
    match texts.find(|text| !is_none(text)) {
        Some(encoding) => Err(Problem::UnsupportedEncoding(encoding)),
        None => Ok(()),
    }
}

/// Maximum memory of a body and its values, in bytes.
const MAX_PARSED_BYTES: usize = 512 << 20;

/// Memory of a JSON text and of its values, at most: each value but the first follows a comma or
/// begins a list or an object.
fn parsed_bytes(text: &[u8]) -> usize {
    let n_values = text.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    text.len() + n_values * size_of::<serde_json::Value>()
}

/// Reads the whole body; `share` is its share of the memory for bodies.
///
/// # Errors
/// [`Problem::TooLarge`], [`Problem::BodyTimeout`], [`Problem::TooManyBodies`];
/// [`Problem::Malformed`] if the body breaks off.
async fn read_body(request: Request, share: &mut BodyShare) -> Result<BodyBlocks, Problem> {
    check_encoding(request.headers())?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let mut pieces = request.into_body().into_data_stream();
    let read = async {
        let mut body = BodyBlocks::default();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| {
                Problem::Malformed("the body could not be read to its end".to_owned())
            })?;
            let n_bytes = body.n_bytes() + piece.len();
            if n_bytes > MAX_BODY_BYTES {
                return Err(too_large());
            }
            // grows by what has come, not by what was announced
            share.resize(n_bytes)?;
            body.push(&piece);
        }
        Ok(body)
    };
    let read = tokio::time::timeout(BODY_TIME, read).await;
    read.unwrap_or(Err(Problem::BodyTimeout(BODY_TIME)))
}

fn too_large() -> Problem {
    Problem::TooLarge(format!("the body is larger than {} MiB", MAX_BODY_BYTES >> 20))
}
