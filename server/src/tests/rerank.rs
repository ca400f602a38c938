//! The rerank routes.

use super::fixture::*;

#[tokio::test]
async fn rerank_returns_documents_best_first() {
    let app = server(longer(), |_| {});
    let body = json!({"model": "any", "query": "Tell me.", "top_n": 2,
                      "documents": ["a", {"text": "a longer one"}, "middle"]});
    for route in ["/rerank", "/v1/rerank"] {
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
