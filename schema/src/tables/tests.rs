//! Rows through Arrow and Parquet and back, columns read in place, and wrong files refused by name.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray,
};

use super::*;
use crate::table::{Table, join_columns, replace_column};

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
fn from_batch_returns_the_rows_after_arrow_parquet_and_ipc() {
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

fn rollout(member: u32) -> Rollout {
    Rollout {
        step: 1,
        group_id: "g".into(),
        member: Member(member),
        prompt_id: "p".into(),
        policy_version: PolicyVersion(2),
        prompt: "2+2=".into(),
        completion: "4 \u{1F600}".into(),
        prompt_token_ids: vec![1, 2],
        completion_token_ids: vec![],
        completion_logprobs: vec![-0.5, f32::MIN_POSITIVE],
        behaviour_logprobs: Some(vec![-0.25, 0.0]),
        finish_reason: FinishReason::Length,
        seed: -7,
    }
}

#[test]
fn parquet_keeps_lists() {
    let row = rollout(3);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rollouts.parquet");
    crate::parquet::write(&path, std::slice::from_ref(&row)).unwrap();
    assert_eq!(crate::parquet::read::<Rollout>(&path).unwrap(), vec![row]);
}

#[test]
fn parquet_keeps_the_columns_of_an_empty_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("votes.parquet");
    crate::parquet::write::<Vote>(&path, &[]).unwrap();
    assert!(crate::parquet::read::<Vote>(&path).unwrap().is_empty());
    let message = crate::parquet::read::<Match>(&path).unwrap_err().to_string();
    assert!(message.contains("the file holds table votes"), "{message}");
}

#[test]
fn from_batch_reads_foreign_types_and_names_wrong_ones() {
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

#[test]
fn columns_are_read_in_place() {
    let rows = [rollout(0), Rollout { prompt_token_ids: vec![7], ..rollout(4) }];
    let batch = Rollout::to_batch(&rows).unwrap();
    let columns = Rollout::columns(&batch).unwrap();
    assert_eq!(columns.prompt_token_ids.get(1), [7]);
    assert!(columns.completion_token_ids.get(0).is_empty());
    assert_eq!(columns.completion.get(0), "4 \u{1F600}");
    assert_eq!(columns.member.iter().collect::<Vec<_>>(), [Member(0), Member(4)]);
    assert_eq!(columns.finish_reason.get(1), FinishReason::Length);
    let batch = Reward::to_batch(&[reward(0, None), reward(1, Some(0.5))]).unwrap();
    let columns = Reward::columns(&batch.slice(1, 1)).unwrap();
    assert_eq!((columns.reward.get(0), columns.rating_stderr.get(0)), (Some(0.5), None));
    let columns = Reward::columns(&batch).unwrap();
    assert_eq!(columns.reward.iter().collect::<Vec<_>>(), [None, Some(0.5)]);
}

#[test]
fn replace_column_refuses_another_type_or_length() {
    let batch = Reward::to_batch(&[reward(0, Some(0.25)), reward(1, None)]).unwrap();
    let advantages = Float64Array::from(vec![Some(-1.5), None]);
    let replaced = replace_column(&batch, "advantage", Arc::new(advantages)).unwrap();
    let rows = Reward::from_batch(&replaced).unwrap();
    assert_eq!((rows[0].advantage, rows[1].advantage), (Some(-1.5), None));
    assert_eq!(Reward { advantage: None, ..rows[0].clone() }, reward(0, Some(0.25)));
    let short = Float64Array::from(vec![Some(0.0)]);
    assert!(replace_column(&batch, "advantage", Arc::new(short)).is_err());
    let whole = Int64Array::from(vec![1, 2]);
    assert!(replace_column(&batch, "advantage", Arc::new(whole)).is_err());
    assert!(replace_column(&batch, "no_such", batch.column(0).clone()).is_err());
}

#[test]
fn join_columns_takes_the_first_source_with_the_column() {
    let sources = [
        Rollout::to_batch(&[rollout(3)]).unwrap(),
        Reward::to_batch(&[reward(9, Some(0.25))]).unwrap(),
    ];
    let sources = [&sources[0], &sources[1]];
    let own: [(&str, ArrayRef); 3] = [
        ("completion_tokens", Arc::new(Int32Array::from(vec![8]))),
        ("answer", Arc::new(StringArray::from(vec![None::<&str>]))),
        ("correct", Arc::new(BooleanArray::from(vec![Some(true)]))),
    ];
    let batch = join_columns::<Completion>(&own, &sources).unwrap();
    let row = Completion::from_batch(&batch).unwrap().remove(0);
    assert_eq!((row.member, row.reward, row.wins), (Member(3), Some(0.25), 1));
    assert_eq!((row.policy_version, row.completion_tokens), (Some(PolicyVersion(2)), Some(8)));
    assert_eq!((row.answer, row.correct), (None, Some(true)));
    let message = join_columns::<Completion>(&own[1..], &sources).unwrap_err().to_string();
    assert_eq!(message, "table completions: column completion_tokens is in none of the sources");
}

#[test]
fn write_batch_gives_the_same_file_as_its_rows() {
    let rows: Vec<Rollout> = (0..10_000)
        .map(|idx| Rollout {
            completion: "ab".repeat(idx % 7),
            completion_token_ids: (0..idx as i32 % 50).collect(),
            ..rollout(idx as u32)
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let (by_rows, by_batch) = (dir.path().join("rows"), dir.path().join("batch"));
    crate::parquet::write(&by_rows, &rows).unwrap();
    crate::parquet::write_batch(&by_batch, &Rollout::to_batch(&rows).unwrap()).unwrap();
    assert_eq!(std::fs::read(by_rows).unwrap(), std::fs::read(by_batch).unwrap());
}
