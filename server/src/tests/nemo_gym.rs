//! NeMo-Gym's `/compare` and `/verify`.

use super::fixture::*;

/// A Responses object of NeMo-Gym.
fn said(text: &str) -> Value {
    json!({"id": "resp", "object": "response", "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": text}]}]})
}

#[tokio::test]
async fn nemo_gym_compares_a_group_and_verifies_members_one_by_one() {
    let app = server(longer(), |_| {});
    let body = json!({
        "conversation_history": [{"role": "user", "content": "Tell me."}],
        "response_objs": [said("a"), said("a longer one"), said("middle")],
    });
    let response = send(&app, "/compare", &[], &body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer = json_of(response).await;
    let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
    assert!(rewards[1] > rewards[2] && rewards[2] > rewards[0], "{rewards:?}");
    let comparisons = answer["comparison_results"].as_array().unwrap();
    assert!(!comparisons.is_empty());
    for row in comparisons {
        let ranking = row["ranking"].as_f64().unwrap();
        let (i, j) = (row["response_i"].as_u64().unwrap(), row["response_j"].as_u64().unwrap());
        let first_won = rewards[i as usize] > rewards[j as usize];
        assert_eq!(ranking, if first_won { 1.0 } else { 6.0 }, "{row}");
        assert_eq!(row["score_1"].as_f64() > row["score_2"].as_f64(), first_won);
    }
    assert!(answer["metrics"]["mean_individual_score"].is_number());

    let member = |at: u64, text: &str| {
        json!({"responses_create_params": {"input": "Tell me."}, "response": said(text),
               "_ng_group_id": 7, "_ng_group_attempt": 1, "_ng_rollout_index": at, "kept": [1]})
    };
    let texts = ["a", "a longer one", "middle"];
    let tasks: Vec<_> =
        (0..).zip(texts).map(|(at, text)| spawn(&app, "/verify", member(at, text))).collect();
    for (task, wanted) in tasks.into_iter().zip(rewards) {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["kept"]), (200, &json!([1])), "the body comes back");
        assert!(answer["_ng_failure_class"].is_null() && answer["mask_sample"].is_null());
        assert!((answer["reward"].as_f64().unwrap() - wanted).abs() < 0.2, "{answer} {wanted}");
    }

    // a missing reward is marked with the failure class of NeMo-Gym
    let broken = server(broken(), |_| {});
    let tasks: Vec<_> =
        (0..).zip(texts).map(|(at, text)| spawn(&broken, "/verify", member(at, text))).collect();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["_ng_failure_class"]), (200, &json!("judge_failed")));
        assert!(answer["_ng_failure_judge_error"].as_str().unwrap().contains("no valid vote"));
        // the marks of later versions and of NeMo-RL
        assert_eq!(answer["mask_sample"], true);
        assert_eq!(answer["failure_kind"], "judge_failed");
        assert_eq!(answer["failure_reason"], answer["_ng_failure_judge_error"]);
        assert_eq!(answer["instance_config"]["mask_sample"], true);
    }
    let response = send(&broken, "/compare", &[], &body).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn verify_keeps_every_digit_of_a_number() {
    let app = server(longer(), |config| config.cohorts.group_size = 2);
    let body = |group: &str, at: u64, text: &str| {
        let output = said(text).to_string();
        format!(
            "{{\"responses_create_params\": {{\"input\": \"n\", \"seed\": 1e400}}, \"kept\": 1.50, \
             \"response\": {output}, \"_ng_group_id\": {group}, \"_ng_rollout_index\": {at}}}"
        )
    };
    let verify = |body: String| {
        let app = app.clone();
        tokio::spawn(async move {
            let request = Request::post("/verify").body(Body::from(body)).unwrap();
            let response = app.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        })
    };
    // two ids that are the same as floating-point numbers
    let ids = ["36893488147419103233", "36893488147419103234"];
    let groups =
        ids.map(|id| [(0, "a"), (1, "longer")].map(|(at, text)| verify(body(id, at, text))));
    for (id, group) in ids.into_iter().zip(groups) {
        for task in group {
            let (status, answer) = task.await.unwrap();
            assert_eq!(status, 200, "{answer}");
            for kept in [id, "1.50", "1e400"] {
                assert!(answer.contains(kept), "{kept}: {answer}");
            }
            assert!(!answer.contains("_ng_failure_class"), "{answer}");
        }
    }
}

