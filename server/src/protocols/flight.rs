//! Arrow Flight: tables of completions in, tables of rewards out, over gRPC on the port of the
//! other routes.
//!
//! `DoExchange` with the descriptor `score` (a command or a path). The methods for data stored on a
//! server are not implemented.

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::{MethodRouter, any_service};
use futures_util::FutureExt as _;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use joust_schema::table::Table as _;
use joust_schema::tables::Reward;
use tonic::{Code, Request, Response, Status, Streaming};

use super::group_stream::{self, Answering, StreamEvent};
use super::{grpc_body, ipc, streams};
use crate::body_budget::BodyHolder;
use crate::client::Client;
use crate::input::MAX_BODY_BYTES;
use crate::problem::Problem;
use crate::state::ServerState;

/// Paths of the service's methods.
pub(crate) const ROUTE: &str = "/arrow.flight.protocol.FlightService/{method}";

/// Descriptor of the exchange.
const SCORE: &str = "score";

/// The Flight service.
pub(crate) struct Flight(ServerState);

/// The service, as axum takes it. Messages have a share of the memory for bodies while they are
/// read, whatever the method.
pub(crate) fn service(state: ServerState) -> MethodRouter<ServerState> {
    let service = FlightServiceServer::new(Flight(state.clone()))
        .max_decoding_message_size(MAX_BODY_BYTES)
        .max_encoding_message_size(MAX_BODY_BYTES);
    any_service(service).layer(middleware::from_fn_with_state(state, count_body))
}

/// Has the body of a request counted; the request's holder is among its extensions then.
async fn count_body(
    State(state): State<ServerState>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let client = request.extensions().get::<Client>().cloned().unwrap_or_default();
    let holder = state.bodies.holder(&client);
    let share = holder.share();
    request.extensions_mut().insert(holder);
    next.run(request.map(|body| grpc_body::counted(body, share))).await
}

/// A problem as a gRPC response, for refusals before the service is called.
pub(crate) fn refused(problem: Problem) -> HttpResponse {
    Status::from(problem).into_http::<axum::body::Body>().into_response()
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match problem.code() {
            400 | 415 | 422 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::NotFound,
            405 => Code::Unimplemented,
            408 | 504 => Code::DeadlineExceeded,
            409 | 410 => Code::FailedPrecondition,
            413 | 429 | 507 => Code::ResourceExhausted,
            503 => Code::Unavailable,
            _ => Code::Internal,
        };
        Self::new(code, problem.to_string())
    }
}

/// The problem of a message that cannot be decoded.
fn decode_problem(error: FlightError) -> Problem {
    match error {
        FlightError::Tonic(status) => match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => {
                Problem::TooLarge(status.message().to_owned())
            }
            _ => Problem::Malformed(status.message().to_owned()),
        },
        error => Problem::Malformed(error.to_string()),
    }
}

/// Refuses any descriptor but [`SCORE`].
fn check_descriptor(descriptor: Option<&FlightDescriptor>) -> Result<(), Status> {
    let wanted = || Status::invalid_argument(format!("wanted a descriptor `{SCORE}`"));
    let descriptor = descriptor.ok_or_else(wanted)?;
    let is_score = descriptor.cmd == SCORE || descriptor.path == [SCORE];
    if is_score { Ok(()) } else { Err(wanted()) }
}

/// Description of the exchange: its descriptor and the columns of its answer.
fn flight_info() -> Result<FlightInfo, Status> {
    let info = FlightInfo::new().with_descriptor(FlightDescriptor::new_cmd(SCORE));
    info.try_with_schema(&Reward::schema()).map_err(|error| Status::internal(error.to_string()))
}

/// The batches in Flight's messages; one without rows if there is none, so that its columns are
/// checked.
fn batches(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
) -> impl Stream<Item = Result<RecordBatch, Problem>> + Send {
    // a message may have metadata only
    let with_data = messages.try_filter(|message| {
        let has_data = !message.data_header.is_empty();
        async move { has_data }
    });
    let decoded = FlightRecordBatchStream::new_from_flight_data(with_data.map_err(Into::into));
    stream::unfold((decoded, 0_usize), |(mut decoded, n_batches)| async move {
        // a problem ends the exchange: after a panic the decoder is not used again
        let next = AssertUnwindSafe(decoded.next()).catch_unwind().await;
        let contradiction = || Some(Err(Problem::Malformed(ipc::CONTRADICTION.to_owned())));
        let next = next.map(|next| next.map(|batch| batch.map_err(decode_problem)));
        let batch = match next.unwrap_or_else(|_| contradiction()) {
            Some(batch) => batch,
            None if n_batches > 0 => return None,
            None => match decoded.schema() {
                Some(schema) => Ok(RecordBatch::new_empty(schema.clone())),
                None => Err(Problem::Malformed("there is no schema".to_owned())),
            },
        };
        Some((batch, (decoded, n_batches + 1)))
    })
}

type FlightResult<T> = Result<Response<T>, Status>;
type FlightStream<T> = BoxStream<'static, Result<T, Status>>;

