//! Why a request has no result, and the one table from that to HTTP.
//!
//! Knows no protocol. A protocol with an envelope of its own (NeMo-Gym, Flight, JSON lines) maps a
//! `Problem` to it.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

/// Maximum length of a problem in the status line.
const MAX_PHRASE: usize = 240;

/// Why a request has no result. [`Problem::http`] gives each its status.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Problem {
    /// The body is not JSON, not an Arrow stream, or breaks off.
    #[error("{0}")]
    Malformed(String),
    /// Tokens are configured, and the request has none of them.
    #[error("wanted a header `Authorization: Bearer TOKEN` with a token of this server")]
    Unauthorized,
    /// A web page sent the request, or may have sent it.
    #[error("{0}")]
    FromPage(String),
    /// No such route or job.
    #[error("{0}")]
    NotFound(String),
    /// The request names another model than the judge's.
    #[error("the model `{given}` does not exist; this server has `{known}`")]
    NoSuchModel {
        /// The name in the request.
        given: String,
        /// Name of the judge's model.
        known: String,
    },
    /// The route exists for another method.
    #[error("the route wants another method; see /docs")]
    WrongMethod,
    /// The client took too long to send the body.
    #[error("the body did not come within {0:?}")]
    BodyTimeout(Duration),
    /// The judging of the group was cancelled.
    #[error("the group's judging was cancelled")]
    Cancelled,
    /// The group cannot be cancelled: this number of other requests or jobs want its result.
    #[error("others want the same group ({0}); its judging goes on")]
    StillWanted(usize),
    /// A member of this name arrived before with another completion.
    #[error("this member of the group already came with another completion")]
    MemberDiffers,
    /// The group of this name has another prompt or known answer.
    #[error("the group of this name has another prompt or another known answer")]
    QuestionDiffers,
    /// The group was judged without this member.
    #[error("the group was judged without this member; a new attempt needs a new attempt number")]
    GroupClosed,
    /// The body, a line, a batch or a group exceeds its limit.
    #[error("{0}")]
    TooLarge(String),
    /// The body has a content type that the route does not read.
    #[error("{0}")]
    UnsupportedType(String),
    /// The body has a content encoding, such as gzip.
    #[error("content-encoding is `{0}`, wanted a body without one")]
    UnsupportedEncoding(String),
    /// The request is not valid, or the judge refuses it and would again.
    #[error("{0}")]
    Invalid(String),
    /// Admission control: no room in the queue before the judge.
    #[error("{reason}; try again later")]
    QueueFull {
        /// The limit that is reached.
        reason: String,
        /// Time after which a retry may succeed.
        after: Duration,
    },
    /// As many cohorts are open as `serve.max_cohorts` allows.
    #[error("too many open groups (limit: serve.max_cohorts); try again later")]
    TooManyCohorts,
    /// The completions that wait for their groups take as much memory as they may.
    #[error(
        "the completions that wait for their groups take their {} MiB (limit: serve.body_mib); \
         try again later",
        limit >> 20
    )]
    TooManyBytes {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bodies that are read take as much memory as they may.
    #[error(
        "the requests that are read take their {} MiB (limit: serve.body_mib); try again later",
        limit >> 20
    )]
    TooManyBodies {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The server shuts down.
    #[error("the server stops")]
    ServerStopping,
    /// The judge thread has ended.
    #[error("the judge has stopped")]
    JudgeStopped,
    /// The server runs and takes no requests now.
    #[error("{0}")]
    NotReady(String),
    /// The judge failed; a retry is judged again.
    #[error("{0}")]
    JudgeFailed(String),
    /// The judge gave no valid vote; a retry finds the same cached result.
    #[error("{0}")]
    NoVotes(String),
    /// The cohort was given up before it had a result; a retry begins a new one.
    #[error("{0}")]
    GivenUp(String),
    /// No result within the time limit; the judging goes on, and a retry finds it.
    #[error("{0}")]
    TooLate(String),
    /// The cohort was not complete in time.
    #[error("{seen} of {wanted} members of the group came within {within:?}")]
    Incomplete {
        /// Number of members that came.
        seen: usize,
        /// Number of members of a complete group.
        wanted: usize,
        /// The time limit.
        within: Duration,
    },
    /// As `Incomplete`, under the policy to answer without a reward.
    #[error("the group was not complete in time")]
    Masked,
    /// A problem of one group of a stream.
    #[error("group {group_id}: {problem}")]
    InGroup {
        /// The client's name of the group.
        group_id: String,
        /// The problem of that group.
        problem: Box<Problem>,
    },
    /// What must be on disk is not: the disk is full, or fails.
    #[error("{0}")]
    NotRecorded(String),
    /// An internal failure.
    #[error("{0}")]
    Internal(String),
}

