//! Jobs in the journal of a disk that has no room: `/dev/full` stands for it.

use std::path::Path;

use super::*;
use crate::dump::fixture::fill_disk;
use crate::group::fixture::pair;
use crate::metrics::ServerMetrics;
use joust_reward::arena::GroupResult;

/// A key, its group and its group as JSON.
fn group(question: &str) -> (GroupKey, GroupRequest, Arc<RawValue>) {
    let group = pair(question);
    let (key, json) = GroupKey::of("", &group);
    (key, group, json)
}

fn recorder(dir: &Path) -> Recorder {
    let config = DumpConfig {
        dir: dir.to_owned(),
        every_groups: 1,
        every: Duration::from_secs(3600),
        max_set_bytes: 1 << 20,
        keep: Duration::from_secs(60),
        // each segment is removed once its set is written
        keep_bytes: 1,
        judged_by: String::new(),
    };
    Recorder::open(&config, &DumpHealth::new(&ServerMetrics::new())).unwrap().0
}

fn record_result(recorder: &mut Recorder, question: &str) {
    let (key, group, json) = group(question);
    let result = GroupResult {
        group_id: group.group_id.clone(),
        rewards: Vec::new(),
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
    let judged = Judged { key, tenant: String::new(), group, result, cohort: None };
    recorder.record_result(&Arc::new(judged), &json);
}

#[test]
fn recorded_job_stays_recorded_when_the_next_segment_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = recorder(dir.path());
    let ((job, _, json), client) = (group("a job"), Client::default());
    recorder.record_job(job, &json, &client).unwrap();
    fill_disk(dir.path(), 1);
    record_result(&mut recorder, "another group");
    assert_eq!(recorder.unrecorded, BTreeSet::from([job]));
    // posted again: it is in the first segment
    assert_eq!(recorder.record_job(job, &json, &client), Ok(()));
    let (other, _, json) = group("another job");
    assert!(recorder.record_job(other, &json, &client).is_err());
    // ... which is kept although its set is written
    recorder.close();
    let kept = journal::segments(dir.path()).unwrap().remove(0);
    assert_eq!((kept.number, kept.is_written), (0, true));
    let mut entries = Vec::new();
    journal::read_segment(&kept.path, |entry| entries.push(entry)).unwrap();
    let accepted =
        |entry: &JournalEntry| matches!(entry, JournalEntry::Accepted { key, .. } if *key == job);
    assert!(entries.iter().any(accepted), "{entries:?}");
}
