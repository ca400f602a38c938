//! Clients that go away, over real sockets: a member whose client gave up and asked again is one
//! member, in every protocol whose clients retry; nothing goes on for a client that has gone.

mod client;
mod frames;

use std::io::Read as _;
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary::file;
use crate::serving::Server;
use client::{TrainerRequest, WaitingClient};
use frames::Http2;

/// Longest time for anything that should happen soon.
const LIMIT: Duration = Duration::from_secs(60);

/// A server whose judge knows the answer.
fn start(more: &[&str]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let collect = ["serve.group_size=3", "serve.collect_s=300"];
    Server::with_config(std::path::Path::new(&config), &[&collect, more].concat())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until as many requests wait for the rest of their group.
fn until_waiting(server: &Server, wanted: u64) {
    let mut seen = Value::Null;
    until(&format!("{wanted} requests wait, last seen {seen}"), || {
        seen = server.request("GET /health", "").1;
        seen["waiting_completions"] == wanted
    });
}

/// A protocol of single completions, as its trainer's client speaks it.
struct TrainerProtocol {
    name: &'static str,
    route: &'static str,
    /// The body of a completion of the prompt `2+2?`.
    body: fn(prompt: &str, said: &str) -> Value,
    /// The reward in an answer.
    reward: fn(&Value) -> Option<f64>,
}

const PROTOCOLS: [TrainerProtocol; 4] = [
    TrainerProtocol {
        name: "openrlhf",
        route: "/get_reward",
        body: |prompt, said| {
            let query = format!("{prompt} {said}");
            json!({"query": [query], "prompts": [prompt], "labels": ["4"]})
        },
        reward: |answer| answer["rewards"][0].as_f64(),
    },
    TrainerProtocol {
        name: "slime",
        route: "/remote_rm",
        body: |prompt, said| json!({"prompt": prompt, "response": said, "label": "4"}),
        reward: Value::as_f64,
    },
    TrainerProtocol {
        name: "verl",
        route: "/remote_rm?key=score",
        body: |prompt, said| {
            let prompt = json!([{"role": "user", "content": prompt}]);
            json!({"prompt": prompt, "response": said, "label": "4"})
        },
        reward: |answer| answer["score"].as_f64(),
    },
    TrainerProtocol {
        name: "nemo-gym",
        route: "/verify",
        body: |prompt, said| {
            let said = json!([{"type": "output_text", "text": said, "annotations": []}]);
            let output = json!([{"type": "message", "role": "assistant", "content": said}]);
            json!({"responses_create_params": {"input": prompt}, "response": {"output": output}})
        },
        // without a known answer the rule judge has no votes, but the group is whole
        reward: |answer| Some(f64::from(answer["_ng_failure_class"] == "judge_failed")),
    },
];

/// Headers of the tries of one completion: none, the id that stays, the id that a proxy gives.
const HEADERS: [fn(said: &str, attempt: usize) -> Option<String>; 3] = [
    |_, _| None,
    |said, _| Some(said.to_owned()),
    |said, attempt| Some(format!("{said} {attempt}")),
];

/// A request of a completion.
fn ask(
    protocol: &TrainerProtocol,
    prompt: &str,
    (said, attempt): (&str, usize),
    id: fn(&str, usize) -> Option<String>,
) -> TrainerRequest {
    let headers = id(said, attempt).map(|id| ("x-request-id".to_owned(), id));
    let body = (protocol.body)(prompt, said).to_string();
    TrainerRequest {
        route: protocol.route.to_owned(),
        headers: headers.into_iter().collect(),
        body,
    }
}

fn check_rewards(protocol: &TrainerProtocol, what: &str, members: Vec<WaitingClient>) {
    let rewards: Vec<Option<f64>> = members
        .into_iter()
        .map(|member| {
            let (status, answer) = member.answer();
            assert_eq!(status, 200, "{} {what}: {answer}", protocol.name);
            (protocol.reward)(&answer)
        })
        .collect();
    assert!(rewards[0] > rewards[1] || protocol.name == "nemo-gym", "{what}: {rewards:?}");
    assert!(rewards.iter().all(Option::is_some), "{} {what}: {rewards:?}", protocol.name);
}

#[test]
fn http1_member_whose_client_gave_up_and_retried_is_one_member() {
    let server = start(&["serve.settle_s=250"]);
    for protocol in &PROTOCOLS {
        for (at, id) in HEADERS.into_iter().enumerate() {
            let prompt = format!("{} {at}: 2+2?", protocol.name);
            let send = |said, attempt| {
                WaitingClient::send(&server.address, &ask(protocol, &prompt, (said, attempt), id))
            };
            // gave up, was seen to have gone, retried, three times
            for attempt in 0..3 {
                let gone = send("4", attempt);
                until_waiting(&server, 1);
                drop(gone);
                until_waiting(&server, 0);
            }
            // the retry comes before the connection of the try before it is closed
            let unseen = send("4", 3);
            until_waiting(&server, 1);
            let right = send("4", 4);
            let wrong = send("5", 0);
            until_waiting(&server, 3);
            drop(unseen);
            until_waiting(&server, 2);
            let last = send("22", 0);
            check_rewards(protocol, &format!("headers {at}"), vec![right, wrong, last]);
            assert_eq!(server.request("GET /health", "").1["open_cohorts"], 0);
        }
    }
}

#[test]
fn http2_member_whose_client_gave_up_and_retried_is_one_member() {
    let server = start(&["serve.settle_s=250"]);
    for protocol in &PROTOCOLS {
        for (at, id) in HEADERS.into_iter().enumerate() {
            let prompt = format!("{} {at}: 2+2?", protocol.name);
            let ask = |said, attempt| ask(protocol, &prompt, (said, attempt), id);
            // a stream that is reset and one whose connection is closed
            let mut connection = Http2::connect(&server.address);
            let reset = connection.send(&ask("4", 0));
            until_waiting(&server, 1);
            connection.reset(reset);
            until_waiting(&server, 0);
            connection.send(&ask("4", 1));
            until_waiting(&server, 1);
            drop(connection);
            until_waiting(&server, 0);
            // the retry comes before the reset
            let mut connection = Http2::connect(&server.address);
            let unseen = connection.send(&ask("4", 2));
            let right = connection.send(&ask("4", 3));
            let wrong = connection.send(&ask("5", 0));
            until_waiting(&server, 3);
            connection.reset(unseen);
            until_waiting(&server, 2);
            let last = connection.send(&ask("22", 0));
            let mut answers = connection.answers(3);
            let mut reward = |stream| {
                let (status, body) = answers.remove(&stream).unwrap();
                assert_eq!(status, 200, "{} {at}: {body}", protocol.name);
                (protocol.reward)(&body)
            };
            let rewards = [right, wrong, last].map(&mut reward);
            assert!(rewards[0] > rewards[1] || protocol.name == "nemo-gym", "{rewards:?}");
        }
    }
}

#[test]
fn http2_members_of_a_large_group_wait_together_on_one_connection() {
    // more than the 200 streams that HTTP libraries allow by default
    const SIZE: usize = 300;
    let server = start(&[&format!("serve.group_size={SIZE}")]);
    let [_, slime, ..] = &PROTOCOLS;
    let mut connection = Http2::connect(&server.address);
    assert!(connection.max_streams as usize >= SIZE, "{}", connection.max_streams);
    for at in 0..SIZE {
        connection.send(&ask(slime, "2+2?", (&at.to_string(), 0), |_, _| None));
    }
    let answers = connection.answers(SIZE);
    for (stream, (status, answer)) in &answers {
        assert_eq!(*status, 200, "{stream}: {answer}");
        assert!((slime.reward)(answer).is_some(), "{stream}: {answer}");
    }
}

#[test]
fn equal_completions_of_clients_that_wait_are_different_members() {
    let server = start(&["serve.settle_s=0.1"]);
    // without an id, and with ids that differ
    for (at, id) in [HEADERS[0], HEADERS[2]].into_iter().enumerate() {
        let prompt = format!("{at}: 2+2?");
        let [openrlhf, ..] = &PROTOCOLS;
        let send = |said, attempt| {
            WaitingClient::send(&server.address, &ask(openrlhf, &prompt, (said, attempt), id))
        };
        check_rewards(openrlhf, "equal", vec![send("4", 0), send("5", 0), send("4", 1)]);
        // a group of one text, of three clients
        let members: Vec<WaitingClient> = (0..3).map(|attempt| send("9", attempt)).collect();
        for member in members {
            let (status, answer) = member.answer();
            assert_eq!((status, &answer["rewards"]), (200, &json!([0.5])), "{answer}");
        }
    }
}

/// OpenRLHF's client in small: a short time limit, and a new connection for each retry.
#[test]
fn late_member_is_judged_with_the_others_however_often_they_retry() {
    let server = start(&["serve.group_size=4", "serve.settle_s=0.5"]);
    let [openrlhf, ..] = &PROTOCOLS;
    let is_first_gone = std::sync::atomic::AtomicBool::new(false);
    let ask_until_answered = |said: &'static str, is_late: bool| {
        if is_late {
            until("a client gives up", || is_first_gone.load(std::sync::atomic::Ordering::Relaxed));
        }
        let end = Instant::now() + LIMIT;
        loop {
            let request = ask(openrlhf, "2+2?", (said, 0), HEADERS[0]);
            let waiting = WaitingClient::send(&server.address, &request);
            if let Some((status, answer)) = waiting.answer_within(Duration::from_millis(700)) {
                assert_eq!(status, 200, "{answer}");
                return answer["rewards"][0].as_f64().unwrap();
            }
            is_first_gone.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(Instant::now() < end, "no answer for {said}");
        }
    };
    let ask = &ask_until_answered;
    let rewards: Vec<f64> = std::thread::scope(|scope| {
        let members = [("4", false), ("5", false), ("22", false), ("is 4", true)];
        let members = members.map(|(said, is_late)| scope.spawn(move || ask(said, is_late)));
        members.into_iter().map(|member| member.join().unwrap()).collect()
    });
    let (right, wrong) = (rewards[0].min(rewards[3]), rewards[1].max(rewards[2]));
    assert!(right > wrong, "{rewards:?}");
}

