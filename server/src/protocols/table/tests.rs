//! Tables as other programs make them, split into batches at any row.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, StringArray, StringViewArray,
    new_null_array,
};
use arrow::datatypes::Int8Type;
use joust_schema::ids::{PolicyVersion, PromptId};
use joust_schema::prompt::Message;
use joust_schema::table::{TABLE_KEY, Table};
use joust_schema::tables::{FinishReason, Rollout};

use super::*;
use joust_reward::TournamentConfig;
use joust_reward::arena::GroupRequest;

const MAX: usize = 10_000;

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn table(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let columns = columns.iter().map(|(name, column)| (*name, Arc::clone(column), true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Two groups, of two members and of three.
fn five() -> [(&'static str, ArrayRef); 3] {
    [
        ("group_id", text(&["a", "a", "b", "b", "b"])),
        ("prompt", text(&["p", "p", "q", "q", "q"])),
        ("completion", text(&["1", "2", "3", "4", "3"])),
    ]
}

/// All groups of a table in batches of `n` rows.
fn read(
    table: &RecordBatch,
    n: usize,
    max_bytes: usize,
) -> Result<Vec<(RowLabels, GroupRequest)>, Problem> {
    let mut groups = GroupSplitter::new(max_bytes);
    let mut seen = Vec::new();
    for start in (0..table.num_rows()).step_by(n) {
        groups.push(&table.slice(start, n.min(table.num_rows() - start)))?;
        while let Some(group) = groups.next()? {
            seen.push(group);
        }
    }
    seen.extend(groups.finish());
    let request = |StreamedGroup { tag, group }: StreamedGroup<RowLabels>| {
        (tag, group.unwrap().into_request(&TournamentConfig::default(), 0).unwrap())
    };
    Ok(seen.into_iter().map(request).collect())
}

#[test]
fn group_splitter_finds_the_same_groups_in_batches_of_any_size() {
    let whole = table(&five());
    for n in 1..=5 {
        let groups = read(&whole, n, MAX).unwrap();
        assert_eq!(groups.len(), 2);
        let [(a, of_a), (b, of_b)] = &groups[..] else { panic!() };
        assert_eq!(*a, RowLabels { group_id: "a".into(), members: vec![Member(0), Member(1)] });
        assert_eq!(b.members, [Member(0), Member(1), Member(2)]);
        assert_eq!(
            (&of_a.completions[..], &of_b.completions[..]),
            (&["1", "2"].map(str::to_owned)[..], &["3", "4", "3"].map(str::to_owned)[..])
        );
        assert_eq!((&of_b.question[..], &of_b.group_id.0[..]), ("q", "b"));
        assert_eq!(of_b.reference, None);
    }
}

#[test]
fn group_splitter_reads_batches_larger_than_its_window() {
    let n_rows = 2 * WINDOW_ROWS + 100;
    let ids: Vec<String> = (0..n_rows).map(|row| (row / 3).to_string()).collect();
    let said: Vec<String> = (0..n_rows).map(|row| row.to_string()).collect();
    let of = |values: &[String]| text(&values.iter().map(|value| &value[..]).collect::<Vec<_>>());
    let whole = table(&[("group_id", of(&ids)), ("prompt", of(&ids)), ("completion", of(&said))]);
    let groups = read(&whole, n_rows, MAX).unwrap();
    assert_eq!(groups.len(), n_rows.div_ceil(3));
    let seen: Vec<String> = groups.into_iter().flat_map(|(_, group)| group.completions).collect();
    assert_eq!(seen, said);
}

#[test]
fn group_splitter_ends_the_open_group_at_a_batch_without_rows() {
    let whole = table(&five());
    let mut groups = GroupSplitter::new(MAX);
    groups.push(&whole.slice(0, 2)).unwrap();
    assert!(groups.next().unwrap().is_none(), "more rows of the group may arrive");
    groups.push(&whole.slice(0, 0)).unwrap();
    assert_eq!(groups.next().unwrap().unwrap().tag.group_id.0, "a");
    assert!(groups.next().unwrap().is_none() && groups.finish().is_none());
    groups.push(&whole.slice(1, 1)).unwrap();
    let error = groups.next().err().unwrap().to_string();
    assert_eq!(error, "row 2: rows of group a are not next to each other");
}

#[test]
fn group_splitter_reads_every_string_type_of_arrow() {
    let [(_, ids), (_, prompts), (_, completions)] = five();
    let keyed = |array: &ArrayRef| -> ArrayRef {
        Arc::new(array.as_string::<i32>().iter().collect::<DictionaryArray<Int8Type>>())
    };
    let large: ArrayRef =
        Arc::new(completions.as_string::<i32>().iter().collect::<LargeStringArray>());
    let view: ArrayRef = Arc::new(prompts.as_string::<i32>().iter().collect::<StringViewArray>());
    let plain = read(&table(&five()), 2, MAX).unwrap();
    let nothing = new_null_array(&DataType::Null, 5);
    for columns in [
        [("group_id", keyed(&ids)), ("prompt", view), ("completion", large), ("answer", nothing)],
        [
            ("group_id", ids),
            ("prompt", keyed(&prompts)),
            ("completion", keyed(&completions)),
            ("answer", keyed(&(Arc::new(StringArray::new_null(5)) as ArrayRef))),
        ],
    ] {
        let seen = read(&table(&columns), 2, MAX).unwrap();
        assert_eq!(seen, plain);
    }
}

#[test]
fn group_splitter_reads_member_numbers_answers_and_chats() {
    let chat = Prompt::Messages(vec![Message::new("system", "s"), Message::new("user", "u")]);
    let [id, _, completion] = five();
    let (first, second) = (chat.to_column(), "[1] is a text".to_owned());
    let prompts: Vec<&str> = vec![&first, &first, &second, &second, &second];
    let member: ArrayRef = Arc::new(Int64Array::from(vec![4, 2, 0, 1, 2]));
    let answer: ArrayRef =
        Arc::new(StringArray::from(vec![Some("2"), Some("2"), None, None, None]));
    let whole = table(&[
        id,
        ("prompt", text(&prompts)),
        completion,
        ("member", member),
        ("answer", answer),
    ]);
    let groups = read(&whole, 3, MAX).unwrap();
    assert_eq!(groups[0].0.members, [Member(4), Member(2)]);
    assert_eq!(
        (&groups[0].1.question, groups[0].1.reference.as_deref()),
        (&chat.question(), Some("2"))
    );
    assert_eq!((&groups[1].1.question, &groups[1].1.reference), (&second, &None));
}

#[test]
fn group_splitter_reads_the_rollouts_table() {
    let row = |group: &str, member: u32, completion: &str| Rollout {
        step: 1,
        group_id: group.into(),
        member: Member(member),
        prompt_id: PromptId("p".into()),
        policy_version: PolicyVersion(2),
        prompt: "2+2=".into(),
        completion: completion.into(),
        prompt_token_ids: vec![1],
        completion_token_ids: vec![],
        completion_logprobs: vec![],
        behaviour_logprobs: None,
        finish_reason: FinishReason::Stop,
        seed: -7,
    };
    let rows = [row("g", 0, "4"), row("g", 1, "5"), row("h", 0, "4")];
    let groups = read(&Rollout::to_batch(&rows).unwrap(), 2, MAX).unwrap();
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].1.completions, ["4", "5"]);
}

/// Checks the problem of a table in which some columns are replaced, or removed.
fn check_refused(others: &[(&str, Option<ArrayRef>)], wanted: &str) {
    let mut columns: Vec<(&str, ArrayRef)> = five().to_vec();
    for (name, other) in others {
        columns.retain(|(known, _)| known != name);
        columns.extend(other.clone().map(|column| (*name, column)));
    }
    let whole = table(&columns);
    for n in [1, 5] {
        let error = read(&whole, n, MAX).unwrap_err();
        assert!(matches!(error, Problem::Invalid(_)), "{error:?}");
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn group_splitter_names_the_row_and_column_of_a_problem() {
    let numbers = |numbers: [i64; 5]| -> ArrayRef { Arc::new(Int64Array::from(numbers.to_vec())) };
    let with_null = |at: usize| -> ArrayRef {
        let values = ["a", "a", "b", "b", "b"].into_iter().enumerate();
        Arc::new(values.map(|(row, id)| (row != at).then_some(id)).collect::<StringArray>())
    };
    let cases: [(&str, Option<ArrayRef>, &str); 11] = [
        ("completion", None, "column completion is missing"),
        ("prompt", Some(numbers([1; 5])), "column prompt has type Int64, wanted Utf8"),
        ("answer", Some(numbers([1; 5])), "column answer has type Int64, wanted Utf8"),
        ("member", Some(text(&["0"; 5])), "column member has type Utf8, wanted Int32"),
        ("group_id", Some(with_null(3)), "row 3: group_id is null"),
        ("group_id", Some(text(&["a", "b", "b", "b", "a"])), "row 2: group b has two prompts"),
        ("prompt", Some(text(&["p", "p", "q", "q", "r"])), "row 4: group b has two prompts"),
        ("answer", Some(with_null(4)), "row 4: group b has two answers"),
        ("member", Some(numbers([0, 1, 0, 1, 0])), "row 4: group b has member 0 twice"),
        ("member", Some(numbers([0, -1, 0, 1, 2])), "row 1: member is no number of 0 or more"),
        ("member", Some(numbers([0, 1, 0, 1, 1 << 40])), "row 4: member is no number of 0 or more"),
    ];
    for (name, column, wanted) in cases {
        check_refused(&[(name, column)], wanted);
    }
    let same = ("prompt", Some(text(&["p"; 5])));
    let mixed = ("group_id", Some(text(&["a", "b", "b", "a", "b"])));
    check_refused(&[same, mixed], "row 3: rows of group a are not next to each other");
}

#[test]
fn group_splitter_refuses_a_group_larger_than_its_limit() {
    // a small message whose texts are large once they are unpacked
    let ids: DictionaryArray<Int8Type> = std::iter::repeat_n(Some("a"), 100_000).collect();
    let long = "x".repeat(1000);
    let said: DictionaryArray<Int8Type> =
        std::iter::repeat_n(Some(long.as_str()), 100_000).collect();
    let (ids, said): (ArrayRef, ArrayRef) = (Arc::new(ids), Arc::new(said));
    let whole = table(&[
        ("group_id", Arc::clone(&ids)),
        ("prompt", Arc::clone(&ids)),
        ("completion", said),
    ]);
    let error = read(&whole, 100_000, MAX).unwrap_err();
    assert_eq!(error, Problem::TooLarge("row 9: group a is larger than 10000 bytes".into()));
    let empty: DictionaryArray<Int8Type> = std::iter::repeat_n(Some(""), 100_000).collect();
    let whole =
        table(&[("group_id", Arc::clone(&ids)), ("prompt", ids), ("completion", Arc::new(empty))]);
    assert!(matches!(read(&whole, 1000, MAX), Err(Problem::TooLarge(_))));
}

#[test]
fn rewards_have_the_member_numbers_of_the_client() {
    let labels = RowLabels { group_id: "g".into(), members: vec![Member(7), Member(3)] };
    let timed_out = without_rewards(&labels, Status::Timeout).unwrap();
    assert_eq!(timed_out.schema().metadata()[TABLE_KEY], "rewards");
    let rows = Reward::from_batch(&timed_out).unwrap();
    assert_eq!(rows.iter().map(|row| row.member).collect::<Vec<_>>(), labels.members);
    assert!(rows.iter().all(|row| row.status == Status::Timeout && row.reward.is_none()));
    let result = GroupResult {
        group_id: "g".into(),
        rewards: (0..2)
            .map(|at| Reward {
                member: Member(at),
                status: Status::Scored,
                reward: Some(f64::from(at)),
                ..rows[0].clone()
            })
            .collect(),
        matches: Vec::new(),
        votes: Vec::new(),
        winner: None,
        position_bias: None,
        position_bias_stderr: None,
        length_slope: None,
        length_slope_stderr: None,
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    };
    let judged = Reward::from_batch(&rewards(&labels, &result).unwrap()).unwrap();
    let seen: Vec<_> = judged.iter().map(|row| (row.member, row.reward)).collect();
    assert_eq!(seen, [(Member(7), Some(0.0)), (Member(3), Some(1.0))]);
}
