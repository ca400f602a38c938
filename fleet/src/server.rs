//! One server: requests to it, whose bodies are bounded in bytes and time, and what a failure says
//! about the server.
//!
//! It does not know other servers, retries, or what a request asks.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::config::{FleetConfig, OddNumbers};
use super::json;

/// Maximum number of bytes that are read of an error's body.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// Maximum number of characters of a server's message in an error.
const MAX_ERROR_CHARS: usize = 300;

/// Maximum number of redirects that a request follows.
const MAX_REDIRECTS: usize = 10;

/// Time after which a proxy's 504 says that an answer takes too long, and not that nobody is there.
const SLOW: Duration = Duration::from_secs(5);

/// Maximum pause that a server's `Retry-After` may set, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;

/// Errors of making a fleet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("{}", in_one_line(.0).text)]
    Client(#[from] reqwest::Error),
    /// A header that HTTP does not allow.
    #[error("the header {0:?} has a name or a value that HTTP does not allow")]
    Header(String),
}

/// A server that requests can be sent to.
#[derive(Clone)]
pub struct ServerClient {
    client: Client,
    base: String,
    max_answer_bytes: usize,
    odd_numbers: OddNumbers,
}

/// Why a request has no answer; with the pause of the server's `Retry-After`, if any.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// Nobody answers at the address, the connection ended before an answer began, or a proxy says
    /// so: the server is not up.
    #[error("{0}")]
    Gone(String, Option<Duration>),
    /// The server is up and asks for slower calls.
    #[error("{0}")]
    Busy(String, Option<Duration>),
    /// The server failed; another attempt may succeed.
    #[error("{0}")]
    Failed(String, Option<Duration>),
    /// The server refuses the request as wrong.
    #[error("{0}")]
    Refused(String),
    /// The server refuses for another reason, such as the key.
    #[error("{0}")]
    Rejected(String),
    /// The server has nothing at this path (404).
    #[error("{0}")]
    NotFound(String),
    /// The server does not do this at the path (405, 501).
    #[error("{0}")]
    NoRoute(String),
    /// The server is at another address, and a redirect to it would lose the body of a call.
    #[error("{reason}")]
    Moved {
        /// The reason.
        reason: String,
        /// The address to which the request is redirected.
        to: String,
    },
}

/// The client for requests to all servers.
///
/// # Errors
/// [`Error`] for a wrong header or a client that cannot be made.
pub(crate) fn client(config: &FleetConfig) -> Result<Client, Error> {
    // fails if the process has a provider already, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let wrong = || Error::Header(name.clone());
        let key = HeaderName::try_from(name).map_err(|_| wrong())?;
        let mut value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    // the other redirects make a GET without a body of a request
    let policy = || {
        Policy::custom(|attempt| match attempt.status().as_u16() {
            307 | 308 if attempt.previous().len() > MAX_REDIRECTS => {
                attempt.error("too many redirects")
            }
            307 | 308 => attempt.follow(),
            _ => attempt.stop(),
        })
    };
    let builder = || {
        let builder = Client::builder().timeout(config.timeout).redirect(policy());
        builder.default_headers(headers.clone())
    };
    // a machine without root certificates can still speak HTTP
    let needs_roots = config.urls.iter().any(|url| url.starts_with("https://"));
    match builder().build() {
        Err(_) if !needs_roots => Ok(builder().tls_certs_only([]).build()?),
        built => Ok(built?),
    }
}

impl ServerClient {
    pub(crate) fn new(client: Client, base: &str, config: &FleetConfig) -> Self {
        let (max_answer_bytes, odd_numbers) = (config.max_answer_bytes, config.odd_numbers);
        let base = base.trim_end_matches('/').to_owned();
        Self { client, base, max_answer_bytes, odd_numbers }
    }

    /// Base address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Gets JSON from an address, within `timeout`.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Value, RequestError> {
        self.answer(url, self.client.get(url).timeout(timeout)).await
    }

    /// Posts a JSON text to an address, within `timeout`.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Value, RequestError> {
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        self.answer(url, request.body(body).timeout(timeout)).await
    }

    async fn answer(&self, url: &str, request: RequestBuilder) -> Result<Value, RequestError> {
        let body = answer_body(url, request, self.max_answer_bytes).await?;
        json::read(&body, self.odd_numbers)
            .map_err(|reason| RequestError::Failed(format!("{url}: {reason}"), None))
    }
}

