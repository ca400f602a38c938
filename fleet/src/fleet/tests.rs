//! Calls to servers on sockets: slow, gone, and in a hurry.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::call::BadAnswer;
use crate::config::OddNumbers;

/// Time after which a test has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// A server that gives each request the same answer after a while.
struct SlowServer {
    url: String,
    n_calls: Arc<AtomicUsize>,
}

/// Reads a request to its end, and gives its body.
fn read_request(stream: &TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8(body).unwrap())
}

/// `head` is the status and headers of the answer, each with the end of its line.
fn server(delay: Duration, head: &'static str) -> SlowServer {
    server_by(delay, move |_, _| head.to_owned())
}

/// A server that answers its n-th request, which has this body, with the status and headers of
/// `head`; an empty text closes the connection.
fn server_by(
    delay: Duration,
    head: impl Fn(usize, &str) -> String + Clone + Send + 'static,
) -> SlowServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let n_calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_calls);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (counted, head) = (Arc::clone(&counted), head.clone());
            std::thread::spawn(move || {
                let body = read_request(&stream)?;
                let head = head(counted.fetch_add(1, Ordering::SeqCst), &body);
                std::thread::sleep(delay);
                let end = "content-length: 4\r\nconnection: close\r\n\r\ntrue";
                match &*head {
                    "" => Ok(()),
                    head => (&stream).write_all(format!("HTTP/1.1 {head}{end}").as_bytes()),
                }
            });
        }
    });
    SlowServer { url, n_calls }
}

/// An address where nobody is.
fn nobody() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("http://{address}/v1")
}

fn fleet(urls: Vec<String>, tries: u32, outage: Duration) -> Arc<Fleet> {
    let config = FleetConfig {
        urls,
        path: "ask".to_owned(),
        headers: Vec::new(),
        concurrency: 16,
        requests_per_minute: 0,
        timeout: Duration::from_secs(60),
        tries,
        outage,
        busy: outage,
        max_answer_bytes: 1 << 20,
        odd_numbers: OddNumbers::Null,
    };
    Arc::new(Fleet::new(config, None).unwrap())
}

struct Question(u64);

impl Call for Question {
    type Reply = Value;

    fn n_slots(&self) -> usize {
        1
    }

    fn body(&mut self) -> Option<impl Serialize> {
        Some(json!({"number": self.0}))
    }

    fn read(&mut self, answer: Value, _: Duration) -> Result<Value, BadAnswer> {
        Ok(answer)
    }

    fn seed(&self) -> Seed {
        Seed::new(self.0)
    }
}

async fn ask(fleet: &Fleet, number: u64) -> Result<Finished<Value>, CallError> {
    tokio::time::timeout(LIMIT, fleet.call(&mut Question(number), 0)).await.expect("it hangs")
}

#[tokio::test]
async fn calls_wait_for_a_slow_server_while_another_one_is_gone() {
    let slow = server(Duration::from_millis(2500), "200 OK\r\n");
    let fleet = fleet(vec![nobody(), slow.url.clone()], 50, Duration::from_millis(200));
    let start = |number: u64| {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move { ask(&fleet, number).await })
    };
    // more than the slow one has room for: they try the one that is gone until it rests
    let mut calls: Vec<_> = (0..24).map(start).collect();
    let began = Instant::now();
    while fleet.n_resting() == 0 {
        assert!(began.elapsed() < LIMIT, "the server that is gone never rests");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // after its rest it gets one call on trial, while the slow one answers none yet
    while fleet.n_resting() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    calls.extend((24..27).map(start));
    for call in calls {
        let finished = call.await.unwrap().unwrap();
        assert_eq!((finished.reply, finished.server), (json!(true), 1));
    }
    assert_eq!(slow.n_calls.load(Ordering::SeqCst), 27);
}

#[tokio::test]
async fn calls_pause_although_a_server_asks_to_be_called_at_once() {
    for retry_after in ["0", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        for (status, outage) in
            [("429 Too Many", 0), ("503 Unavailable", 0), ("502 Bad Gateway", 600)]
        {
            let head: &str = format!("{status}\r\nretry-after: {retry_after}\r\n").leak();
            let hurried = server(Duration::ZERO, head);
            let fleet = fleet(vec![hurried.url.clone()], 4, Duration::from_millis(outage));
            let began = Instant::now();
            let Err(CallError::Exhausted(failed)) = ask(&fleet, 1).await else { panic!("{head}") };
            // pauses of 0.1, 0.2 and 0.4 s, each times a factor of at least one half
            assert!(began.elapsed() >= Duration::from_millis(350), "{head}: {:?}", began.elapsed());
            let n_calls = hurried.n_calls.load(Ordering::SeqCst);
            assert_eq!(n_calls, failed.n_attempts as usize);
            assert!((2..=5).contains(&n_calls), "{head}: {n_calls}");
        }
    }
}

