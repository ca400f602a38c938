//! The rerank routes.

use super::fixture::*;

#[tokio::test]
async fn rerank_returns_documents_best_first() {
    let app = server(longer(), |_| {});
    let body = json!({"model": "any", "query": "Tell me.", "top_n": 2,
                      "documents": ["a", {"text": "a longer one"}, "middle"]});
    for route in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let answer = json_of(send(&app, route, &[], &body).await).await;
        let results = answer["results"].as_array().unwrap();
        let order: Vec<u64> = results.iter().map(|row| row["index"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 2], "{answer}");
        assert_eq!(results[0]["document"]["text"], "a longer one");
        assert!(results[0]["relevance_score"].as_f64() > results[1]["relevance_score"].as_f64());
        assert_eq!(answer["model"], "any");
        assert!(answer["usage"]["total_tokens"].as_i64().unwrap() > 0);
    }
    let alone = send(&app, "/rerank", &[], &json!({"query": "q", "documents": ["a"]})).await;
    assert_eq!(alone.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let broken = server(broken(), |_| {});
    assert_eq!(send(&broken, "/rerank", &[], &body).await.status(), 503);
}

#[tokio::test]
async fn rerank_leaves_documents_out_if_they_are_not_wanted() {
    let app = server(longer(), |_| {});
    for (wanted, has_document) in [(json!(true), true), (json!(null), true), (json!(false), false)]
    {
        let body = json!({"query": "Tell me.", "documents": ["a", "a longer one"],
                          "return_documents": wanted});
        let answer = json_of(send(&app, "/v2/rerank", &[], &body).await).await;
        let row = answer["results"][0].as_object().unwrap();
        assert_eq!((row["index"].as_u64(), row.contains_key("document")), (Some(1), has_document));
    }
}
