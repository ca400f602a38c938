//! An engine under load for long: 20,000 requests from 64 threads through a bounded queue.

use std::collections::BTreeMap;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use joust_engine::{EngineConfig, Request, RequestId, Sample, SamplingParams};

use crate::tiny_engine::{draw, open};

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An engine on its own thread, fed through a bounded queue, as its users run it.
fn serve(requests: &Receiver<(Request, Sender<Sample>)>) -> (u64, u64) {
    let config = EngineConfig { max_queue: 128, kv_memory_mib: 1, ..EngineConfig::default() };
    let mut engine = open(&config);
    let mut waiting: BTreeMap<RequestId, Sender<Sample>> = BTreeMap::new();
    let (mut n_done, mut early) = (0u64, 0);
    loop {
        let next = match engine.has_work() {
            true => requests.try_recv().ok(),
            false => match requests.recv() {
                Ok(next) => Some(next),
                Err(_) => return (early, resident_kib()),
            },
        };
        if let Some((request, reply)) = next {
            waiting.insert(request.id, reply);
            engine.submit(request).unwrap();
            if waiting.len() < 64 {
                continue;
            }
        }
        for sample in engine.step().unwrap() {
            n_done += 1;
            if n_done == 5_000 {
                early = resident_kib();
            }
            let reply = waiting.remove(&sample.request_id).unwrap();
            reply.send(sample).unwrap();
        }
    }
}

#[test]
fn engine_memory_stays_the_same_over_twenty_thousand_requests() {
    // in a process of its own: its memory is looked at
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["soak::soak", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "run by the test before it, in a process of its own"]
fn soak() {
    const SUBMITTERS: u64 = 64;
    const EACH: u64 = 20_000 / SUBMITTERS;
    let (submit, requests) = bounded(64);
    let server = std::thread::spawn(move || serve(&requests));
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|submitter| {
            let submit = submit.clone();
            std::thread::spawn(move || {
                let (reply, replies) = unbounded();
                for at in 0..EACH {
                    let id = submitter * EACH + at;
                    let params = SamplingParams {
                        max_tokens: 1 + draw(id, "max_tokens", 6) as usize,
                        seed: id,
                        ..SamplingParams::default()
                    };
                    let prompt =
                        (0..1 + draw(id, "length", 12)).map(|at| 3 + (id * 7 + at) as u32 % 200);
                    let request = Request::new(RequestId(id), prompt.collect(), params);
                    submit.send((request, reply.clone())).unwrap();
                    let sample: Sample = replies.recv().unwrap();
                    assert_eq!(sample.request_id, RequestId(id));
                }
            })
        })
        .collect();
    drop(submit);
    for submitter in submitters {
        submitter.join().unwrap();
    }
    let (early, late) = server.join().unwrap();
    assert!(late < early + 32 * 1024, "{early} KiB after a quarter, {late} KiB at the end");
}
