//! Shares of failures that stop a run.

use joust_reward::{CommandPartConfig, HttpPartConfig, RewardPart};
use joust_schema::ids::Member;
use joust_schema::tables::{Reward, Status, Vote};

use super::*;

/// A reward with the parts `mine`, a program, and `far`, a server.
fn reward(max_failed: f64) -> RewardConfig {
    let part = |name: &str, of: PartOf| RewardPart {
        of,
        name: Some(name.to_owned()),
        weight: 1.0,
        optional: false,
    };
    let parts = vec![
        part("mine", PartOf::Command(CommandPartConfig::default())),
        part("far", PartOf::Http(HttpPartConfig::default())),
    ];
    RewardConfig { max_failed, parts, ..RewardConfig::default() }
}

fn vote(verdict: Verdict, text: &str) -> Vote {
    Vote {
        match_id: "g/1-0-1".into(),
        vote: 0,
        attempt: 0,
        a_shown_first: true,
        verdict,
        text: text.to_owned(),
        prompt_tokens: 0,
        cached_prompt_tokens: 0,
        completion_tokens: 0,
        latency_ms: None,
        seed: 0,
        judge: String::new(),
        cut_off: None,
    }
}

fn group(statuses: &[Status], votes: Vec<Vote>) -> GroupResult {
    let row = |(idx, status): (usize, &Status)| Reward {
        group_id: "g".into(),
        member: Member(idx as u32),
        status: *status,
        reward: (*status == Status::Scored).then_some(0.5),
        win_rate: None,
        rating: None,
        rating_stderr: None,
        wins: 0,
        losses: 0,
        rank: None,
        advantage: None,
    };
    GroupResult {
        group_id: "g".into(),
        rewards: statuses.iter().enumerate().map(row).collect(),
        matches: Vec::new(),
        votes,
        winner: None,
        position_bias: None,
        position_bias_stderr: None,
        length_slope: None,
        length_slope_stderr: None,
        is_refused: false,
        correctness: Vec::new(),
        parts: Vec::new(),
    }
}

#[test]
fn check_fails_above_the_share_of_the_judged_completions() {
    let (scored, failed) = (Status::Scored, Status::JudgeFailed);
    let dead = vote(Verdict::Invalid, "[no reply] connection\nrefused");
    let dead = Vote { vote: 1, ..dead };
    let half = group(&[scored, failed], vec![vote(Verdict::First, "a"), dead.clone()]);
    let check = |results: &[GroupResult], max_failed: f64| {
        Failures::of(results).check(3, &reward(max_failed)).map_err(|error| error.to_string())
    };
    assert_eq!(check(&[], 0.0), Ok(()));
    assert_eq!(check(std::slice::from_ref(&half), 0.5), Ok(()));
    let message = check(std::slice::from_ref(&half), 0.4).unwrap_err();
    let wanted = "step 3: 1 of 2 judged completions have no reward, more than reward.max_failed = \
                  0.4 allows: [no reply] connection refused;";
    assert!(message.starts_with(wanted), "{message}");
    // groups of equal texts are scored without a judge, dead or not
    let flat = || group(&[scored; 8], Vec::new());
    let all = group(&[failed; 4], vec![dead]);
    assert!(check(&[flat(), flat(), all.clone()], 0.5).is_err());
    assert_eq!(check(&[flat(), flat(), all], 1.0), Ok(()));
    let mute = group(&[failed; 2], vec![vote(Verdict::Invalid, "Hm. I cannot\nsay.")]);
    let message = check(&[mute], 0.5).unwrap_err();
    assert!(message.contains("no verdict in a vote that says \"Hm. I cannot say.\""), "{message}");
    let unknown = group(&[failed; 2], Vec::new());
    assert!(check(&[unknown], 0.5).unwrap_err().contains("no known answer"));
}

#[test]
fn check_fails_above_the_share_of_completions_for_which_a_part_failed() {
    let with_part = |outcome: PartOutcome, status: Status| {
        let parts = vec![PartScores { name: "mine".to_owned(), counts: true, outcome }];
        GroupResult { parts, ..group(&[status; 2], Vec::new()) }
    };
    // a server has no files of `run`
    let far = |outcome: PartOutcome| {
        let parts = vec![PartScores { name: "far".to_owned(), counts: true, outcome }];
        GroupResult { parts, ..group(&[Status::Scored; 2], Vec::new()) }
    };
    let given = |values: [Option<f64>; 2]| PartOutcome::Given(values.to_vec());
    let good = || with_part(given([Some(1.0); 2]), Status::Scored);
    let failed = || PartOutcome::Failed("twice: it died".to_owned());
    let check = |results: &[GroupResult], max_failed: f64| {
        Failures::of(results).check(3, &reward(max_failed)).map_err(|error| error.to_string())
    };
    // an optional part that failed leaves its group a reward, and counts all the same
    let dead = || with_part(failed(), Status::Scored);
    assert_eq!(check(&[good(), dead()], 0.5), Ok(()));
    let message = check(&[good(), dead(), dead()], 0.5).unwrap_err();
    let wanted = "step 3: part `mine` of the reward failed for 4 of 6 completions, more than \
                  reward.max_failed = 0.5 allows: twice: it died; --resume repeats the step, \
                  with the files of `run` as they were";
    assert!(message.starts_with(wanted), "{message}");
    let message = check(&[far(failed())], 0.5).unwrap_err();
    let wanted = "twice: it died; mend the server and go on with --resume, which repeats the step";
    assert!(message.ends_with(wanted), "{message}");
    assert_eq!(check(&[good(), dead(), dead()], 1.0), Ok(()));
    let not_asked = || with_part(PartOutcome::NotAsked, Status::Scored);
    assert!(check(&[not_asked(), not_asked(), dead()], 0.9).is_err());
    // numbers that a part does not have are no failure of it, but rewards that are missing
    let half = || with_part(given([None, Some(1.0)]), Status::PartFailed);
    assert_eq!(check(&[good(), half()], 0.5), Ok(()));
    let message = check(&[good(), half(), half()], 0.5).unwrap_err();
    let wanted = "step 3: 4 of 6 judged completions have no reward, more than reward.max_failed = \
                  0.5 allows: part `mine` gave null;";
    assert!(message.starts_with(wanted), "{message}");
}

#[test]
fn check_fails_above_the_share_of_votes_without_a_reply_although_all_have_a_reward() {
    let lost = |at| Vote { vote: at, ..vote(Verdict::Invalid, "[no reply] 429 Too Many Requests") };
    let given = |at| Vote { vote: at, ..vote(Verdict::First, "a") };
    let check = |votes: Vec<Vote>, max_failed| {
        let result = group(&[Status::Scored; 2], votes);
        Failures::of(&[result]).check(3, &reward(max_failed)).map_err(|error| error.to_string())
    };
    assert_eq!(check(vec![given(0), lost(1)], 0.5), Ok(()));
    let message = check(vec![given(0), lost(1), lost(2)], 0.5).unwrap_err();
    let wanted = "step 3: 2 of 3 votes have no reply of the judge, more than reward.max_failed = \
                  0.5 allows, so that the rewards made of the others may be wrong: 429 Too";
    assert!(message.starts_with(wanted), "{message}");
    assert_eq!(check(vec![given(0), lost(1), lost(2)], 1.0), Ok(()));
    // asked for again, and answered
    let again = |at| Vote { attempt: 1, ..given(at) };
    assert_eq!(check(vec![lost(0), again(0), lost(1), again(1)], 0.0), Ok(()));
}