/// A head by which a bucket of `n` calls for each tenth of a second refuses the others.
fn bucket(n: usize, refusal: &'static str) -> impl Fn(usize, &str) -> String + Clone + Send {
    let state = Arc::new(Mutex::new((Instant::now(), 0)));
    move |_, _| {
        let (began, n_taken) = &mut *state.lock().unwrap();
        if began.elapsed() >= Duration::from_millis(100) {
            (*began, *n_taken) = (Instant::now(), 0);
        }
        *n_taken += 1;
        if *n_taken > n { refusal.to_owned() } else { "200 OK\r\n".to_owned() }
    }
}

async fn ask_all(fleet: &Arc<Fleet>, n: u64) -> Vec<Result<Finished<Value>, CallError>> {
    let start = |number: u64| {
        let fleet = Arc::clone(fleet);
        tokio::spawn(async move { ask(&fleet, number).await })
    };
    let calls: Vec<_> = (0..n).map(start).collect();
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn calls_that_a_rate_limit_refuses_are_paced_and_none_is_lost() {
    for (n_calls, refusal) in [
        (60, "429 Too Many Requests\r\n"),
        (12, "429 Too Many Requests\r\nretry-after: 1\r\n"),
        (12, "503 Service Unavailable\r\nretry-after: 1\r\n"),
    ] {
        let limited = server_by(Duration::ZERO, bucket(4, refusal));
        // one try
        let fleet = fleet(vec![limited.url.clone()], 1, Duration::from_secs(60));
        let outcomes = ask_all(&fleet, n_calls).await;
        assert!(outcomes.iter().all(Result::is_ok), "{refusal}: {outcomes:?}");
        assert_eq!(fleet.n_resting(), 0);
        let n_refused = limited.n_calls.load(Ordering::SeqCst) - n_calls as usize;
        assert!(n_refused > 0 && n_refused < 3 * n_calls as usize, "{refusal}: {n_refused}");
    }
}

#[tokio::test]
async fn calls_to_a_server_that_refuses_all_of_them_fail_after_the_time_for_it() {
    let limited = server(Duration::ZERO, "429 Too Many Requests\r\n");
    let fleet = fleet(vec![limited.url.clone()], 50, Duration::from_millis(600));
    let began = Instant::now();
    for outcome in ask_all(&fleet, 40).await {
        let Err(CallError::Exhausted(failed)) = outcome else { panic!("{outcome:?}") };
        assert!(failed.last.contains("429"), "{failed}");
    }
    // those that wait behind the first do not wait as long again
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn call_that_alone_is_refused_for_its_rate_fails_while_others_are_answered() {
    // a request above the limit of tokens a minute is refused for ever
    let limited = server_by(Duration::ZERO, |_, body| match body {
        "{\"number\":7}" => "429 Too Many Requests\r\n".to_owned(),
        _ => "200 OK\r\n".to_owned(),
    });
    let fleet = fleet(vec![limited.url.clone()], 1, Duration::from_millis(1500));
    let refused = {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move { ask(&fleet, 7).await })
    };
    while !refused.is_finished() {
        assert!(ask(&fleet, 8).await.is_ok());
    }
    let Err(CallError::Exhausted(failed)) = refused.await.unwrap() else { panic!("no answer") };
    assert!(failed.n_attempts > 2 && failed.last.contains("429"), "{failed}");
}

#[tokio::test]
async fn calls_wait_for_a_server_behind_a_port_that_closes_connections() {
    // docker's proxy, ssh -L and kubectl port-forward accept connections before the server does
    let published = server_by(Duration::ZERO, |number, _| match number {
        0..14 => String::new(),
        _ => "200 OK\r\n".to_owned(),
    });
    // the last connections may close while the first is answered
    let fleet = fleet(vec![published.url.clone()], 3, Duration::from_secs(60));
    let outcomes = ask_all(&fleet, 12).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");

    let closed = server(Duration::ZERO, "");
    let fleet = self::fleet(vec![closed.url.clone()], 1, Duration::from_millis(400));
    let began = Instant::now();
    let Err(CallError::Exhausted(failed)) = ask(&fleet, 1).await else { panic!("no answer") };
    assert!(began.elapsed() >= Duration::from_millis(400), "{failed}");
    assert!(failed.last.contains("connection"), "{failed}");
}

#[tokio::test]
async fn calls_to_a_server_that_resets_connections_wait_for_it() {
    // the request is left unread, so that the system answers with a reset
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::sleep(Duration::from_millis(20));
            drop(stream);
        }
    });
    let fleet = fleet(vec![url], 1, Duration::from_millis(400));
    let began = Instant::now();
    let Err(CallError::Exhausted(failed)) = ask(&fleet, 1).await else { panic!("no answer") };
    assert!(began.elapsed() >= Duration::from_millis(400), "{failed}");
    assert!(failed.n_attempts > 2, "{failed}");
}

