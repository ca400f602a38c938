//! `/v1/chat/completions`: answers, streams and refusals.

use joust_reward::judge::{ChatReply, JudgeError};

use super::fixture::*;

/// A model that repeats the last message.
fn echo() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::silent().named("echo prompt:01234567").with_chat(|request| {
        let said = &request.messages.last().unwrap().content;
        let text = format!("{said} {}{}", request.max_tokens.unwrap_or(0), request.stop.concat());
        Ok(ChatReply { text, prompt_tokens: 7, completion_tokens: 2, is_whole: true })
    }))
}

#[tokio::test]
async fn chat_completions_are_answered_by_the_judges_model() {
    let app = server(echo(), |_| {});
    let parts = json!([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]);
    let messages = json!([{"role": "user", "content": parts}]);
    let body = json!({"model": "echo", "messages": messages, "n": 2, "max_tokens": 5});
    let answer = json_of(send(&app, "/v1/chat/completions", &[], &body).await).await;
    assert_eq!(answer["choices"][1]["message"]["content"], "a b 5");
    assert_eq!(answer["choices"][1]["index"], 1);
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11})
    );
    let turn = json!([{"role": "user", "content": "a"}]);
    for (stop, text) in [(json!("."), "a 0."), (json!(["x", "y"]), "a 0xy"), (json!(null), "a 0")] {
        let body = json!({"messages": turn, "stop": stop});
        let answer = json_of(send(&app, "/v1/chat/completions", &[], &body).await).await;
        assert_eq!(answer["choices"][0]["message"]["content"], text);
    }
    for (key, value) in [
        ("top_k", json!(5)),
        ("stream_options", json!({"include_usage": true})),
        ("n", json!(0)),
        ("temperature", json!(-1)),
        ("tools", json!([{}])),
        ("stop", json!([""])),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("messages", json!([])),
    ] {
        let mut body = json!({"messages": turn});
        body[key] = value;
        let response = send(&app, "/v1/chat/completions", &[], &body).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(json_of(response).await["error"]["message"].as_str().unwrap().contains(key));
    }
    // OpenAI's clients show the message and read type and code
    for (model, status) in [("echo", 200), ("echo prompt:01234567", 200), ("", 200), ("m", 404)] {
        let body = json!({"model": model, "messages": turn});
        let response = send(&app, "/v1/chat/completions", &[], &body).await;
        assert_eq!(response.status().as_u16(), status, "{model}");
        let answer = json_of(response).await;
        if status == 404 {
            assert_eq!(answer["error"]["code"], "model_not_found");
            assert_eq!(answer["error"]["type"], "not_found_error");
            let words = "the model `m` does not exist; this server has `echo`";
            assert_eq!(answer["error"]["message"], words);
        } else {
            assert_eq!(answer["model"], "echo");
        }
    }
    let (_, models) = get(&app, "/v1/models", None).await;
    assert_eq!(serde_json::from_str::<Value>(&models).unwrap()["data"][0]["id"], "echo");
    let rule = server(Box::<RuleJudge>::default(), |_| {});
    let response = send(&rule, "/v1/chat/completions", &[], &json!({"messages": turn})).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        json_of(response).await["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no model to talk to")
    );
}

/// The events of a streamed answer; the last one is text.
async fn events_of(response: Response<Body>) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let events = text.split("\n\n").filter(|event| !event.is_empty());
    let data = events.map(|event| event.strip_prefix("data: ").expect(event));
    data.map(|data| serde_json::from_str(data).unwrap_or(json!(data))).collect()
}

#[tokio::test]
async fn chat_completions_are_streamed_as_openai_streams_them() {
    let app = server(echo(), |_| {});
    let turn = json!([{"role": "user", "content": "a"}]);
    for wants_usage in [false, true] {
        let mut body = json!({"messages": turn, "stream": true, "n": 2, "max_tokens": 5});
        if wants_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        let response = send(&app, "/v1/chat/completions", &[], &body).await;
        let mut events = events_of(response).await;
        assert_eq!(events.pop(), Some(json!("[DONE]")));
        if wants_usage {
            let last = events.pop().unwrap();
            assert_eq!(last["choices"], json!([]));
            let usage = json!({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11});
            assert_eq!(last["usage"], usage);
        }
        assert_eq!(events.len(), 6);
        let mut said: BTreeMap<u64, (String, Value)> = BTreeMap::new();
        for event in &events {
            assert_eq!(event["object"], "chat.completion.chunk");
            assert_eq!(event["id"], events[0]["id"]);
            // `usage` is null in every chunk but the last, where it is asked for
            assert_eq!(event.get("usage"), wants_usage.then_some(&Value::Null));
            let choice = &event["choices"][0];
            let (text, finish) = said.entry(choice["index"].as_u64().unwrap()).or_default();
            text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            assert_eq!(*finish, Value::Null, "nothing follows the end of an answer");
            *finish = choice["finish_reason"].clone();
        }
        let wanted = ("a 5".to_owned(), json!("stop"));
        assert_eq!(said, BTreeMap::from([(0, wanted.clone()), (1, wanted)]));
    }
}

#[tokio::test]
async fn chat_streams_have_a_status_for_a_first_problem_and_an_event_for_a_later_one() {
    let failing = |first_fails: bool| {
        let judge = ScriptedJudge::silent().with_chat(move |request| {
            // the draws of the second answer
            let is_second = request.seed != Seed::new(3).child("choice", 0);
            match is_second || first_fails {
                true => Err(JudgeError::Failed("the GPU is gone".to_owned())),
                false => Ok(ChatReply {
                    text: "a".to_owned(),
                    prompt_tokens: 1,
                    completion_tokens: 1,
                    is_whole: false,
                }),
            }
        });
        server(Box::new(judge), |_| {})
    };
    let turn = json!([{"role": "user", "content": "a"}]);
    let body = json!({"messages": turn, "stream": true, "n": 2, "seed": 3});
    let response = send(&failing(true), "/v1/chat/completions", &[], &body).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let response = send(&failing(false), "/v1/chat/completions", &[], &body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let events = events_of(response).await;
    assert_eq!(events[2]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[3]["error"]["message"], "the GPU is gone");
    assert_eq!((events.len(), &events[4]), (5, &json!("[DONE]")));
}
