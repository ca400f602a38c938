//! slime's `/remote_rm`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use joust_reward::judge::JudgeError;
use joust_reward::tournament::TournamentKind;

use super::fixture::*;

#[tokio::test]
async fn remote_rm_answers_409_for_another_prompt_in_a_named_group() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let named = |group: &'static str, prompt: &'static str, said: &'static str| {
        let app = app.clone();
        tokio::spawn(async move {
            let body = json!({"prompt": prompt, "response": said, "label": "4"});
            send(&app, "/remote_rm", &[("x-joust-group", group)], &body).await.status().as_u16()
        })
    };
    let first = named("g", "2+2?", "4");
    tokio::task::yield_now().await;
    assert_eq!(named("g", "3+1?", "4").await.unwrap(), 409);
    assert_eq!(named("g", "2+2?", "5").await.unwrap(), 200);
    assert_eq!(first.await.unwrap(), 200);
    // an empty name counts as no name
    let first = named("", "2+2+0?", "4");
    let other = named(" ", "3+1+0?", "4");
    assert_eq!(named("", "2+2+0?", "5").await.unwrap(), 200);
    assert_eq!(named("", "3+1+0?", "5").await.unwrap(), 200);
    assert_eq!((first.await.unwrap(), other.await.unwrap()), (200, 200));
    let headers = [("x-joust-attempt", "2")];
    let body = json!({"prompt": "2+2?", "response": "4", "label": "4"});
    let response = send(&app, "/remote_rm", &headers, &body).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn headers_that_come_with_different_values_are_refused() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 1);
    let body = json!({"prompt": "2+2?", "response": "4", "label": "4"});
    for name in ["x-joust-group", "x-joust-member", "x-joust-attempt", "x-joust-client"] {
        let headers = [("x-joust-group", "1"), (name, "1"), (name, "2")];
        let response = send(&app, "/remote_rm", &headers, &body).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        let error = json_of(response).await["error"].to_string();
        assert!(error.contains(&format!("header {name} comes with different values")), "{error}");
    }
}

#[tokio::test]
async fn member_that_the_judge_failed_for_is_judged_when_it_comes_again() {
    let is_ill = Arc::new(AtomicBool::new(true));
    let judge = {
        let is_ill = Arc::clone(&is_ill);
        ScriptedJudge::of_verdicts(move |vote| {
            let texts = [&*vote.answer_first, &*vote.answer_second];
            match texts.contains(&"ill") && is_ill.load(Ordering::SeqCst) {
                true => Err(JudgeError::Failed("500 Internal Server Error".to_owned())),
                false if vote.answer_first.len() > vote.answer_second.len() => Ok(Verdict::First),
                false => Ok(Verdict::Second),
            }
        })
    };
    let mut config = RewardConfig::default();
    config.tournament.kind = TournamentKind::RoundRobin;
    let scorer = Scorer::with_judge(&config, Some(Box::new(judge)), true);
    let app = Server::new(ScorerHandle::spawn(scorer, plain_config()).unwrap().0).router();
    let said = |text: &str| json!({"prompt": "2+2?", "response": text, "label": "4"});
    let sent = |text: &str| spawn(&app, "/remote_rm", said(text));
    let waiting = [sent("ill"), sent("longest"), sent("long")];
    let mut answers = Vec::new();
    for answer in waiting {
        answers.push(in_time(answer).await.unwrap());
    }
    assert_eq!([answers[0].0, answers[1].0, answers[2].0], [503, 200, 200], "{answers:?}");
    let error = &answers[0].1["error"];
    assert_eq!(error["code"], "judge_failed");
    assert!(error["message"].as_str().unwrap().contains("500 Internal"), "{error}");
    let again = send(&app, "/remote_rm", &[], &said("ill")).await;
    assert_eq!(
        (again.status(), &again.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &axum::http::HeaderValue::from_static("1"),)
    );

    is_ill.store(false, Ordering::SeqCst);
    let (status, reward) = in_time(sent("ill")).await.unwrap();
    assert_eq!(status, 200);
    // it loses against both others
    let other = |idx: usize| answers[idx].1.as_f64().unwrap();
    assert!(reward.as_f64().unwrap() < other(1).min(other(2)), "{reward} {answers:?}");
    let health: Value = serde_json::from_str(&get(&app, "/health", None).await.1).unwrap();
    assert_eq!(health["open_cohorts"], 0);
}

#[tokio::test]
async fn group_with_a_member_that_the_judge_failed_for_is_not_kept() {
    let n_calls = Arc::new(AtomicUsize::new(0));
    let judge = {
        let n_calls = Arc::clone(&n_calls);
        ScriptedJudge::of_verdicts(move |vote| {
            let is_early = n_calls.fetch_add(1, Ordering::SeqCst) < 12;
            match is_early && [&vote.answer_first, &vote.answer_second].contains(&&"5".to_owned()) {
                true => Err(JudgeError::Failed("500".to_owned())),
                false => Ok(Verdict::First),
            }
        })
    };
    let app = server(Box::new(judge), |_| {});
    let mut body = group();
    body["votes"] = json!(1);
    let first = json_of(post(&app, &body.to_string()).await).await;
    assert_eq!(first["rewards"][1], Value::Null, "{first}");
    assert!(first["rewards"][0].is_number(), "{first}");
    while n_calls.load(Ordering::SeqCst) < 12 {
        n_calls.fetch_add(1, Ordering::SeqCst);
    }
    let again = json_of(post(&app, &body.to_string()).await).await;
    assert!(again["rewards"][1].is_number(), "{again}");
}
