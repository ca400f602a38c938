//! Input of a request: the client's name, and its body, read within limits of size, time and depth.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::problem::Problem;
use crate::state::ServerState;

/// Maximum size of a body: fits a group of long completions.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 20;

/// Maximum time from a request's head to the end of its body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Header that distinguishes clients with the same address or token.
const CLIENT: &str = "x-joust-client";

/// Name of the client, for fair shares of the judge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client(pub(crate) String);

impl Client {
    /// Made from the number of the request's token, or else its address, and the client's own name.
    pub(crate) fn of(request: &Request, token: Option<usize>) -> Self {
        let name = header_text(request.headers(), CLIENT).map(str::to_owned);
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let of_token = token.map(|number| format!("token {number}"));
        let of_address = || address.map(|ConnectInfo(address)| address.ip().to_string());
        let known = of_token.or_else(of_address).unwrap_or_default();
        Self(name.map_or(known.clone(), |name| format!("{known} {name}")))
    }
}

/// Text of a header; `None` if it is missing or blank.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    Some(text).filter(|text| !text.trim().is_empty())
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
        let body = read_body(request, state).await?;
        object(&body).map(Self)
    }
}

/// Parses a JSON object. Lists are refused: serde would read their values as fields.
///
/// # Errors
/// [`Problem::Malformed`] if the text is not JSON; [`Problem::Invalid`] if it is of another type.
pub(crate) fn object<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // some clients begin a body with a byte order mark
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::Invalid("wanted an object, not a list".to_owned()));
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

/// Reads the whole body.
///
/// # Errors
/// [`Problem::UnsupportedEncoding`], [`Problem::TooLarge`], [`Problem::BodyTimeout`];
/// [`Problem::Malformed`] if the body breaks off.
async fn read_body(request: Request, state: &ServerState) -> Result<Bytes, Problem> {
    check_encoding(request.headers())?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
            Err(too_large())
        }
        Ok(Err(_)) => Err(Problem::Malformed("the body could not be read to its end".to_owned())),
        Err(_) => Err(Problem::BodyTimeout(BODY_TIME)),
    }
}

fn too_large() -> Problem {
    Problem::TooLarge(format!("the body is larger than {} MiB", MAX_BODY_BYTES >> 20))
}
