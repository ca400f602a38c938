//! Calls to servers on sockets: slow, gone, and in a hurry.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;

/// Time after which a test has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// A server that gives each request the same answer after a while.
struct SlowServer {
    url: String,
    n_calls: Arc<AtomicUsize>,
}

/// Reads a request to its end.
fn read_request(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length])
}

/// `head` is the status and headers of the answer, each with the end of its line.
fn server(delay: Duration, head: &'static str) -> SlowServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let n_calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&n_calls);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                read_request(&stream)?;
                counted.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(delay);
                let end = "content-length: 4\r\nconnection: close\r\n\r\ntrue";
                (&stream).write_all(format!("HTTP/1.1 {head}{end}").as_bytes())
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
        Some(json!({}))
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
            [("429 Too Many", 0), ("503 Unavailable", 0), ("503 Unavailable", 600)]
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
