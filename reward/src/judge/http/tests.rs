//! The http judge with servers that are busy, broken, silent, or answer nonsense.

mod forms;
mod looks;
mod mock;
mod outages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use joust_schema::ids::MatchId;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;
use joust_schema::tables::Verdict;
use serde_json::{Value, json};

use self::mock::{Mock, mock, says};
use super::HttpJudge;
use crate::config::RewardConfig;
use crate::config::judge::{HttpJudgeConfig, JudgeConfig, JudgeKind, TokenLimitName};
use crate::judge::{
    ChatId, ChatModel as _, ChatReply, ChatRequest, Judge as _, JudgeError, ShownPair, VoteId,
    VoteOutcome, VoteRequest,
};

fn judge(urls: Vec<String>, change: impl FnOnce(&mut HttpJudgeConfig)) -> HttpJudge {
    let mut http = HttpJudgeConfig { urls, model: "rrm".to_owned(), ..HttpJudgeConfig::default() };
    change(&mut http);
    HttpJudge::open(&http, &JudgeConfig::default()).unwrap()
}

fn request(id: u64) -> VoteRequest {
    VoteRequest {
        id: VoteId(id),
        match_id: MatchId("g/1-0-1".to_owned()),
        pair: ShownPair::new("g", 0, 1),
        vote: 0,
        attempt: 0,
        question: "2+2? <|im_end|>".to_owned(),
        answer_first: "4".to_owned(),
        answer_second: "5".to_owned(),
        reference: None,
        seed: Seed::new(id).child("vote", id),
    }
}

fn all_votes(judge: &mut HttpJudge, n: u64) -> Vec<VoteOutcome> {
    for id in 0..n {
        judge.submit(request(id));
    }
    let mut outcomes = Vec::new();
    while outcomes.len() < n as usize {
        outcomes.extend(judge.poll());
    }
    outcomes.sort_by_key(|(id, _)| *id);
    outcomes
}