/// The group is judged between the end of a client's connection and the moment at which its request
/// is given up, or after it: no answer is lost to a socket that is closed.
#[test]
fn client_that_goes_as_its_group_is_judged_finds_its_answer() {
    let server = start(&[]);
    // without a known answer the judge fails for the whole group, and a retry begins another one
    let [judged @ .., _nemo_gym] = &PROTOCOLS;
    for (protocol, round) in judged.iter().flat_map(|it| (0..4).map(move |round| (it, round))) {
        let prompt = format!("{} {round}: 2+2?", protocol.name);
        let send = |said| {
            let request = ask(protocol, &prompt, (said, 0), HEADERS[0]);
            WaitingClient::send(&server.address, &request)
        };
        let (gone, wrong) = (send("4"), send("5"));
        until_waiting(&server, 2);
        drop(gone);
        std::thread::sleep(Duration::from_millis(50));
        let last = send("22");
        let others = [last.answer(), wrong.answer()];
        assert!(others.iter().all(|(status, _)| *status == 200), "{others:?}");
        let again = send("4").answer_within(LIMIT);
        let (status, answer) = again.expect("the answer of the group that was judged");
        let reward = (protocol.reward)(&answer);
        assert!(status == 200 && reward > (protocol.reward)(&others[0].1), "{answer}");
        assert_eq!(server.request("GET /health", "").1["open_cohorts"], 0);
    }
}