impl Problem {
    /// The table: HTTP status, and the time after which a retry may succeed (`Retry-After`).
    fn http(&self) -> (StatusCode, Option<Duration>) {
        const SOON: Option<Duration> = Some(Duration::from_secs(1));
        const LATER: Option<Duration> = Some(Duration::from_secs(10));
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, None),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, None),
            Self::FromPage(_) => (StatusCode::FORBIDDEN, None),
            Self::NotFound(_) | Self::NoSuchModel { .. } => (StatusCode::NOT_FOUND, None),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, None),
            Self::BodyTimeout(_) => (StatusCode::REQUEST_TIMEOUT, None),
            Self::Cancelled
            | Self::StillWanted(_)
            | Self::MemberDiffers
            | Self::QuestionDiffers => (StatusCode::CONFLICT, None),
            Self::GroupClosed => (StatusCode::GONE, None),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::UnsupportedType(_) | Self::UnsupportedEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, None)
            }
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, None),
            Self::QueueFull { after, .. } => (StatusCode::TOO_MANY_REQUESTS, Some(*after)),
            Self::TooManyCohorts | Self::TooManyBytes { .. } | Self::TooManyBodies { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, SOON)
            }
            Self::ServerStopping | Self::JudgeFailed(_) | Self::GivenUp(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, SOON)
            }
            Self::JudgeStopped | Self::NotReady(_) | Self::NoVotes(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, None)
            }
            Self::TooLate(_) | Self::Incomplete { .. } | Self::Masked => {
                (StatusCode::GATEWAY_TIMEOUT, SOON)
            }
            Self::InGroup { problem, .. } => match problem.http() {
                // a stream that failed before its first answer may be sent again as a whole
                (StatusCode::SERVICE_UNAVAILABLE, retry_after) => {
                    (StatusCode::SERVICE_UNAVAILABLE, retry_after.or(SOON))
                }
                http => http,
            },
            Self::NotRecorded(_) => (StatusCode::INSUFFICIENT_STORAGE, LATER),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }

    /// The problem's name, for programs.
    fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Unauthorized => "unauthorized",
            Self::FromPage(_) => "from_page",
            Self::NotFound(_) => "not_found",
            Self::NoSuchModel { .. } => "model_not_found",
            Self::WrongMethod => "wrong_method",
            Self::BodyTimeout(_) => "body_timeout",
            Self::Cancelled => "cancelled",
            Self::StillWanted(_) => "still_wanted",
            Self::MemberDiffers => "member_differs",
            Self::QuestionDiffers => "question_differs",
            Self::GroupClosed => "group_closed",
            Self::TooLarge(_) => "too_large",
            Self::UnsupportedType(_) => "unsupported_type",
            Self::UnsupportedEncoding(_) => "unsupported_encoding",
            Self::Invalid(_) => "invalid",
            Self::QueueFull { .. } => "queue_full",
            Self::TooManyCohorts => "too_many_groups",
            Self::TooManyBytes { .. } | Self::TooManyBodies { .. } => "no_memory",
            Self::ServerStopping => "server_stopping",
            Self::JudgeStopped => "judge_stopped",
            Self::NotReady(_) => "not_ready",
            Self::JudgeFailed(_) | Self::GivenUp(_) => "judge_failed",
            Self::NoVotes(_) => "no_votes",
            Self::TooLate(_) => "too_late",
            Self::Incomplete { .. } => "incomplete_group",
            Self::Masked => "masked",
            Self::InGroup { problem, .. } => problem.name(),
            Self::NotRecorded(_) => "not_recorded",
            Self::Internal(_) => "internal",
        }
    }

    /// The problem as JSON, in the form of OpenAI's clients: the member `error` of a body.
    pub(crate) fn as_error(&self) -> Value {
        let kind = match self.code() {
            401 => "authentication_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            409 | 410 => "conflict_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"message": self.to_string(), "type": kind, "code": self.name(), "param": null})
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.http().0
    }

    /// The HTTP status as a number, for envelopes other than HTTP.
    pub(crate) fn code(&self) -> u16 {
        self.status().as_u16()
    }

    /// This problem as that of the group `group_id` of a stream.
    pub(crate) fn in_group(self, group_id: &impl ToString) -> Self {
        Self::InGroup { group_id: group_id.to_string(), problem: Box::new(self) }
    }

    /// The problem for the status line of HTTP/1.1: clients that do not read the body of an error
    /// (aiohttp's and requests' `raise_for_status`) show it.
    fn reason_phrase(&self) -> Option<ReasonPhrase> {
        let visible = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        let text: String = self.to_string().chars().take(MAX_PHRASE).map(visible).collect();
        ReasonPhrase::try_from(text.as_bytes()).ok()
    }

    /// The response, with a body of the protocol's own.
    pub(crate) fn response_with(&self, body: Value) -> Response {
        let (status, retry_after) = self.http();
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(after) = retry_after {
            let seconds = after.as_secs_f64().ceil() as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self, Self::UnsupportedEncoding(_)) {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(phrase) = self.reason_phrase() {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response_with(json!({ "error": self.as_error() }))
    }
}

/// Meaning of a status in the OpenAPI document.
pub(crate) fn meaning(status: u16) -> &'static str {
    match status {
        400 => "The body is not JSON.",
        401 => "Tokens are configured and the request has none of them.",
        403 => "A web page sent the request, or may have sent it (servers without tokens).",
        404 => "No such job or model.",
        408 => "The body took too long.",
        409 => {
            "The member already came with another completion, the judging was cancelled, or others \
             want the job that is to be cancelled."
        }
        410 => "The group was judged without this member.",
        413 => "The body is too large.",
        415 => "The body has another content type, or a content encoding.",
        422 => "The request is not valid, or the judge refuses it.",
        429 => "The queue is full.",
        503 => "The judge failed, or the judge or the server stops.",
        507 => "The job could not be recorded: the disk is full, or fails.",
        504 => "No result, or no complete group, in time.",
        _ => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("See the documentation."),
    }
}
