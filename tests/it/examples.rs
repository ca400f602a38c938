//! The code of `examples/` against a running server, called as each trainer calls it, and the
//! trainers' own clients by their published protocols. The Python files in `tests/it/examples` make
//! the calls and hold stand-ins for the trainers' classes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::binary::{arg, root};
use crate::serving::{Server, python};

/// A server that collects groups of four.
fn server(more: &[&str]) -> Server {
    let settings = [
        "serve.group_size=4",
        "reward.judge.temperature=0",
        "reward.tournament.kind=\"round_robin\"",
    ];
    Server::start(&[&settings[..], more].concat())
}

/// The JSON that a client prints at its end.
pub(crate) fn client(file: &str, server: &Server, case: &[&str]) -> Value {
    client_at(file, &server.address, case)
}

/// As [`client`], for a server that may be started again at its address.
fn client_at(file: &str, address: &str, case: &[&str]) -> Value {
    let args = [&[file, address], case].concat();
    serde_json::from_str(&python("tests/it/examples", &args)).unwrap()
}

/// Whether the right answers came first in each of `n` groups.
fn check_right(told: &Value, n: usize) {
    assert_eq!(told, &json!(vec![true; n]));
}

fn check_contains(text: &Value, wanted: &str) {
    assert!(text.as_str().unwrap().contains(wanted), "{text}");
}

#[test]
fn openrlhf_gets_numbers_or_an_error() {
    // a group whose member waits for a thread is incomplete after this time
    let told = client("openrlhf.py", &server(&["serve.collect_s=20"]), &["whole"]);
    let url = &told["url"];
    check_right(&url["right"], 8);
    assert_eq!(
        (&url["numbers"], &url["same"], &url["bounded"]),
        (&json!(true), &json!(true), &json!(true))
    );
    for name in ["reward", "score", "rating", "rating_stderr", "rank", "wins", "losses"] {
        assert_eq!(url["shapes"][name], json!([1, 1]), "{name}");
    }
    check_right(&told["executor"]["right"], 12);

    let told = client("openrlhf.py", &server(&["serve.collect_s=1"]), &["incomplete"]);
    assert_eq!(told["url"], Value::Null);
    check_contains(&told["executor"], "504");
    check_contains(&told["executor"], "1 of 4 members");
}

#[test]
fn verl_function_and_manager_score_groups_by_uid_and_by_question() {
    // eight groups may be open: members of further groups get 429 and are sent again
    let open = server(&["serve.collect_s=20", "serve.max_cohorts=8"]);
    let told = client("verl.py", &open, &["whole"]);
    for way in ["manager", "naive"] {
        check_right(&told[way]["right"], 10);
        let keys = told[way]["keys"].as_array().unwrap();
        assert!(keys.contains(&json!("score")) && keys.contains(&json!("win_rate")), "{keys:?}");
    }

    let told = client("verl.py", &server(&["serve.collect_s=1"]), &["incomplete"]);
    check_contains(&told[0], "1 of 4 members");
    check_contains(&told[1], "gave no reward");
    check_contains(&told[2], "prompt is empty");
}

#[test]
fn slime_gets_rewards_of_whole_groups_and_of_single_samples() {
    // a queue of four: further groups get 429 and are sent again
    let told = client("slime.py", &server(&["serve.queue_capacity=4"]), &["whole"]);
    check_right(&told["group"], 10);
    check_right(&told["url"], 8);
    assert_eq!((&told["question"], &told["kept"]), (&json!(true), &json!(true)));

    let told = client("slime.py", &server(&["serve.collect_s=1"]), &["incomplete"]);
    check_contains(&told["alone"], "504");
    let missing = &told["missing"];
    for (at, status) in ["scored", "scored", "judge_failed", "scored"].into_iter().enumerate() {
        assert_eq!(
            (&missing[at][1], &missing[at][2]),
            (&json!(at == 2), &json!(status)),
            "{missing}"
        );
    }
    let reward = |at: usize| missing[at][0].as_f64().unwrap();
    assert!((reward(2) - (reward(0) + reward(1) + reward(3)) / 3.0).abs() < 1e-9, "{missing}");
    assert!(reward(0).min(reward(3)) > reward(1), "{missing}");
    check_contains(&told["problems"][0], "different prompts");
    check_contains(&told["problems"][1], "422");
}

#[test]
fn nemo_gym_gets_its_body_back_with_a_reward_or_a_failure_class() {
    let told = client("nemo_gym.py", &server(&[]), &["whole"]);
    check_right(&told["right"], 3);
    assert_eq!((&told["whole"], &told["kept"]), (&json!(true), &json!(true)));
    let compare = &told["compare"];
    assert_eq!(compare["status"], 200);
    let rewards: Vec<f64> = serde_json::from_value(compare["rewards"].clone()).unwrap();
    assert!(rewards[0] == rewards[3] && rewards[0] > rewards[1] && rewards[0] > rewards[2]);
    assert_eq!(compare["metrics"], json!(["mean_individual_score", "std_individual_score"]));

    let told = client("nemo_gym.py", &server(&["serve.collect_s=1"]), &["incomplete"]);
    assert_eq!(
        (&told["failed"]["reward"], &told["failed"]["mask_sample"]),
        (&json!(0.0), &json!(true))
    );
    assert_eq!(told["failed"]["failure_kind"], "joust:incomplete_group");
    assert_eq!(told["failed"]["_ng_failure_class"], "incomplete_group");
    check_contains(&told["failed"]["_ng_failure_judge_error"], "1 of 4 members");
    check_contains(&told["refused"], "JudgeError");
    check_contains(&told["lost"], "404");
}

