//! The reward server over a real socket, with the shipped judge: one group, and an orderly end.

use serde_json::json;

use crate::serving::Server;

#[test]
fn score_group_scores_and_a_stopped_server_leaves_its_dump() {
    let dir = tempfile::tempdir().unwrap();
    let dump = format!("serve.dump={}", dir.path().display());
    let mut server = Server::start(&[&dump, "reward.judge.temperature=0"]);
    let (status, health) = server.request("GET /health", "");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert!(health["judge"].as_str().unwrap().starts_with("nano-rrm"), "{health}");
    let group = json!({
        "messages": [{"role": "user", "content": "What is 47 + 93?"}],
        "completions": ["The answer is 140.", "The answer is 130.", "It is 150.", "140"],
        "tournament": "round_robin",
        "votes": 1,
        "seed": 7,
    });
    let (status, scored) = server.request("POST /v1/score_group", &group.to_string());
    assert_eq!(status, 200, "{scored}");
    let rewards: Vec<f64> = serde_json::from_value(scored["rewards"].clone()).unwrap();
    assert!(rewards[0].min(rewards[3]) > rewards[1].max(rewards[2]), "{rewards:?}");
    assert_eq!(scored["matches"].as_array().unwrap().len(), 6);
    assert_eq!(scored["ratings"].as_array().unwrap().len(), 4);
    let (status, again) = server.request("POST /v1/score_group", &group.to_string());
    assert_eq!((status, again), (200, scored));
    let (status, error) = server.request("POST /v1/score_group", "{}");
    assert_eq!(status, 422, "{error}");

    server.stop();
    let votes: Vec<joust_schema::tables::Vote> =
        joust_schema::parquet::read(&dir.path().join("set_00000/votes.parquet")).unwrap();
    // the group that was asked for twice was judged once
    assert_eq!(votes.len(), 6);
    assert!(votes.iter().all(|vote| vote.text.contains("</think>")));
}