async fn answer_body(
    url: &str,
    request: RequestBuilder,
    max_bytes: usize,
) -> Result<Vec<u8>, RequestError> {
    let failed = |reason: &str| RequestError::Failed(format!("{url}: {reason}"), None);
    let sent = Instant::now();
    let response = request.send().await.map_err(|error| {
        let reason = in_one_line(&error.without_url());
        match reason.is_gone {
            true => RequestError::Gone(format!("{url}: {}", reason.text), None),
            false => failed(&reason.text),
        }
    })?;
    if !response.status().is_success() {
        return Err(refusal(url, response, sent.elapsed()).await);
    }
    if let Some(encoding) = response.headers().get("content-encoding")
        && encoding != "identity"
    {
        return Err(failed(&format!(
            "the answer is encoded ({encoding:?}), which nobody asked for"
        )));
    }
    match read_body(response, max_bytes).await {
        Ok((body, true)) => Ok(body),
        Ok((_, false)) => {
            let limit = max_bytes >> 20;
            Err(failed(&format!("the answer is longer than {limit} MiB")))
        }
        Err(error) => Err(failed(&in_one_line(&error.without_url()).text)),
    }
}

/// Reads a body up to `max` bytes; false if there is more.
async fn read_body(mut response: Response, max: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

/// Classifies an unsuccessful response, which came after the time `waited`.
async fn refusal(url: &str, response: Response, waited: Duration) -> RequestError {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok());
    let pause = after.and_then(|after| retry_after(after, SystemTime::now()));
    let location = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
    if let Some(to) = location.and_then(|to| response.url().join(to).ok())
        && matches!(status.as_u16(), 301..=303)
    {
        let reason =
            format!("{url}: {status}: it redirects to {to}, which loses a call; use that address");
        return RequestError::Moved { reason, to: to.into() };
    }
    let message = match status {
        // a server that refuses a key may repeat the key in its message, which clients read
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => String::new(),
        // what came of the message before a failure is still a message
        _ => match read_body(response, MAX_ERROR_BYTES).await {
            Ok((body, _)) => json::error_message(&body),
            Err(_) => String::new(),
        },
    };
    let message: String = message.chars().take(MAX_ERROR_CHARS).collect();
    let reason = format!("{url}: {status} {message}").trim_end().to_owned();
    match status.as_u16() {
        // a limit of rate or load
        429 => RequestError::Busy(reason, pause),
        503 if pause.is_some() => RequestError::Busy(reason, pause),
        // the limit of a proxy for an answer that takes long
        504 if waited >= SLOW => RequestError::Failed(reason, pause),
        // a proxy without a server behind it, or a server that is starting
        502..=504 => RequestError::Gone(reason, pause),
        404 => RequestError::NotFound(reason),
        405 | 501 => RequestError::NoRoute(reason),
        // the request is wrong
        400 | 413 | 414 | 422 => RequestError::Refused(reason),
        // the settings of this program are wrong, not the request
        300..=399 | 401..=403 | 406 | 407 | 410 | 415 | 421 | 426 | 451 => {
            RequestError::Rejected(reason)
        }
        // too slow, the server's own fault, or one that passes: a conflict, a request that a proxy
        // gave up (460, 499), a failure while it generates (TGI's 424)
        _ => RequestError::Failed(reason, pause),
    }
}

/// The pause of a `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let pause = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            httpdate::parse_http_date(text.trim()).ok()?.duration_since(now).unwrap_or_default()
        }
    };
    Some(pause.min(Duration::from_secs(MAX_RETRY_AFTER_S)))
}

/// An error of the client with all its causes, in one line.
struct Reason {
    text: String,
    /// Whether no connection was made, or it ended without a timeout.
    is_gone: bool,
}

fn in_one_line(error: &reqwest::Error) -> Reason {
    let mut parts: Vec<String> = Vec::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut has_ended = false;
    while let Some(error) = cause {
        let text = error.to_string().replace('\n', " ");
        // some libraries repeat the text of a cause in their own text
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        has_ended |= is_end_of_connection(error);
        cause = error.source();
    }
    let is_gone = error.is_connect() || (has_ended && !error.is_timeout());
    Reason { text: parts.join(": "), is_gone }
}

/// Whether an error says that the other side ended a connection.
fn is_end_of_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind;
    let of_io = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let has_ended = [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    let of_http = error.downcast_ref::<hyper::Error>();
    of_io.is_some_and(|kind| has_ended.contains(&kind))
        || of_http.is_some_and(|error| error.is_incomplete_message() || error.is_closed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let seconds = Duration::from_secs;
        for (text, pause) in [
            ("7", Some(seconds(7))),
            ("7000", Some(seconds(60))),
            ("Wed, 21 Oct 2015 07:28:09 GMT", Some(seconds(9))),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(seconds(0))),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), pause, "{text}");
        }
    }
}
