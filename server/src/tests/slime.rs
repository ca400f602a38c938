//! slime's `/remote_rm`.

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
