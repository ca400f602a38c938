//! Servers that are gone, come up late, and come back as others.

use super::mock::{listener, mock_with};
use super::*;

/// A free address where nobody listens, for a server that starts later.
fn reserved() -> (std::net::SocketAddr, String) {
    let address = listener().local_addr().unwrap();
    (address, format!("http://{address}/v1"))
}

fn right(_: usize, _: Value) -> std::future::Ready<Response> {
    std::future::ready(says("hm</think> \\boxed{Assistant 1}"))
}

#[test]
fn http_votes_wait_for_a_server_that_comes_up_later() {
    let (address, url) = reserved();
    let mut judge = judge(vec![url], |http| (http.tries, http.outage_s) = (1, 60.0));
    for id in 0..30 {
        judge.submit(request(id));
    }
    // more failures than a server may have before it rests
    let began = std::time::Instant::now();
    while judge.servers().unwrap().n_resting() == 0 {
        assert!(judge.poll().is_empty(), "no vote fails while the outage lasts");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    let server = mock_with(std::net::TcpListener::bind(address).unwrap(), Vec::new(), right);
    let mut outcomes = Vec::new();
    while outcomes.len() < 30 {
        outcomes.extend(judge.poll());
    }
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 30);
}

#[test]
fn http_votes_fail_after_the_outage_with_its_first_cause() {
    let (_, url) = reserved();
    let mut judge = judge(vec![url.clone()], |http| (http.tries, http.outage_s) = (3, 0.5));
    let began = std::time::Instant::now();
    let outcomes = all_votes(&mut judge, 20);
    assert!(began.elapsed() >= Duration::from_millis(500));
    for (_, outcome) in &outcomes {
        let Err(JudgeError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains(&url) && reason.contains("refused"), "{reason}");
    }
    // the outage is known: later votes do not wait for it again
    let outcomes = all_votes(&mut judge, 1);
    let Err(JudgeError::Failed(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(reason.contains("all servers rest after failures, the last: http"), "{reason}");
    assert!(reason.contains("refused"), "{reason}");
}

#[test]
fn http_proxy_without_a_server_behind_it_is_an_outage() {
    let server = mock(|number, _| async move {
        match number {
            0..4 => StatusCode::BAD_GATEWAY.into_response(),
            _ => says("hm</think> \\boxed{Assistant 1}"),
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.tries = 1);
    assert!(all_votes(&mut judge, 1)[0].1.is_ok());
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 5);
}

#[test]
fn http_server_that_comes_up_later_is_looked_at_before_its_first_call() {
    let (address, url) = reserved();
    let mut judge = judge(vec![url], |_| {});
    let models = |_| axum::Json(json!({"data": [{"id": "other"}]})).into_response();
    let extras: super::mock::Extras = vec![("/v1/models", Arc::new(models))];
    let server = mock_with(std::net::TcpListener::bind(address).unwrap(), extras, right);
    let outcomes = all_votes(&mut judge, 3);
    for (_, outcome) in &outcomes {
        let Err(JudgeError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(
            reason.contains("judge.model is \"rrm\"") && reason.contains("\"other\""),
            "{reason}"
        );
    }
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 0);
}

/// A server that rejects all calls.
fn rejecting(status: StatusCode) -> Mock {
    mock(move |_, _| async move { status.into_response() })
}

#[test]
fn http_server_that_rejects_calls_gets_fewer_and_loses_none() {
    for status in [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let (good, wrong) = (mock(right), rejecting(status));
        // the wrong one first: it is chosen where both are idle
        let urls = vec![wrong.url.clone(), good.url.clone()];
        let mut judge = judge(urls, |http| (http.tries, http.concurrency) = (1, 2));
        assert!(all_votes(&mut judge, 1)[0].1.is_ok());
        assert_eq!(wrong.n_calls.load(Ordering::SeqCst), 1);
        let outcomes = all_votes(&mut judge, 200);
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{status}: {outcomes:?}");
        assert_eq!(good.n_calls.load(Ordering::SeqCst), 201);
        // it rests after ten rejections, and is tried again now and then
        let n_rejected = wrong.n_calls.load(Ordering::SeqCst);
        assert!((10..40).contains(&n_rejected), "{status}: {n_rejected}");
    }
}

#[test]
fn http_vote_that_every_server_rejects_fails_with_the_reason() {
    let servers = [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED].map(rejecting);
    let urls = servers.iter().map(|server| server.url.clone()).collect();
    let mut judge = judge(urls, |http| http.concurrency = 1);
    let outcomes = all_votes(&mut judge, 30);
    for (_, outcome) in &outcomes {
        let Err(JudgeError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("404") || reason.contains("401"), "{reason}");
        assert!(!reason.contains(" call") && !reason.contains("rest"), "{reason}");
    }
    let n_calls = servers.map(|server| server.n_calls.load(Ordering::SeqCst));
    assert_eq!(n_calls, [30, 30], "each server is asked once");
}

#[test]
fn http_server_that_comes_back_as_another_gets_no_votes() {
    let (address, url) = reserved();
    let good = mock(right);
    let mut judge = judge(vec![url, good.url.clone()], |http| http.concurrency = 1);
    let models = |_| axum::Json(json!({"data": [{"id": "other"}]})).into_response();
    let extras: super::mock::Extras = vec![("/v1/models", Arc::new(models))];
    let other = mock_with(std::net::TcpListener::bind(address).unwrap(), extras, right);
    let outcomes = all_votes(&mut judge, 40);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    let n_calls = [&good, &other].map(|server| server.n_calls.load(Ordering::SeqCst));
    assert_eq!(n_calls, [40, 0]);
}
