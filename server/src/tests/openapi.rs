//! The OpenAPI document against the routes.

use super::fixture::*;

/// All targets of references in a document.
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
async fn openapi_describes_every_route_and_every_status() {
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
        assert!(target.is_some(), "{place} is missing");
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
