//! Arrow Flight over a real socket, by the client of arrow-flight.

use std::net::SocketAddr;

use arrow::array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{Criteria, FlightClient, FlightData, FlightDescriptor};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use joust_schema::table::Table as _;
use joust_schema::tables::Reward;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::transport::Endpoint;

use super::fixture::*;
use super::streams::{pairs, table};

/// Serves on a free port.
async fn address(server: &Server) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn connected(address: SocketAddr) -> FlightClient {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    FlightClient::new(endpoint.connect().await.unwrap())
}

/// A client of a server on a free port.
async fn client(server: &Server) -> FlightClient {
    connected(address(server).await).await
}

/// The messages of some groups of one batch each; an empty id is a batch without rows. The encoder
/// would skip those.
fn messages_of(ids: &[&str]) -> Vec<FlightData> {
    let batches = ids.iter().map(|id| match *id {
        "" => table(&[], None),
        id => table(&[id], None),
    });
    let batches: Vec<_> = batches.collect();
    let mut parts = batches_to_flight_data(&batches[0].schema(), batches).unwrap();
    parts[0].flight_descriptor = score();
    parts
}

/// Messages of an exchange that are sent one by one.
fn sent_by_hand() -> (
    mpsc::UnboundedSender<FlightData>,
    impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static,
) {
    let (send, receive) = mpsc::unbounded_channel::<FlightData>();
    let messages =
        stream::unfold(receive, |mut receive| async { Some((Ok(receive.recv().await?), receive)) });
    (send, messages)
}