#[tokio::test]
async fn call_that_finds_nobody_while_others_are_answered_uses_up_its_tries() {
    // a proxy whose server is too slow for one of the requests
    let proxy = server_by(Duration::from_millis(30), |_, body| match body {
        "{\"number\":7}" => "504 Gateway Timeout\r\n".to_owned(),
        _ => "200 OK\r\n".to_owned(),
    });
    let fleet = fleet(vec![proxy.url.clone()], 3, Duration::from_secs(600));
    let slow = {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move { ask(&fleet, 7).await })
    };
    let mut others: tokio::task::JoinSet<()> = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (fleet, is_over) = (Arc::clone(&fleet), slow.abort_handle());
        others.spawn(async move {
            while !is_over.is_finished() {
                assert!(ask(&fleet, 8).await.is_ok());
            }
        });
    }
    let Err(CallError::Exhausted(failed)) = slow.await.unwrap() else { panic!("no answer") };
    assert!(failed.n_attempts < 10 && failed.last.contains("504"), "{failed}");
    while let Some(other) = others.join_next().await {
        other.unwrap();
    }
}

#[tokio::test]
async fn call_that_finds_nobody_waits_no_longer_than_an_outage_of_its_own() {
    // other calls are answered now and then, which begins a new outage each time
    let proxy = server_by(Duration::ZERO, |_, body| match body {
        "{\"number\":7}" => "503 Service Unavailable\r\n".to_owned(),
        _ => "200 OK\r\n".to_owned(),
    });
    let fleet = fleet(vec![proxy.url.clone()], 2, Duration::from_millis(700));
    let refused = {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move { ask(&fleet, 7).await })
    };
    let began = Instant::now();
    while !refused.is_finished() {
        assert!(ask(&fleet, 8).await.is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    let Err(CallError::Exhausted(failed)) = refused.await.unwrap() else { panic!("no answer") };
    assert!(failed.last.contains("503"), "{failed}");
}

#[tokio::test]
async fn late_answer_of_a_proxy_that_its_server_is_too_slow_counts_as_a_try() {
    let proxy = server(Duration::from_millis(5200), "504 Gateway Timeout\r\n");
    let fleet = fleet(vec![proxy.url.clone()], 1, Duration::from_secs(600));
    let Err(CallError::Exhausted(failed)) = ask(&fleet, 1).await else { panic!("no answer") };
    assert!(failed.n_attempts == 1 && failed.last.contains("504"), "{failed}");
}

#[tokio::test]
async fn statuses_that_pass_are_tried_again_and_others_are_not() {
    let passing = [409, 423, 424, 408, 425, 449, 460, 499, 418, 500, 507, 520, 529];
    let refusing = [400, 401, 402, 403, 404, 405, 406, 410, 413, 415, 421, 422, 426, 451, 501];
    for (status, n_wanted) in
        passing.map(|it| (it, 3)).into_iter().chain(refusing.map(|it| (it, 1)))
    {
        let ill: &str = format!("{status} Some Reason\r\n").leak();
        let server = server(Duration::ZERO, ill);
        let fleet = fleet(vec![server.url.clone()], 3, Duration::from_secs(60));
        let error = ask(&fleet, 1).await.unwrap_err();
        assert_eq!(server.n_calls.load(Ordering::SeqCst), n_wanted, "{status}: {error}");
        assert_eq!(matches!(error, CallError::Exhausted(_)), n_wanted > 1, "{status}: {error}");
    }
}

#[tokio::test]
async fn path_that_a_server_had_before_is_waited_for() {
    // a balancer says 404 while the server behind it starts anew
    let restarted = server_by(Duration::ZERO, |number, _| match number {
        1..6 => "404 Not Found\r\n".to_owned(),
        _ => "200 OK\r\n".to_owned(),
    });
    let fleet = fleet(vec![restarted.url.clone()], 1, Duration::from_secs(60));
    assert!(ask(&fleet, 1).await.is_ok() && ask(&fleet, 2).await.is_ok());
    assert_eq!(restarted.n_calls.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn redirects_that_keep_the_body_are_followed_and_others_are_told() {
    let (send, bodies) = crossbeam::channel::unbounded();
    let there = server_by(Duration::ZERO, move |_, body| {
        send.send(body.to_owned()).unwrap();
        "200 OK\r\n".to_owned()
    });
    for (status, is_followed) in
        [(301, false), (302, false), (303, false), (307, true), (308, true)]
    {
        let head = format!("{status} Moved\r\nlocation: {}/ask\r\n", there.url);
        let moved = server(Duration::ZERO, head.leak());
        let fleet = fleet(vec![moved.url.clone()], 3, Duration::from_secs(60));
        let outcome = ask(&fleet, 5).await;
        match is_followed {
            true => {
                assert_eq!(outcome.unwrap().reply, json!(true), "{status}");
                assert_eq!(bodies.try_recv().unwrap(), "{\"number\":5}", "{status}");
            }
            false => {
                let Err(CallError::Rejected(reason)) = outcome else { panic!("{outcome:?}") };
                assert!(reason.contains(&format!("redirects to {}/ask", there.url)), "{reason}");
                assert!(bodies.try_recv().is_err() && reason.starts_with(&moved.url), "{reason}");
            }
        }
        assert_eq!(moved.n_calls.load(Ordering::SeqCst), 1, "{status}");
    }
    // in a circle
    let circle = server(Duration::ZERO, "308 Moved\r\nlocation: ask\r\n");
    let fleet = fleet(vec![circle.url.clone()], 1, Duration::ZERO);
    let error = ask(&fleet, 1).await.unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");
}
