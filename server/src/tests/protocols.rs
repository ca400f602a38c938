//! Scores as vLLM and SGLang serve them, and the limits of what is taken.

use super::*;
use joust_reward::judge::VoteReply;

/// A judge that prefers the answer that comes first in the alphabet.
fn alphabet() -> Box<dyn Judge> {
    Box::new(ScriptedJudge::new(|vote| {
        let is_first = vote.answer_first < vote.answer_second;
        let verdict = if is_first { Verdict::First } else { Verdict::Second };
        Ok(VoteReply::without_tokens(verdict, String::new()))
    }))
}

#[tokio::test]
async fn a_query_with_documents_is_scored_as_a_group() {
    let app = server(alphabet(), |_| {});
    for body in [
        json!({"queries": "2+2?", "documents": ["4", "5", "4"]}),
        json!({"model": "m", "text_1": ["2+2?"], "text_2": ["4", "5", "4"]}),
    ] {
        let answer = json_of(send(&app, "/score", &[], &body).await).await;
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
async fn conversations_are_classified() {
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
    ] {
        let response = send(&app, "/classify", &[], &wrong).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
}

#[tokio::test]
async fn bodies_that_are_too_large_too_deep_or_no_text_are_refused() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let ask = |body: Body| {
        let app = app.clone();
        async move {
            let request = Request::post("/v1/score_group").body(body).unwrap();
            let response = app.oneshot(request).await.unwrap();
            (response.status().as_u16(), json_of(response).await["error"].to_string())
        }
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"prompt": "a", "completions": {deep}}}"#);
    let (status, reason) = ask(Body::from(deep)).await;
    assert!(matches!(status, 400 | 422), "{status} {reason}");
    let (status, reason) = ask(Body::from(&b"{\"prompt\": \"\xff\xfe\"}"[..])).await;
    assert_eq!(status, 400, "{reason}");
    let (status, reason) = ask(Body::from(vec![b' '; (64 << 20) + 1])).await;
    assert_eq!(status, 413, "{reason}");
    assert!(reason.contains("larger than 64 MiB"), "{reason}");
    // a length that is not said beforehand
    let pieces = (0..65).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
    let (status, _) = ask(Body::from_stream(futures_util::stream::iter(pieces))).await;
    assert_eq!(status, 413);
    let many: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let (status, reason) =
        ask(Body::from(json!({"prompt": "a", "completions": many}).to_string())).await;
    assert_eq!(status, 422);
    assert!(reason.contains("2000 entries, wanted at most 1024"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let stream = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let request = Request::post("/v1/score_group").body(Body::from_stream(stream)).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
}

/// All places in a description that refer to another one.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(|place| Some(place.as_str()?.to_owned())));
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_route_that_is_described_is_there_and_the_description_is_whole() {
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.cohorts.collect = Duration::from_millis(1);
    });
    let get = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let described = json_of(app.clone().oneshot(get).await.unwrap()).await;
    assert_eq!(described, crate::openapi::description(&crate::api::operations(), false));
    let mut found = BTreeSet::new();
    references(&described, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for place in found {
        let target = described.pointer(place.trim_start_matches('#'));
        assert!(target.is_some(), "{place} is not there");
    }
    for operation in crate::api::operations() {
        let path = operation.path.replace("{job_id}", "x");
        let method = operation.method.to_uppercase();
        let request = Request::builder().method(&method[..]).uri(&path);
        let response = app.clone().oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap();
        let status = response.status().as_u16().to_string();
        let answers = &described["paths"][operation.path][operation.method]["responses"];
        assert!(answers.get(&status).is_some(), "{method} {path} answers {status}");
    }
}

#[tokio::test]
async fn the_page_is_open_and_what_it_asks_is_not() {
    let app = server(Box::<RuleJudge>::default(), |config| config.tokens = vec!["t".to_owned()]);
    for (path, status) in [("/docs/", 200), ("/openapi.json", 200), ("/info", 401), ("/docsx", 401)]
    {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let get = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let described = json_of(app.oneshot(get).await.unwrap()).await;
    assert_eq!(described["paths"]["/v1/score_group"]["post"]["security"], json!([{"token": []}]));
}