#[test]
fn nemo_gym_scores_every_rollout_over_a_stop_and_a_start_of_the_server() {
    let mut first = server(&["serve.collect_s=300"]);
    let address = &first.address.clone();
    let dir = tempfile::tempdir().unwrap();
    // the last rollouts are sent once this file is there
    let again = dir.path().join("again");
    let told = std::thread::scope(|scope| {
        let marker = arg(&again);
        let rollouts =
            scope.spawn(move || client_at("nemo_gym.py", address, &["stopped", &marker]));
        // six rollouts of two groups wait for the last ones
        let end = Instant::now() + Duration::from_secs(60);
        while first.request("GET /health", "").1["waiting_completions"] != 6 {
            assert!(Instant::now() < end && !rollouts.is_finished(), "the rollouts do not wait");
            std::thread::yield_now();
        }
        first.stop();
        let port = format!("serve.port={}", address.rsplit(':').next().unwrap());
        let _second = server(&["serve.collect_s=300", &port]);
        std::fs::write(&again, "").unwrap();
        rollouts.join().unwrap()
    });
    check_right(&told["right"], 2);
    assert_eq!(told["whole"], true);
}

#[test]
fn openai_client_gets_answers_streams_and_messages_of_errors() {
    let told = client("openai_client.py", &server(&[]), &[]);
    assert_ne!(told["plain"][0], "");
    assert_eq!(told["streamed"], told["plain"]);
    check_contains(&told["errors"]["logit_bias"], "logit_bias is not offered");
    check_contains(&told["errors"]["model"], "the model `gpt-9` does not exist");
    check_contains(&told["errors"]["messages"], "has the role \"hacker\" in message 1");
    assert_eq!(told["names"], json!(["invalid", "model_not_found", "invalid"]));
}

#[test]
fn ms_swift_plugin_sends_whole_groups_and_makes_no_number_of_a_failure() {
    let told = client("ms_swift.py", &server(&["serve.queue_capacity=2"]), &[]);
    check_right(&told["right"], 6);
    let missing = told["missing"].as_array().unwrap();
    let is_null: Vec<bool> = missing.iter().map(Value::is_null).collect();
    assert_eq!(is_null, [false, false, true, false]);
    assert_eq!(told["missing_with_rloo"], told["missing"]);
    let wanted = [
        "are no group of 3",
        "are no group of 8",
        "are no group of 5",
        "scale_rewards gdpo",
        "422",
        "advantage_estimator grpo or rloo",
        "multi_turn_scheduler",
    ];
    for (at, wanted) in wanted.into_iter().enumerate() {
        check_contains(&told["problems"][at], wanted);
    }
}

#[test]
fn trl_reward_function_gets_rewards_and_logs_the_judges_words() {
    let server = Server::start(&["reward.judge.temperature=0", "serve.queue_capacity=1"]);
    // two groups at once at a queue of one: the second gets 429 and is sent again
    let answer = client("trl.py", &server, &[]);
    let rewards: Vec<f64> = serde_json::from_value(answer[0].clone()).unwrap();
    assert!(rewards[0] == rewards[3] && rewards[0] > rewards[1] && rewards[0] > rewards[2]);
    assert!(rewards[4].min(rewards[7]) > rewards[5].max(rewards[6]), "{rewards:?}");
    for column in ["rating", "rating_stderr", "status", "judge"] {
        assert_eq!(answer[1][column].as_array().unwrap().len(), 8, "{column}");
    }
    let words = answer[1]["judge"][1].as_str().unwrap();
    assert!(words.contains("</think>") && words.contains("against 0"), "{words}");
    // two completions that say the same are one player
    assert_eq!(answer[2]["tournament/matches"], json!((3.0 + 6.0) / 2.0));
    assert_eq!(answer[3], true);
    let problems = answer[4].as_array().unwrap();
    for (problem, wanted) in problems.iter().zip([
        "no whole groups of 3",
        "no group of 8",
        "votes is 0",
        "no answer within",
    ]) {
        assert!(problem.as_str().unwrap().contains(wanted), "{problem}");
    }
    assert_eq!(problems.len(), 4);
}

#[test]
fn examples_find_the_client_that_is_copied_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(root().join("examples").join(from), dir.path().join(to)).unwrap();
    };
    copy("slime/group_rm.py", "group_rm.py");
    copy("joust_client.py", "joust_client.py");
    let code = "import group_rm, joust_client; print(joust_client.__file__)";
    let found = python(&arg(dir.path()), &["-c", code]);
    assert_eq!(found.trim(), arg(&dir.path().join("joust_client.py")));
}

#[test]
fn client_asks_again_after_answers_that_broke_off() {
    let told: Value =
        serde_json::from_str(&python("tests/it/examples", &["broken_answers.py"])).unwrap();
    let told = told.as_object().unwrap();
    assert_eq!(told.len(), 8);
    for (case, n_requests) in told {
        assert_eq!(n_requests, 2, "{case}");
    }
}