fn not_offered<T>(what: &str) -> FlightResult<T> {
    Err(Status::unimplemented(format!("no {what} here, only DoExchange with `{SCORE}`")))
}

#[tonic::async_trait]
impl FlightService for Flight {
    type HandshakeStream = FlightStream<HandshakeResponse>;
    type ListFlightsStream = FlightStream<FlightInfo>;
    type DoGetStream = FlightStream<FlightData>;
    type DoPutStream = FlightStream<PutResult>;
    type DoExchangeStream = FlightStream<FlightData>;
    type DoActionStream = FlightStream<arrow_flight::Result>;
    type ListActionsStream = FlightStream<ActionType>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> FlightResult<Self::DoExchangeStream> {
        let client = request.extensions().get::<Client>().cloned().unwrap_or_default();
        let holder = request.extensions().get::<BodyHolder>().cloned();
        let holder = holder.unwrap_or_else(|| self.0.bodies.holder(&client));
        let mut messages = request.into_inner();
        let limit = self.0.scorer.config.timeout;
        let first = tokio::select! {
            biased;
            () = self.0.until_closing() => return Err(Problem::ServerStopping.into()),
            first = tokio::time::timeout(limit, messages.message()) => {
                first.map_err(|_| Problem::BodyTimeout(limit))??
            }
        };
        check_descriptor(first.as_ref().and_then(|first| first.flight_descriptor.as_ref()))?;
        let messages = stream::iter(first.map(Ok)).chain(messages);
        let answering = Answering {
            answer: |labels, result| streams::reward_batch(&labels, result),
            n_bytes: RecordBatch::get_array_memory_size,
        };
        let groups = streams::groups_of_batches(batches(messages), holder.share());
        let events = group_stream::answers(self.0.clone(), client, groups, answering);
        let rewards = events.filter_map(|event| async {
            match event {
                StreamEvent::Answer(batch) => Some(Ok(batch)),
                StreamEvent::End(Ok(())) => None,
                StreamEvent::End(Err(why)) => Some(Err(FlightError::from(Status::from(why)))),
            }
        });
        let encoder = FlightDataEncoderBuilder::new().with_schema(Reward::schema());
        Ok(Response::new(encoder.build(rewards).map_err(Status::from).boxed()))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> FlightResult<SchemaResult> {
        check_descriptor(Some(request.get_ref()))?;
        let schema = SchemaResult::try_from(SchemaAsIpc::new(
            &Reward::schema(),
            &arrow::ipc::writer::IpcWriteOptions::default(),
        ));
        Ok(Response::new(schema.map_err(|error| Status::internal(error.to_string()))?))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> FlightResult<FlightInfo> {
        check_descriptor(Some(request.get_ref()))?;
        Ok(Response::new(flight_info()?))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> FlightResult<Self::ListFlightsStream> {
        Ok(Response::new(stream::iter([flight_info()]).boxed()))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> FlightResult<Self::HandshakeStream> {
        not_offered("Handshake")
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> FlightResult<PollInfo> {
        not_offered("PollFlightInfo")
    }

    async fn do_get(&self, _: Request<Ticket>) -> FlightResult<Self::DoGetStream> {
        not_offered("DoGet")
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> FlightResult<Self::DoPutStream> {
        not_offered("DoPut")
    }

    async fn do_action(&self, _: Request<Action>) -> FlightResult<Self::DoActionStream> {
        not_offered("DoAction")
    }

    async fn list_actions(&self, _: Request<Empty>) -> FlightResult<Self::ListActionsStream> {
        not_offered("ListActions")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn problems_have_the_grpc_code_of_their_http_status() {
        let text = || "why".to_owned();
        let in_group = Problem::Cancelled.in_group(&"g");
        let cases = [
            (Problem::Malformed(text()), Code::InvalidArgument),
            (Problem::Unauthorized, Code::Unauthenticated),
            (Problem::FromPage(text()), Code::PermissionDenied),
            (Problem::NotFound(text()), Code::NotFound),
            (Problem::WrongMethod, Code::Unimplemented),
            (Problem::BodyTimeout(Duration::ZERO), Code::DeadlineExceeded),
            (Problem::Cancelled, Code::FailedPrecondition),
            (in_group, Code::FailedPrecondition),
            (Problem::GroupClosed, Code::FailedPrecondition),
            (Problem::TooLarge(text()), Code::ResourceExhausted),
            (Problem::UnsupportedType(text()), Code::InvalidArgument),
            (Problem::Invalid(text()), Code::InvalidArgument),
            (Problem::TooManyCohorts, Code::ResourceExhausted),
            (Problem::ServerStopping, Code::Unavailable),
            (Problem::TooLate(text()), Code::DeadlineExceeded),
            (Problem::NotRecorded(text()), Code::ResourceExhausted),
            (Problem::Internal(text()), Code::Internal),
        ];
        for (problem, code) in cases {
            let words = problem.to_string();
            let status = Status::from(problem);
            assert_eq!((status.code(), status.message()), (code, &words[..]));
        }
    }
}
