//! `/score` and `/classify` of vLLM and SGLang.

use joust_reward::judge::VoteReply;

use super::fixture::*;

/// A judge that prefers the answer that is first in alphabetical order.
fn alphabet() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::new(|vote| {
        let is_first = vote.answer_first < vote.answer_second;
        let verdict = if is_first { Verdict::First } else { Verdict::Second };
        Ok(VoteReply::without_tokens(verdict, String::new()))
    }))
}

#[tokio::test]
async fn score_scores_a_query_with_documents_as_a_group() {
    let app = server(alphabet(), |_| {});
    for body in [
        json!({"queries": "2+2?", "documents": ["4", "5", "4"]}),
        json!({"model": "m", "text_1": ["2+2?"], "text_2": ["4", "5", "4"]}),
    ] {
        let answer = json_of(send(&app, "/score", &[], &body).await).await;
        assert_eq!(
            json_of(send(&app, "/v1/score", &[], &body).await).await["data"],
            answer["data"]
        );
        let scores: Vec<f64> = answer["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["score"].as_f64().unwrap())
            .collect();
        assert_eq!(scores.len(), 3);
        assert_eq!((scores[0], answer["data"][1]["index"].as_u64()), (scores[2], Some(1)));
        assert!(scores[0] > scores[1]);
    }
    let pairs = |said: &str| json!({"queries": ["2+2?"], "documents": [said]});
    let tasks = ["4", "5", "6"].map(|said| spawn(&app, "/score", pairs(said)));
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, answer["data"].as_array().unwrap().len()), (200, 1), "{answer}");
    }
    let uneven = json!({"queries": ["a", "b"], "documents": ["c", "d", "e"]});
    assert_eq!(send(&app, "/score", &[], &uneven).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn classify_scores_conversations() {
    let app = server(alphabet(), |_| {});
    let chat = |said: &str| {
        format!("<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>")
    };
    let all = json!([chat("4"), chat("5"), chat("6")]);
    let vllm = json_of(send(&app, "/classify", &[], &json!({"input": all})).await).await;
    assert_eq!(vllm["data"][2]["num_classes"], 1);
    let probs = |at: usize| vllm["data"][at]["probs"][0].as_f64().unwrap();
    assert!(probs(0) > probs(1) && probs(1) > probs(2), "{vllm}");
    let sglang =
        json_of(send(&app, "/classify", &[], &json!({"model": "m", "text": all})).await).await;
    assert!(sglang[1]["embedding"][0].is_number(), "{sglang}");
    for wrong in [
        json!({"input": "2+2? 4"}),
        json!({}),
        json!({"input": []}),
        json!({"input": "a", "text": "a"}),
        json!({"input": chat("4"), "messages": [{"role": "assistant", "content": "4"}]}),
        json!({"messages": [{"role": "user", "content": "2+2?"}]}),
        json!({"messages": [{"role": "assistant", "content": "4"}]}),
        json!({"messages": []}),
    ] {
        let response = send(&app, "/classify", &[], &wrong).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
}

#[tokio::test]
async fn classify_takes_messages_that_end_in_an_answer() {
    let app = server(alphabet(), |config| config.cohorts.group_size = 2);
    let chat = |said: Value| {
        let asked = json!([{"type": "text", "text": "2+2?"}]);
        json!({"messages": [{"role": "system", "content": "Be brief."},
                            {"role": "user", "content": asked},
                            {"role": "assistant", "content": said}]})
    };
    let parts = json!([{"type": "text", "text": "5"}]);
    let tasks = [chat(json!("4")), chat(parts)].map(|body| spawn(&app, "/classify", body));
    let mut probs = Vec::new();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        probs.push(answer["data"][0]["probs"][0].as_f64().unwrap());
    }
    assert!(probs[0] > probs[1], "{probs:?}");
}

#[tokio::test]
async fn score_counts_the_judges_tokens() {
    let app = server(longer(), |config| config.cohorts.group_size = 2);
    let usage = |answer: &Value| -> Vec<i64> {
        let keys = ["prompt_tokens", "completion_tokens", "total_tokens"];
        keys.map(|key| answer["usage"][key].as_i64().unwrap()).into()
    };
    let body = json!({"queries": "Tell me.", "documents": ["a", "a longer one"]});
    let whole = usage(&json_of(send(&app, "/score", &[], &body).await).await);
    assert!(whole[0] > 0 && whole[0] + whole[1] == whole[2], "{whole:?}");
    // the shares of single completions add up to the tokens of their group
    let tasks = ["a", "a longer one"]
        .map(|said| spawn(&app, "/score", json!({"queries": "Tell me.", "documents": said})));
    let mut parts = vec![0; 3];
    for task in tasks {
        let answer = task.await.unwrap().1;
        parts = parts.iter().zip(usage(&answer)).map(|(sum, part)| sum + part).collect();
    }
    assert_eq!(parts, whole);
}

#[tokio::test]
async fn classify_keeps_completions_that_name_a_chat_mark_in_their_group() {
    let app = server(longer(), |config| config.cohorts.group_size = 2);
    let chat = |said: &str| {
        let text =
            format!("<|im_start|>user\nhow?<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n");
        json!({"model": "m", "input": [text]})
    };
    let tricky = "It is written <|im_start|>assistant\n or [/INST] in a template.";
    let plain = spawn(&app, "/classify", chat("I do not know."));
    until_waiting(&app, 1).await;
    let (status, told) = in_time(spawn(&app, "/classify", chat(tricky))).await.unwrap();
    assert_eq!(status, 200, "{told}");
    let (_, plain) = in_time(plain).await.unwrap();
    let score = |told: &Value| told["data"][0]["probs"][0].as_f64().unwrap();
    // the whole completion is judged, also what stands before the mark
    assert!(score(&told) > score(&plain), "{told} {plain}");
}