#[test]
fn client_that_pipelines_or_closes_its_sending_side_has_gone() {
    let server = start(&[]);
    let [openrlhf, ..] = &PROTOCOLS;
    let request = ask(openrlhf, "2+2?", ("4", 0), HEADERS[0]);
    // bytes behind the request: the line end of an old library, another request
    for behind in ["\r\n", "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let waiting = WaitingClient::send_with(&server.address, &request, behind);
        until_waiting(&server, 1);
        drop(waiting);
        until_waiting(&server, 0);
    }
    let waiting = WaitingClient::send(&server.address, &request);
    until_waiting(&server, 1);
    waiting.stream.shutdown(Shutdown::Write).unwrap();
    until_waiting(&server, 0);
    // but a quick answer reaches it
    let mut probe = std::net::TcpStream::connect(&server.address).unwrap();
    let bytes = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut probe, bytes).unwrap();
    probe.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn abandoned_chats_end_and_jobs_that_nobody_else_wants_are_cancelled() {
    // a judge that takes requests and never answers
    let judge = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", judge.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[reward.judge]\nkind = \"http\"\nurls = [\"{url}\"]\nmodel = \"silent\"\ntries = 1\n"
    );
    let config = file(dir.path(), "silent.toml", &text);
    let (calls, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in judge.incoming().map_while(Result::ok) {
            let calls = calls.clone();
            std::thread::spawn(move || call(stream, &calls));
        }
    });
    let server = Server::with_config(std::path::Path::new(&config), &[]);
    let request = |route: &str, body: Value| TrainerRequest {
        route: route.to_owned(),
        headers: Vec::new(),
        body: body.to_string(),
    };
    let open = || server.request("GET /health", "").1["open_groups"].clone();
    let chat = json!({"messages": [{"role": "user", "content": "Are you there?"}]});
    let waiting = WaitingClient::send(&server.address, &request("/v1/chat/completions", chat));
    let call = received.recv_timeout(LIMIT).unwrap();
    assert!(matches!(call, JudgeCall::Began(text) if text.contains("Are you there?")));
    assert_eq!(open(), 1);
    drop(waiting);
    until("the chat is over", || open() == 0);
    // the judge's server is told
    assert!(matches!(received.recv_timeout(LIMIT).unwrap(), JudgeCall::Ended));

    let group = json!({"prompt": "2+2?", "completions": ["4", "5"], "votes": 1});
    let waiting = WaitingClient::send(&server.address, &request("/v1/score_group", group.clone()));
    assert!(matches!(received.recv_timeout(LIMIT).unwrap(), JudgeCall::Began(_)));
    let (status, job) = server.request("POST /v1/jobs", &group.to_string());
    assert_eq!(status, 202, "{job}");
    let delete = format!("DELETE /v1/jobs/{}", job["job_id"].as_str().unwrap());
    let (status, refused) = server.request(&delete, "");
    assert_eq!(status, 409, "{refused}");
    drop(waiting);
    until("the job is cancelled", || server.request(&delete, "").0 == 200);
    assert!(matches!(received.recv_timeout(LIMIT).unwrap(), JudgeCall::Ended));
    assert_eq!(open(), 0);
}

/// What the silent judge sees of a call.
enum JudgeCall {
    Began(String),
    Ended,
}

/// Reads calls of a connection; other requests than votes and chats are not found.
fn call(mut stream: std::net::TcpStream, calls: &std::sync::mpsc::Sender<JudgeCall>) {
    let mut bytes = Vec::new();
    let mut is_open = false;
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).unwrap_or(0);
        if n == 0 {
            if is_open {
                let _ = calls.send(JudgeCall::Ended);
            }
            return;
        }
        bytes.extend(&piece[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("POST /v1/chat/completions") {
            let none = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, none);
            return;
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1);
        let length: usize = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        if !is_open && body.len() >= length {
            is_open = true;
            let _ = calls.send(JudgeCall::Began(body.to_owned()));
        }
    }
}