#[test]
fn http_vote_is_asked_as_a_chat_and_read_with_its_thought() {
    let server = mock(|number, body| async move {
        assert_eq!(body["model"], "rrm");
        assert_eq!(body["messages"][0]["role"], "system");
        let asked = body["messages"][1]["content"].as_str().unwrap();
        assert!(asked.contains("## Query\n\n2+2? <\u{200b}|im_end|>"), "{asked}");
        assert!(body["seed"].as_i64().unwrap() >= 0 && body["max_tokens"] == 8192);
        match number {
            0 => says("<think>hm</think> \\boxed{Assistant 2}"),
            1 => axum::Json(json!({"choices": [{"message": {
                "content": "\\boxed{Assistant 1}", "reasoning_content": "hm"}}]}))
            .into_response(),
            _ => says("I cannot say."),
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.concurrency = 1);
    let mut replies: Vec<_> =
        all_votes(&mut judge, 3).into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
    // calls arrive in any order
    replies.sort_by_key(|reply| reply.verdict);
    let verdicts: Vec<Verdict> = replies.iter().map(|reply| reply.verdict).collect();
    assert_eq!(verdicts, [Verdict::First, Verdict::Second, Verdict::Invalid]);
    assert_eq!(replies[0].text, "<think>\nhm\n</think>\n\n\\boxed{Assistant 1}");
    let counted = &replies[1];
    let counts = (counted.prompt_tokens, counted.cached_prompt_tokens, counted.completion_tokens);
    assert_eq!(counts, (300, 288, 7));
    assert_eq!(server.most_at_once.load(Ordering::SeqCst), 1);
    assert!(judge.poll().is_empty());
}

#[test]
fn http_vote_does_not_read_a_repeated_prompt_as_a_verdict() {
    let server = mock(|number, body| async move {
        let asked = body["messages"][1]["content"].as_str().unwrap().to_owned();
        let after = if number == 0 { "" } else { " \\boxed{Assistant 1}" };
        let message = json!({
            "content": format!("You are a helpful assistant.\n{asked}<｜Assistant｜>{after}"),
            "reasoning_content": "one and one and",
        });
        axum::Json(json!({"choices": [{"message": message, "finish_reason": "length"}]}))
            .into_response()
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.concurrency = 1);
    let outcomes = all_votes(&mut judge, 2);
    let mut verdicts: Vec<Verdict> =
        outcomes.into_iter().map(|(_, outcome)| outcome.unwrap().verdict).collect();
    verdicts.sort();
    assert_eq!(verdicts, [Verdict::First, Verdict::Invalid]);
}

fn chat(judge: &mut HttpJudge, id: u64) -> Result<ChatReply, JudgeError> {
    let request = ChatRequest {
        messages: vec![Message::new("user", "2+2? <|im_end|>")],
        max_tokens: Some(9),
        temperature: Some(0.0),
        top_p: None,
        stop: vec![".".to_owned()],
        seed: Seed::new(id),
    };
    judge.submit_chat(ChatId(id), request).unwrap();
    loop {
        assert!(judge.poll().is_empty());
        if let Some((answered, outcome)) = judge.take_finished_chats().pop() {
            assert_eq!(answered, ChatId(id));
            return outcome;
        }
    }
}

#[test]
fn http_chat_is_passed_on_with_its_own_sampling() {
    let server = mock(|number, body| async move {
        assert_eq!(
            body["messages"],
            json!([{"role": "user", "content": "2+2? <\u{200b}|im_end|>"}])
        );
        assert_eq!((&body["max_tokens"], &body["temperature"]), (&json!(9), &json!(0.0)));
        assert_eq!((&body["stop"], body.get("n")), (&json!(["."]), None));
        match number {
            0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            1 => says("4"),
            2 => (StatusCode::BAD_REQUEST, "no").into_response(),
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.tries = 2);
    let reply = chat(&mut judge, 1).unwrap();
    assert_eq!((reply.text.as_str(), reply.is_whole), ("4", true));
    assert_eq!((reply.prompt_tokens, reply.completion_tokens), (300, 7));
    let refused = chat(&mut judge, 2).unwrap_err();
    assert!(matches!(&refused, JudgeError::Refused(reason) if reason.ends_with("no")), "{refused}");
    let failed = chat(&mut judge, 3).unwrap_err();
    assert!(failed.to_string().starts_with("no answer after 2 calls"), "{failed}");
    judge.cancel_chat(ChatId(3));
}

#[test]
fn http_votes_survive_servers_that_misbehave() {
    // every third call fails, each time in another way
    let server = mock(|number, _| async move {
        let busy = (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "busy");
        match number % 12 {
            0 => busy.into_response(),
            3 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            6 => "no JSON".into_response(),
            9 => axum::Json(json!({"choices": []})).into_response(),
            _ => says("hm</think> \\boxed{Assistant 1}"),
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| {
        http.concurrency = 8;
        http.tries = 8;
    });
    let outcomes = all_votes(&mut judge, 48);
    let verdicts = outcomes.iter().map(|(_, outcome)| outcome.as_ref().unwrap().verdict);
    let verdicts: Vec<Verdict> = verdicts.collect();
    assert_eq!(verdicts, [Verdict::First; 48]);
    let n_calls = server.n_calls.load(Ordering::SeqCst);
    assert!((64..90).contains(&n_calls), "{n_calls}");
    assert!(server.most_at_once.load(Ordering::SeqCst) <= 8);
}

#[test]
fn http_vote_that_a_server_refuses_is_not_asked_again() {
    let server =
        mock(|_, _| async { (StatusCode::BAD_REQUEST, "the prompt is too long").into_response() });
    let outcomes = all_votes(&mut judge(vec![server.url.clone()], |_| {}), 2);
    for (_, outcome) in outcomes {
        let Err(JudgeError::Refused(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("400") && reason.contains("too long"), "{reason}");
    }
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 2);
}

#[test]
fn http_votes_fail_without_a_server_and_go_to_another_one() {
    let nobody = "http://127.0.0.1:9/v1".to_owned();
    let mut alone = judge(vec![nobody.clone()], |http| (http.tries, http.outage_s) = (2, 0.0));
    let outcomes = all_votes(&mut alone, 1);
    let Err(JudgeError::Failed(reason)) = &outcomes[0].1 else { panic!("{outcomes:?}") };
    assert!(reason.contains("no vote after 2 calls"), "{reason}");
    assert!(reason.contains("127.0.0.1:9") && reason.contains("refused"), "{reason}");

    let server = mock(|_, _| async { says("hm</think> \\boxed{Assistant 2}") });
    let mut both = judge(vec![nobody, server.url.clone()], |_| {});
    let outcomes = all_votes(&mut both, 40);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 40);
}

#[test]
fn http_votes_go_less_to_a_slow_server_and_time_out_at_a_mute_one() {
    let slow = mock(|_, _| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        says("hm</think> \\boxed{Assistant 1}")
    });
    let fast = mock(|_, _| async { says("hm</think> \\boxed{Assistant 1}") });
    let urls = vec![slow.url.clone(), fast.url.clone()];
    all_votes(&mut judge(urls, |http| http.concurrency = 2), 60);
    let (of_slow, of_fast) =
        (slow.n_calls.load(Ordering::SeqCst), fast.n_calls.load(Ordering::SeqCst));
    assert!(of_slow + of_fast == 60 && of_slow < of_fast / 2, "{of_slow} {of_fast}");

    let mute = mock(|_, _| std::future::pending());
    let mut judge = judge(vec![mute.url.clone()], |http| {
        http.timeout_s = 0.1;
        http.tries = 1;
    });
    let outcomes = all_votes(&mut judge, 1);
    assert!(matches!(outcomes[0].1, Err(JudgeError::Failed(_))), "{outcomes:?}");
}

#[test]
fn http_vote_that_is_cancelled_gives_nothing_and_frees_its_slot() {
    let server = mock(|number, _| async move {
        if number == 0 {
            std::future::pending::<()>().await;
        }
        says("hm</think> \\boxed{Assistant 1}")
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.concurrency = 1);
    judge.submit(request(7));
    polled_until(&mut judge, &server, 1);
    judge.cancel(VoteId(7));
    judge.submit(request(8));
    let outcomes = next_outcomes(&mut judge);
    assert!(outcomes.len() == 1 && outcomes[0].0 == VoteId(8) && outcomes[0].1.is_ok());
}

/// Polls a judge without outcomes until the server has got `n_calls` calls.
fn polled_until(judge: &mut HttpJudge, server: &Mock, n_calls: usize) {
    while server.n_calls.load(Ordering::SeqCst) < n_calls {
        assert!(judge.poll().is_empty());
    }
}

fn next_outcomes(judge: &mut HttpJudge) -> Vec<VoteOutcome> {
    loop {
        let outcomes = judge.poll();
        if !outcomes.is_empty() {
            return outcomes;
        }
    }
}

/// The answer of a server that takes `n` samples. The length of the thought identifies the choice;
/// the verdicts alternate.
fn choices(n: usize) -> Response {
    let choice = |index: usize| {
        let content =
            format!("{}</think> \\boxed{{Assistant {}}}", "h".repeat(index), index % 2 + 1);
        json!({"index": index, "message": {"content": content}})
    };
    // in any order
    let choices: Vec<Value> = (0..n).rev().map(choice).collect();
    axum::Json(json!({
        "choices": choices,
        "usage": {"prompt_tokens": 300, "completion_tokens": 1_001,
                  "prompt_tokens_details": {"cached_tokens": 16}},
    }))
    .into_response()
}

/// A vote whose answers are shown in the other order.
fn swapped(id: u64) -> VoteRequest {
    let request = request(id);
    let (answer_first, answer_second) = (request.answer_second, request.answer_first);
    VoteRequest { answer_first, answer_second, ..request }
}

#[test]
fn http_votes_with_one_prompt_share_a_call() {
    let (send, bodies) = crossbeam::channel::unbounded();
    let server = mock(move |_, body| {
        send.send(body.clone()).unwrap();
        async move { choices(body["n"].as_u64().unwrap_or(1) as usize) }
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.samples_per_call = 3);
    for id in 0..8 {
        judge.submit(if id % 2 == 0 { request(id) } else { swapped(id) });
    }
    let mut outcomes = Vec::new();
    while outcomes.len() < 8 {
        outcomes.extend(judge.poll());
    }
    outcomes.sort_by_key(|(id, _)| *id);
    let replies: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
    // 0, 2, 4 and 1, 3, 5 shared calls; 6 and 7 were left
    let lengths: Vec<usize> = replies.iter().map(|reply| reply.text.find('<').unwrap()).collect();
    assert_eq!(lengths, [0, 0, 1, 1, 2, 2, 0, 0], "each vote has its own choice");
    let verdicts: Vec<Verdict> = replies.iter().map(|reply| reply.verdict).collect();
    let [first, second] = [Verdict::First, Verdict::Second];
    assert_eq!(verdicts, [first, first, second, second, first, first, first, first]);
    let counts = |vote: usize| (replies[vote].prompt_tokens, replies[vote].cached_prompt_tokens);
    assert_eq!([0, 2, 4, 6].map(counts), [(300, 16), (300, 300), (300, 300), (300, 16)]);
    let written = |votes: &[usize]| -> usize {
        votes.iter().map(|vote| replies[*vote].completion_tokens).sum()
    };
    assert_eq!([written(&[0, 2, 4]), written(&[1, 3, 5]), written(&[6])], [1_001; 3]);
    let bodies: Vec<Value> = bodies.try_iter().collect();
    let mut wanted: Vec<Option<u64>> = bodies.iter().map(|body| body["n"].as_u64()).collect();
    wanted.sort();
    assert_eq!(wanted, [None, None, Some(3), Some(3)]);
    let seeds: BTreeSet<i64> = bodies.iter().map(|body| body["seed"].as_i64().unwrap()).collect();
    assert_eq!(seeds.len(), 4);
}

#[test]
fn http_votes_that_a_shared_call_leaves_out_are_asked_alone() {
    let server = mock(|_, body| async move {
        assert!(body.get("n").is_none_or(|n| n == 6));
        says("hm</think> \\boxed{Assistant 1}")
    });
    let mut judge = judge(vec![server.url.clone()], |http| {
        http.samples_per_call = 6;
        http.tries = 2;
    });
    let outcomes = all_votes(&mut judge, 6);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.as_ref().unwrap().completion_tokens == 7));
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 6);

    judge.calls = self::judge(vec![server.url.clone()], |http| http.tries = 1).calls;
    let outcomes = all_votes(&mut judge, 6);
    let (given, failed): (Vec<_>, Vec<_>) =
        outcomes.into_iter().partition(|(_, outcome)| outcome.is_ok());
    assert_eq!((given.len(), failed.len()), (1, 5), "no vote is invented");
    let Err(JudgeError::Failed(reason)) = &failed[0].1 else { panic!("{failed:?}") };
    assert!(reason.contains("1 choices for 6 votes"), "{reason}");
}

#[test]
fn http_shared_call_that_fails_is_retried_for_the_votes_still_wanted() {
    let (send, asked) = crossbeam::channel::unbounded();
    let server = mock(move |number, body| {
        send.send(body["n"].as_u64()).unwrap();
        async move {
            match number {
                0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")], "").into_response(),
                _ => choices(body["n"].as_u64().unwrap_or(1) as usize),
            }
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| http.samples_per_call = 4);
    for id in 0..4 {
        judge.submit(request(id));
    }
    polled_until(&mut judge, &server, 1);
    judge.cancel(VoteId(1));
    let mut outcomes = next_outcomes(&mut judge);
    while outcomes.len() < 3 {
        outcomes.extend(judge.poll());
    }
    let ids: Vec<u64> = outcomes.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [0, 2, 3]);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [Some(4), Some(3)]);
}

#[test]
fn http_shared_call_goes_on_until_all_its_votes_are_cancelled() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = Arc::clone(&release);
    let server = mock(move |_, body| {
        let held = Arc::clone(&held);
        async move {
            held.notified().await;
            choices(body["n"].as_u64().unwrap_or(1) as usize)
        }
    });
    let mut judge = judge(vec![server.url.clone()], |http| {
        (http.samples_per_call, http.concurrency) = (2, 2);
    });
    for id in 0..4 {
        judge.submit(request(id));
    }
    judge.submit(swapped(9));
    judge.cancel(VoteId(9));
    polled_until(&mut judge, &server, 1);
    judge.cancel(VoteId(0));
    release.notify_one();
    let outcomes = next_outcomes(&mut judge);
    assert!(outcomes.len() == 1 && outcomes[0].0 == VoteId(1), "{outcomes:?}");
    assert_eq!(outcomes[0].1.as_ref().unwrap().verdict, Verdict::Second, "its own choice");
    // the second call waits until the first has ended
    polled_until(&mut judge, &server, 2);
    judge.cancel(VoteId(2));
    judge.cancel(VoteId(3));
    assert!(judge.poll().is_empty() && judge.in_flight.is_empty());
    // the slot of the cancelled call is free again
    judge.submit(request(5));
    polled_until(&mut judge, &server, 3);
    let outcomes = loop {
        // the server may still work on the cancelled call
        release.notify_one();
        let outcomes = judge.poll();
        if !outcomes.is_empty() {
            break outcomes;
        }
    };
    assert!(outcomes.len() == 1 && outcomes[0].0 == VoteId(5), "{outcomes:?}");
}

#[test]
fn http_calls_keep_the_rate_limit_of_a_server() {
    let server = mock(|_, _| async { says("hm</think> \\boxed{Assistant 1}") });
    let mut judge = judge(vec![server.url.clone()], |http| http.requests_per_minute = 6_100);
    let started = std::time::Instant::now();
    all_votes(&mut judge, 120);
    // a hundred calls at once, then one per hundredth of a second
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
    assert_eq!(server.n_calls.load(Ordering::SeqCst), 120);
}

#[test]
fn http_settings_that_are_wrong_are_named() {
    let problems = |change: fn(&mut HttpJudgeConfig), temperature| {
        let mut http = HttpJudgeConfig {
            urls: vec!["http://host:8000/v1".to_owned()],
            model: "rrm".to_owned(),
            samples_per_call: 4,
            ..HttpJudgeConfig::default()
        };
        change(&mut http);
        let kind = JudgeKind::Http(http);
        let judge = JudgeConfig { kind, temperature, ..JudgeConfig::default() };
        RewardConfig { judge, ..RewardConfig::default() }.validate()
    };
    assert!(problems(|_| {}, 0.6).is_empty());
    for (change, temperature, wanted) in [
        (
            (|http| http.samples_per_call = 0) as fn(&mut HttpJudgeConfig),
            0.6,
            "judge.samples_per_call is 0, wanted at least 1",
        ),
        (
            |http| http.concurrency = 3,
            0.6,
            "judge.samples_per_call is 4, wanted at most concurrency",
        ),
        (|_| {}, 0.0, "judge.samples_per_call is 4 at temperature 0"),
        (|http| http.urls.clear(), 0.6, "judge.urls is missing"),
        (|http| http.urls = vec!["ftp://host".to_owned()], 0.6, "wanted http://… or https://…"),
        (
            |http| drop(http.extra_body.insert("max_tokens".to_owned(), json!(7))),
            0.6,
            "judge.extra_body.max_tokens is a field of every call; set judge.max_thinking_tokens",
        ),
        (
            |http| {
                http.headers.insert("X-Key".to_owned(), "a".to_owned());
                http.headers_env.insert("x-key".to_owned(), "KEY".to_owned());
            },
            0.6,
            "judge.headers_env.x-key is also in headers",
        ),
        (
            |http| {
                http.api_key_env = Some("KEY".to_owned());
                http.headers.insert("Authorization".to_owned(), "a".to_owned());
            },
            0.6,
            "judge.api_key_env and a header Authorization are set, wanted one",
        ),
        (|http| http.outage_s = -1.0, 0.6, "judge.outage_s is -1, wanted at least 0"),
        (|http| http.model.clear(), 0.6, "judge.model is missing, wanted: name of the model"),
        (|http| http.timeout_s = f64::NAN, 0.6, "judge.timeout_s is nan, wanted above 0"),
    ] {
        let found = problems(change, temperature);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(wanted), "{found:?} lacks {wanted}");
    }
}