/// Exchanges batches, and says how the exchange ended.
async fn exchange(
    client: &mut FlightClient,
    descriptor: Option<FlightDescriptor>,
    batches: impl Stream<Item = RecordBatch> + Send + 'static,
) -> (Vec<RecordBatch>, Result<(), (Code, String)>) {
    let messages = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(descriptor)
        .with_max_flight_data_size(usize::MAX)
        .build(batches.map(Ok));
    let ended = |error: FlightError| match error {
        FlightError::Tonic(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    };
    let mut answers = match client.do_exchange(messages).await {
        Ok(answers) => answers,
        Err(error) => return (Vec::new(), Err(ended(error))),
    };
    let mut seen = Vec::new();
    loop {
        match answers.try_next().await {
            Ok(Some(batch)) => seen.push(batch),
            Ok(None) => return (seen, Ok(())),
            Err(error) => return (seen, Err(ended(error))),
        }
    }
}

fn score() -> Option<FlightDescriptor> {
    Some(FlightDescriptor::new_cmd("score"))
}

#[tokio::test]
async fn do_exchange_answers_completions_with_rewards() {
    let mut client = client(&running(Box::<RuleJudge>::default(), |_| {})).await;
    for descriptor in [score(), Some(FlightDescriptor::new_path(vec!["score".to_owned()]))] {
        let batches = [table(&["a", "b"], None), table(&["c", "d", "e"], None)];
        let (seen, end) = exchange(&mut client, descriptor, stream::iter(batches)).await;
        assert_eq!(end, Ok(()));
        assert_eq!(seen[0].schema(), Reward::schema());
        let pairs = pairs(&seen);
        assert_eq!(pairs.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
        assert!(pairs.values().all(|pair| pair[0] > pair[1]), "{pairs:?}");
    }
    // a message larger than the default limit of gRPC
    let long = "x".repeat(3 << 20);
    let (seen, end) = exchange(&mut client, score(), stream::iter([table(&[&long], None)])).await;
    assert_eq!(end, Ok(()));
    assert_eq!(pairs(&seen).len(), 1);
    // a table without groups
    let (seen, end) = exchange(&mut client, score(), stream::iter([table(&[], None)])).await;
    assert_eq!((pairs(&seen).len(), end), (0, Ok(())));

    assert_eq!(client.get_schema(score().unwrap()).await.unwrap(), *Reward::schema());
    let listed = client.list_flights(Criteria::default().expression).await.unwrap();
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    assert_eq!(listed[0].flight_descriptor, score());
    assert_eq!(client.get_flight_info(score().unwrap()).await.unwrap(), listed[0]);
}

#[tokio::test]
async fn do_exchange_answers_a_group_before_the_next_is_sent() {
    let mut client = client(&running(Box::<RuleJudge>::default(), |_| {})).await;
    let (send, messages) = sent_by_hand();
    let mut parts = messages_of(&["a", "", "b", "", "c"]).into_iter();
    let mut send_next = |n| parts.by_ref().take(n).for_each(|part| send.send(part).unwrap());
    send_next(3);
    let mut answers = client.do_exchange(messages).await.unwrap();
    for now in ["a", "b"] {
        let batch = answers.try_next().await.unwrap().unwrap();
        assert_eq!(pairs(&[batch]).keys().collect::<Vec<_>>(), [now]);
        send_next(2);
    }
    drop(send);
    let last: Vec<_> = answers.try_collect().await.unwrap();
    assert_eq!(pairs(&last).keys().collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn do_exchange_refuses_a_message_that_contradicts_itself() {
    let mut client = client(&running(Box::<RuleJudge>::default(), |_| {})).await;
    let batch = table(&["a"], None);
    let mut parts = batches_to_flight_data(&batch.schema(), vec![batch]).unwrap();
    parts[0].flight_descriptor = score();
    let mut refused = 0;
    for at in 0..parts[1].data_header.len() {
        let mut changed = parts.clone();
        let mut header = changed[1].data_header.to_vec();
        header[at] = 0x7f;
        changed[1].data_header = header.into();
        let ended = match client.do_exchange(stream::iter(changed).map(Ok)).await {
            Ok(answers) => answers.try_collect::<Vec<_>>().await.err(),
            Err(error) => Some(error),
        };
        match ended {
            Some(FlightError::Tonic(status)) => {
                assert_ne!(status.code(), Code::Internal, "byte {at}: {status}");
                assert_ne!(status.code(), Code::Unknown, "byte {at}: {status}");
                refused += usize::from(status.message().contains("contradicts itself"));
            }
            Some(error) => panic!("byte {at}: {error}"),
            None => {}
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn do_exchange_maps_problems_to_grpc_codes() {
    let server = running(Box::<RuleJudge>::default(), |_| {});
    let mut client = client(&server).await;
    let one = || stream::iter([table(&["a"], None)]);
    for descriptor in [None, Some(FlightDescriptor::new_cmd("judge"))] {
        let (_, end) = exchange(&mut client, descriptor, one()).await;
        assert_eq!(end, Err((Code::InvalidArgument, "wanted a descriptor `score`".to_owned())));
    }
    let without = table(&["a"], None).project(&[0, 1]).unwrap();
    let (seen, end) = exchange(&mut client, score(), stream::iter([without])).await;
    let missing = "column completion is missing".to_owned();
    assert_eq!((seen.len(), end), (0, Err((Code::InvalidArgument, missing))));
    let (seen, end) =
        exchange(&mut client, score(), stream::iter([table(&["a", "b"], Some(3))])).await;
    let two_prompts = "row 3: group b has two prompts".to_owned();
    assert_eq!(end, Err((Code::InvalidArgument, two_prompts)));
    assert_eq!(pairs(&seen).keys().collect::<Vec<_>>(), ["a"], "what was judged is answered");
    let error = client.do_get(arrow_flight::Ticket::new("score")).await.unwrap_err();
    assert!(matches!(error, FlightError::Tonic(status) if status.code() == Code::Unimplemented));
    // an exchange without a message does not delay the shutdown
    let mut silent = FlightClient::new_from_inner(client.inner().clone());
    let silent = tokio::spawn(async move {
        let messages = stream::pending::<RecordBatch>();
        exchange(&mut silent, None, messages).await.1
    });
    tokio::task::yield_now().await;
    server.close();
    let stops = Err((Code::Unavailable, "the server stops".to_owned()));
    assert_eq!(silent.await.unwrap(), stops);
    let (_, end) = exchange(&mut client, score(), one()).await;
    assert_eq!(end, stops);
}

/// Size of a text whose share of the memory for bodies is seen.
const LARGE: usize = 1 << 20;

#[tokio::test]
async fn do_exchange_holds_memory_for_bodies_while_a_group_is_read() {
    // the first request is always taken
    let server = running(Box::<RuleJudge>::default(), |config| config.max_body_memory = 1);
    let (mut slow, mut other) = (client(&server).await, client(&server).await);
    let (send, messages) = sent_by_hand();
    let mut parts = messages_of(&[&"a".repeat(LARGE), ""]).into_iter();
    let mut send_next = |n| parts.by_ref().take(n).for_each(|part| send.send(part).unwrap());
    send_next(2);
    let mut answers = in_time(slow.do_exchange(messages)).await.unwrap();
    until_body_bytes(&server, |n_bytes| n_bytes >= LARGE).await;
    let one = || stream::iter([table(&["b"], None)]);
    let (seen, end) = in_time(exchange(&mut other, score(), one())).await;
    let (code, reason) = end.unwrap_err();
    assert_eq!((seen.len(), code), (0, Code::ResourceExhausted), "{reason}");
    assert!(reason.contains("serve.body_mib"), "{reason}");
    let response = in_time(post(&server.router(), &group().to_string())).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    // the group is over and its client waits: nothing is held for it
    send_next(1);
    let mut n_rows = in_time(answers.try_next()).await.unwrap().unwrap().num_rows();
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
    let (seen, end) = in_time(exchange(&mut other, score(), one())).await;
    assert_eq!((seen.len(), end), (1, Ok(())));
    drop(send);
    while let Some(batch) = in_time(answers.try_next()).await.unwrap() {
        n_rows += batch.num_rows();
    }
    assert_eq!(n_rows, 2, "the group has two completions");
}

#[tokio::test]
async fn do_exchange_gives_memory_for_bodies_back_when_the_client_leaves() {
    let server = running(Box::<RuleJudge>::default(), |_| {});
    let address = address(&server).await;
    // a client of another runtime, which ends with all of its connections
    let mut away = tokio::runtime::Builder::new_multi_thread();
    let away = away.worker_threads(1).enable_all().build().unwrap();
    away.spawn(async move {
        let parts = messages_of(&[&"a".repeat(LARGE)]);
        let messages = stream::iter(parts).map(Ok).chain(stream::pending());
        let _answers = connected(address).await.do_exchange(messages).await.unwrap();
        std::future::pending::<()>().await;
    });
    until_body_bytes(&server, |n_bytes| n_bytes >= LARGE).await;
    away.shutdown_background();
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
}

#[tokio::test]
async fn do_exchange_holds_memory_for_what_has_come_of_a_message() {
    let server = running(Box::<RuleJudge>::default(), |_| {});
    // announces 16 MiB
    let begun = [&[0, 1, 0, 0, 0][..], &[0; 1000]].concat();
    let pieces = stream::iter([Ok::<_, std::io::Error>(begun)]).chain(stream::pending());
    let request = Request::post("/arrow.flight.protocol.FlightService/DoExchange")
        .header("content-type", "application/grpc")
        .body(Body::from_stream(pieces))
        .unwrap();
    let call = tokio::spawn(server.router().oneshot(request));
    until_body_bytes(&server, |n_bytes| n_bytes == 1005).await;
    call.abort();
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
}

#[tokio::test]
async fn do_exchange_requires_the_tokens_of_the_other_routes() {
    let server = running(Box::<RuleJudge>::default(), |config| {
        config.tokens = vec![BearerToken::parse("secret").unwrap()];
    });
    let mut client = client(&server).await;
    let one = || stream::iter([table(&["a"], None)]);
    let (_, end) = exchange(&mut client, score(), one()).await;
    let (code, reason) = end.unwrap_err();
    assert_eq!(code, Code::Unauthenticated);
    assert!(reason.contains("wanted a header `Authorization: Bearer TOKEN`"), "{reason}");
    client.add_header("authorization", "Bearer secret").unwrap();
    let (seen, end) = exchange(&mut client, score(), one()).await;
    assert_eq!((seen.len(), end), (1, Ok(())));
    let (_, page) = get(&server.router(), "/metrics", Some("secret")).await;
    let route = "route=\"/arrow.flight.protocol.FlightService\"";
    assert!(page.contains(route), "{page}");
}
