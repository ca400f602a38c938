//! Chat messages in the forms of OpenAI's clients, on every route that takes a prompt or a
//! completion.

use std::sync::{Arc, Mutex};

use super::fixture::*;

/// A judge that prefers the longer answer, and the questions and answers that it was shown.
fn listening() -> (Box<dyn Judge>, Arc<Mutex<BTreeSet<String>>>) {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let told = Arc::clone(&seen);
    let judge = ScriptedJudge::of_verdicts(move |vote| {
        let texts = [&vote.question, &vote.answer_first, &vote.answer_second];
        told.lock().unwrap().extend(texts.map(ToString::to_string));
        let is_first = vote.answer_first.len() > vote.answer_second.len();
        Ok(if is_first { Verdict::First } else { Verdict::Second })
    });
    (Box::new(judge), seen)
}

/// A conversation with every form of a message.
fn conversation() -> Value {
    let call = json!({"id": "c1", "type": "function",
                      "function": {"name": "add", "arguments": "{\"a\": 2}"}});
    json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "2+2?"}]},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ])
}

const QUESTION: &str =
    "Developer: Be brief.\n\nUser: 2+2?\n\nTool call: add({\"a\": 2})\n\nTool result of add: 4";

/// Bodies of every route that reads chat messages, each with `messages` as the prompt; two requests
/// where the route takes one completion.
fn bodies(messages: &Value) -> Vec<(&'static str, Vec<Value>)> {
    let said =
        |text: &str| json!([{"role": "assistant", "content": [{"type": "text", "text": text}]}]);
    let both = [said("4"), said("It is 4.")];
    let single = |body: &dyn Fn(&Value) -> Value| both.iter().map(body).collect::<Vec<_>>();
    let answered = |answer: &Value| {
        let mut turns = messages.as_array().unwrap().clone();
        turns.extend(answer.as_array().unwrap().clone());
        json!({"messages": turns})
    };
    vec![
        ("/v1/score_group", vec![json!({"prompt": messages, "completions": both})]),
        ("/v1/score_group", vec![json!({"messages": messages, "completions": both, "seed": 2})]),
        ("/v1/jobs", vec![json!({"messages": messages, "completions": both, "seed": 3})]),
        ("/remote_rm", single(&|said| json!({"prompt": messages, "response": said}))),
        ("/classify", single(&answered)),
        ("/rerank", vec![json!({"query": messages, "documents": ["4", "It is 4."]})]),
    ]
}

#[tokio::test]
async fn messages_are_read_alike_on_all_routes() {
    for (route, requests) in bodies(&conversation()) {
        let (judge, seen) = listening();
        let app = server(judge, |config| config.cohorts.group_size = 2);
        let tasks: Vec<_> = requests.into_iter().map(|body| spawn(&app, route, body)).collect();
        for task in tasks {
            let (status, answer) = task.await.unwrap();
            assert!(matches!(status, 200 | 202), "{route}: {status} {answer}");
        }
        while seen.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        let wanted = [QUESTION, "4", "It is 4."].map(str::to_owned);
        assert_eq!(*seen.lock().unwrap(), BTreeSet::from(wanted), "{route}");
    }
}

#[tokio::test]
async fn messages_that_cannot_be_judged_are_refused_alike_on_all_routes() {
    let (judge, seen) = listening();
    let app = server(judge, |_| {});
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let image = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
    for (messages, wanted) in [
        (json!([{"role": "hacker", "content": "x"}]), "hacker"),
        (user(json!("  ")), "blank message of the user"),
        (user(json!(null)), "blank message of the user"),
        (user(image), "image_url"),
        (user(json!(7)), "invalid type: integer"),
        (json!([{"role": "user"}]), "missing field `content`"),
    ] {
        let chat = ("/v1/chat/completions", vec![json!({"messages": messages})]);
        for (route, requests) in bodies(&messages).into_iter().chain([chat]) {
            let response = send(&app, route, &[], &requests[0]).await;
            assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{route} {messages}");
            let text = json_of(response).await["error"]["message"].as_str().unwrap().to_owned();
            assert!(text.contains(wanted), "{route} {messages}: {text}");
        }
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn completions_of_messages_are_their_last_answer_or_tool_call() {
    let (judge, seen) = listening();
    let app = server(judge, |_| {});
    let call = json!({"role": "assistant", "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]});
    let result = json!({"role": "tool", "name": "add", "content": "4"});
    let last = json!({"role": "assistant", "content": "It is 4."});
    let body =
        json!({"prompt": "2+2?", "completions": [[call, result, last], [call, result], "4"]});
    assert_eq!(send(&app, "/v1/score_group", &[], &body).await.status(), StatusCode::OK);
    let wanted = ["2+2?", "It is 4.", "Tool call: add({\"a\":2})", "4"].map(str::to_owned);
    assert_eq!(*seen.lock().unwrap(), BTreeSet::from(wanted));
    let body = json!({"prompt": "2+2?", "completions": [[{"role": "user", "content": "4"}], "4"]});
    let response = send(&app, "/v1/score_group", &[], &body).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(json_of(response).await["error"].to_string().contains("none of the role"));
}
