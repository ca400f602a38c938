//! `/v1/chat/completions`.

use joust_reward::judge::ChatReply;

use super::fixture::*;

/// A model that repeats the last message.
fn echo() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::silent().with_chat(|request| {
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
    let body = json!({"model": "m", "messages": messages, "n": 2, "max_tokens": 5});
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
        ("stream", json!(true)),
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
        assert!(json_of(response).await["error"].as_str().unwrap().contains(key));
    }
    let rule = server(Box::<RuleJudge>::default(), |_| {});
    let response = send(&rule, "/v1/chat/completions", &[], &json!({"messages": turn})).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(json_of(response).await["error"].as_str().unwrap().contains("no model to talk to"));
}