#[tokio::test]
async fn verify_and_compare_refuse_what_they_cannot_judge() {
    let app = server(longer(), |_| {});
    let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]);
    let verify =
        |input: Value| json!({"responses_create_params": {"input": input}, "response": said("a")});
    let compare = |history: Value, n: usize| {
        let said = vec![said("a"); n];
        json!({"conversation_history": history, "response_objs": said})
    };
    for (route, body, wanted) in [
        (
            "/verify",
            verify(image.clone()),
            "responses_create_params.input: a part of content has type",
        ),
        ("/verify", verify(json!([])), "responses_create_params.input is empty"),
        ("/verify", verify(json!([{"role": "hacker", "content": "x"}])), "\"hacker\""),
        ("/compare", compare(image, 2), "conversation_history: a part"),
        ("/compare", compare(json!("q"), 1), "response_objs has 1 entries, wanted at least two"),
    ] {
        let response = send(&app, route, &[], &body).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wanted}");
        let text = json_of(response).await["error"]["message"].to_string().replace("\\\"", "\"");
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn verify_bounds_the_bodies_that_wait_for_their_answers() {
    let app = server(longer(), |config| config.cohorts.max_bytes = 100_000);
    let body = |at: u64, text: &str, kept: usize| {
        json!({"responses_create_params": {"input": "Tell me."}, "response": said(text),
               "_ng_group_id": 7, "_ng_rollout_index": at, "kept": "x".repeat(kept)})
    };
    let limit = Duration::from_secs(60);
    let first = spawn(&app, "/verify", body(0, "a", 60_000));
    tokio::time::timeout(limit, until_waiting(&app, 1)).await.unwrap();
    let second = spawn(&app, "/verify", body(1, "a longer one", 60_000));
    let (status, answer) = tokio::time::timeout(limit, second).await.unwrap().unwrap();
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("no_memory")), "{answer}");
    // it may come again with less, and the bodies are given back
    let others = [(1, "a longer one", 20_000), (2, "middle", 1_000)];
    let others = others.map(|(at, text, kept)| spawn(&app, "/verify", body(at, text, kept)));
    for task in [first].into_iter().chain(others) {
        let (status, answer) = tokio::time::timeout(limit, task).await.unwrap().unwrap();
        assert_eq!(status, 200, "{answer}");
        assert!(answer["_ng_failure_class"].is_null(), "{answer}");
    }
    let mut later = body(0, "a", 90_000);
    later["_ng_group_id"] = json!(8);
    let later = spawn(&app, "/verify", later);
    tokio::time::timeout(limit, until_waiting(&app, 1)).await.unwrap();
    later.abort();
}

#[tokio::test]
async fn nemo_gym_judges_the_text_of_the_policy_and_not_that_of_its_users() {
    let app = server(longer(), |_| {});
    let nudge = json!({"type": "message", "role": "user",
                       "content": "You did not call a tool. Please continue."});
    let nudged = |text: &str| {
        let mut response = said(text);
        response["output"].as_array_mut().unwrap().push(nudge.clone());
        response
    };
    let body = json!({
        "conversation_history": [{"role": "user", "content": "Tell me."}],
        "response_objs": [nudged("a long answer"), nudged("a"), said("an answer")],
    });
    let answer = json_of(send(&app, "/compare", &[], &body).await).await;
    let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
    assert!(rewards[0] > rewards[2] && rewards[2] > rewards[1], "{rewards:?}");
}
