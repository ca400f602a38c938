//! Rows survive the way through Arrow and Parquet, and wrong files are refused by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch};

use super::*;
use crate::table::Table;

fn reward(member: u32, value: Option<f64>) -> Reward {
    Reward {
        group_id: "g".into(),
        member: Member(member),
        status: if value.is_some() { Status::Scored } else { Status::JudgeFailed },
        reward: value,
        win_rate: value,
        rating: value.map(|v| 1000.0 + v),
        rating_stderr: None,
        wins: 1,
        losses: 2,
        rank: value.map(|_| 1),
        advantage: None,
    }
}

#[test]
fn rows_survive_arrow_parquet_and_ipc() {
    let rows = vec![reward(0, Some(0.25)), reward(1, None)];
    let batch = Reward::to_batch(&rows).unwrap();
    assert_eq!(Reward::from_batch(&batch).unwrap(), rows);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rewards.parquet");
    crate::parquet::write(&path, &rows).unwrap();
    assert_eq!(crate::parquet::read::<Reward>(&path).unwrap(), rows);
    let bytes = crate::ipc::to_bytes(std::slice::from_ref(&batch)).unwrap();
    assert_eq!(crate::ipc::from_bytes(&bytes).unwrap(), vec![batch]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn lists_survive_parquet() {
    let row = Rollout {
        step: 1,
        group_id: "g".into(),
        member: Member(3),
        prompt_id: "p".into(),
        policy_version: PolicyVersion(2),
        prompt: "2+2=".into(),
        completion: "4 \u{1F600}".into(),
        prompt_token_ids: vec![1, 2],
        completion_token_ids: vec![],
        completion_logprobs: vec![-0.5, f32::MIN_POSITIVE],
        finish_reason: FinishReason::Length,
        seed: -7,
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollouts.parquet");
    crate::parquet::write(&path, std::slice::from_ref(&row)).unwrap();
    assert_eq!(crate::parquet::read::<Rollout>(&path).unwrap(), vec![row]);
}

#[test]
fn an_empty_table_keeps_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("votes.parquet");
    crate::parquet::write::<Vote>(&path, &[]).unwrap();
    assert!(crate::parquet::read::<Vote>(&path).unwrap().is_empty());
    let message = crate::parquet::read::<Match>(&path).unwrap_err().to_string();
    assert!(message.contains("the file holds table votes"), "{message}");
}

#[test]
fn foreign_types_are_read_and_wrong_ones_named() {
    let rows = vec![reward(0, Some(1.0))];
    let batch = Reward::to_batch(&rows).unwrap();
    let replace = |name: &str, array: ArrayRef| {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let column = if field.name() == name { Arc::clone(&array) } else { Arc::clone(column) };
            (field.name().clone(), column)
        });
        RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
    };
    let large = replace("group_id", Arc::new(LargeStringArray::from(vec!["g"])));
    assert_eq!(Reward::from_batch(&large).unwrap(), rows);
    let wide = replace("wins", Arc::new(Int64Array::from(vec![1])));
    assert_eq!(Reward::from_batch(&wide).unwrap(), rows);
    let wrong = replace("wins", Arc::new(LargeStringArray::from(vec!["one"])));
    let message = Reward::from_batch(&wrong).unwrap_err().to_string();
    assert_eq!(message, "table rewards: column wins has type LargeUtf8, wanted Int32");
    let unknown = replace("status", Arc::new(LargeStringArray::from(vec!["fine"])));
    let message = Reward::from_batch(&unknown).unwrap_err().to_string();
    assert!(message.contains("column status holds `fine`, wanted one of scored"), "{message}");
}
