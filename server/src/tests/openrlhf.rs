//! OpenRLHF's `/get_reward`, and the barrier behind all protocols of single completions.

use super::fixture::*;

#[tokio::test]
async fn get_reward_adds_no_member_for_a_refused_request() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let mut two = openrlhf("2+2?", "phantom", "4");
    for (key, more) in [("query", "nothing"), ("prompts", "zzz"), ("labels", "4")] {
        two[key].as_array_mut().unwrap().push(json!(more));
    }
    let response = send(&app, "/get_reward", &[], &two).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let whole = ["4", "5"].map(|said| spawn(&app, "/get_reward", openrlhf("2+2?", said, "4")));
    for one in whole {
        assert_eq!(one.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn get_reward_and_remote_rm_score_single_completions_as_a_group() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let mut tasks = Vec::new();
    for said in [" 4", " 5", " 22"] {
        tasks.push(spawn(&app, "/get_reward", openrlhf("2+2?", said, "4")));
    }
    // another group, in the other protocol
    for said in ["7", "8", "7"] {
        let prompt = json!([{"role": "user", "content": "3+4?"}]);
        let body = json!({"prompt": prompt, "response": said, "label": "7"});
        tasks.push(spawn(&app, "/remote_rm", body));
    }
    let mut answers = Vec::new();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answers.push(answer);
    }
    let reward = |answer: &Value| answer["rewards"][0].as_f64().unwrap();
    assert!(reward(&answers[0]) > reward(&answers[1]) && reward(&answers[0]) > reward(&answers[2]));
    for answer in &answers[..3] {
        assert_eq!(answer["rewards"].as_array().unwrap().len(), 1);
        let score = answer["scores"][0].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&score));
        // OpenRLHF makes tensors of the logs
        for values in answer["extra_logs"].as_object().unwrap().values() {
            assert!(values[0].is_number(), "{answer}");
        }
    }
    let slime: Vec<f64> = answers[3..].iter().map(|answer| answer.as_f64().unwrap()).collect();
    assert!(slime[0] > slime[1] && slime[0] == slime[2], "{slime:?}");
}

#[tokio::test]
async fn get_reward_takes_a_whole_group_and_remote_rm_a_reward_key() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let query = json!(["q 1", "q 2", "q 3"]);
    let body = json!({"query": query, "prompts": ["q", "q", "q"], "labels": ["1", "1", "1"]});
    let response = send(&app, "/get_reward", &[], &body).await;
    let answer = json_of(response).await;
    let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
    assert!(rewards[0] > rewards[1] && rewards[0] > rewards[2], "{rewards:?}");
    let one = |said: &str| json!({"prompt": "p", "response": said, "label": "1"});
    let tasks = ["1", "2", "3"].map(|said| spawn(&app, "/remote_rm?key=score", one(said)));
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200);
        assert!(answer["score"].is_number() && answer["win_rate"].is_number(), "{answer}");
    }
}

#[tokio::test]
async fn get_reward_answers_504_for_an_incomplete_group_and_503_for_a_failed_judge() {
    let soon = Duration::from_millis(100);
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.collect = soon);
    let alone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    let (status, answer) = alone.await.unwrap();
    assert_eq!(status, 504);
    assert!(answer["error"]["message"].as_str().unwrap().contains("1 of 3 members"), "{answer}");

    let partial = server(Box::<RuleJudge>::default(), |config| {
        config.cohorts.incomplete = Incomplete::Partial;
        config.cohorts.collect = soon;
    });
    let two = [" 4", " 5"].map(|said| spawn(&partial, "/get_reward", openrlhf("2+2?", said, "4")));
    for task in two {
        assert_eq!(task.await.unwrap().0, 200);
    }

    let broken = server(broken(), |_| {});
    let three =
        [" 4", " 5", " 6"].map(|said| spawn(&broken, "/get_reward", openrlhf("2+2?", said, "4")));
    for task in three {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 503);
        assert!(answer["error"]["message"].as_str().unwrap().contains("no valid vote"), "{answer}");
    }
}

#[tokio::test]
async fn get_reward_judges_a_named_member_once() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let join = |member: &'static str, said: &'static str| {
        let app = app.clone();
        tokio::spawn(async move {
            let headers = [("x-joust-group", "g"), ("x-joust-member", member)];
            let response = send(&app, "/get_reward", &headers, &openrlhf("2+2?", said, "4")).await;
            (response.status().as_u16(), json_of(response).await)
        })
    };
    let (first, twin) = (join("0", " 4"), join("0", " 4"));
    tokio::task::yield_now().await;
    assert_eq!(join("0", " 5").await.unwrap().0, 409);
    let others = [join("1", " 5"), join("2", " 4")];
    let mut rewards = Vec::new();
    for task in [first, twin].into_iter().chain(others) {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        rewards.push(answer["rewards"][0].as_f64().unwrap());
    }
    assert!(rewards[0] == rewards[1] && rewards[0] == rewards[3] && rewards[0] > rewards[2]);
    // a retry gets the same answer; a fourth member is too late
    assert_eq!(join("1", " 5").await.unwrap().1["rewards"][0].as_f64(), Some(rewards[2]));
    assert_eq!(join("3", " 6").await.unwrap().0, 410);
}

#[tokio::test]
async fn get_reward_retry_attaches_to_the_member_of_a_client_that_gave_up() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let gone = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    let other = spawn(&app, "/get_reward", openrlhf("2+2?", " 5", "4"));
    until_waiting(&app, 2).await;
    gone.abort();
    assert!(gone.await.is_err());
    until_waiting(&app, 1).await;
    let again = spawn(&app, "/get_reward", openrlhf("2+2?", " 4", "4"));
    until_waiting(&app, 2).await;
    let last = spawn(&app, "/get_reward", openrlhf("2+2?", " 6", "4"));
    for task in [other, again, last] {
        assert_eq!(task.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn answer_to_a_client_that_has_ended_is_kept_for_its_retry() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let end = ConnectionEnd::default();
    // two of the completions come in one request, whose client goes while it waits
    let body = json!({"query": ["2+2? 4", "2+2? 5"], "prompts": ["2+2?", "2+2?"],
        "labels": ["4", "4"]});
    let mut request = Request::post("/get_reward").body(Body::from(body.to_string())).unwrap();
    request.extensions_mut().insert(end.clone());
    let gone = tokio::spawn(app.clone().oneshot(request));
    until_waiting(&app, 2).await;
    end.mark_seen();
    let other = spawn(&app, "/get_reward", openrlhf("2+2?", " 6", "4"));
    let sent = json_of(gone.await.unwrap().unwrap()).await;
    assert_eq!(other.await.unwrap().0, 200);
    assert!(sent["rewards"][0].as_f64() > sent["rewards"][1].as_f64(), "{sent}");
    assert_eq!(spawn(&app, "/get_reward", body.clone()).await.unwrap(), (200, sent));
    // it was delivered now: the same completions begin a new group
    let next = spawn(&app, "/get_reward", body);
    until_waiting(&app, 2).await;
    next.abort();
}

#[tokio::test]
async fn problem_of_a_group_of_single_completions_keeps_its_status() {
    let three = ["4", "5", "6"];
    // more votes than a group may have
    let mut config = RewardConfig::default();
    config.tournament.votes.max = 100_000;
    let judge: Box<dyn Judge> = Box::<RuleJudge>::default();
    let scorer = Scorer::with_judge(&config, Some(judge), true);
    let app = Server::new(ScorerHandle::spawn(scorer, plain_config()).unwrap().0).router();
    for task in three.map(|said| spawn(&app, "/get_reward", openrlhf("2+2?", said, "4"))) {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("invalid")), "{answer}");
    }
    // a judge that takes too long
    let app = server(silent(), |config| config.timeout = Duration::from_millis(50));
    for task in three.map(|said| spawn(&app, "/get_reward", openrlhf("2+2?", said, "4"))) {
        let (status, answer) = task.await.unwrap();
        assert_eq!((status, &answer["error"]["code"]), (504, &json!("too_late")), "{answer}");
    }
}

#[tokio::test]
async fn get_reward_and_remote_rm_name_what_is_wrong_with_a_body() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let one = json!({"prompt": "p", "response": "r"});
    let cases = [
        ("/get_reward", json!({"query": [], "prompts": []}), 422, "have 0, 0 and 0 entries"),
        ("/get_reward", json!({"query": ["ab"], "prompts": ["a", "b"]}), 422, "1, 2 and 0"),
        (
            "/get_reward",
            json!({"query": ["x y"], "prompts": ["z"]}),
            422,
            "has neither its prompt nor the end of it",
        ),
        ("/get_reward", json!({"prompts": ["z"]}), 422, "missing field `query`"),
        ("/remote_rm", json!({"prompt": "", "response": "r"}), 422, "prompt is empty"),
        (
            "/remote_rm",
            json!({"prompt": "p", "response": "r", "label": {}}),
            422,
            "label is neither",
        ),
        ("/remote_rm", json!({"prompt": "p", "response": 3}), 422, "invalid type"),
    ];
    for (route, body, status, wanted) in cases {
        let response = send(&app, route, &[], &body).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let text = json_of(response).await["error"].to_string();
        assert!(text.contains(wanted), "{body}: {text}");
    }
    let headers = [("x-joust-group", "g"), ("x-joust-member", "first")];
    let response = send(&app, "/remote_rm", &headers, &one).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(json_of(response).await["error"].to_string().contains("wanted a number"));
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_refused_and_never_taken_for_missing() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let latin: &[u8] = b"caf\xe9";
    let cases: [(&str, &[u8], &str); 6] = [
        ("x-joust-group", latin, "header x-joust-group is not UTF-8"),
        ("x-joust-member", latin, "x-joust-member is not UTF-8"),
        ("x-joust-attempt", latin, "x-joust-attempt is not UTF-8"),
        ("x-request-id", latin, "x-request-id is not UTF-8"),
        ("x-joust-client", latin, "x-joust-client is not UTF-8"),
        ("origin", latin, "origin is not UTF-8"),
    ];
    let send = |said: &str, headers: &[(&str, &[u8])]| {
        let body = json!({"prompt": "p", "response": said, "label": "1"});
        let mut request = Request::post("/remote_rm");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        app.clone().oneshot(request.body(Body::from(body.to_string())).unwrap())
    };
    for (name, value, wanted) in cases {
        let response = send("1", &[(name, value)]).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        let error = json_of(response).await["error"]["message"].to_string();
        assert!(error.contains(wanted), "{error}");
    }
    // none of them began a group; UTF-8 is read, and proxies may leave an id blank
    let headers: &[(&str, &[u8])] = &[("x-joust-group", "café".as_bytes()), ("x-request-id", b"")];
    let whole = ["1", "2", "3"].map(|said| tokio::spawn(send(said, headers)));
    for response in whole {
        assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

/// 40 groups of 8 from 64 clients at once, in random order. One request in ten is sent twice (with
/// its own id), one in twenty is abandoned and sent again, one member in twenty is never sent. Some
/// members of a group have the same text. Every complete group is judged once, with its own
/// members; the others fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_reward_of_many_clients_mixes_no_groups_and_judges_none_twice() {
    const GROUPS: u64 = 40;
    const SIZE: u64 = 8;
    let drawn = |what: &str, at: u64| Seed::new(9).child_str("test", what).child("at", at).unit();
    let is_missing = |at: u64| drawn("missing", at) < 0.05;
    let members = || (0..GROUPS * SIZE).filter(|&at| !is_missing(at));
    let whole: BTreeSet<u64> =
        (0..GROUPS).filter(|group| !(0..SIZE).any(|at| is_missing(group * SIZE + at))).collect();
    assert!((10..40).contains(&whole.len()), "{}", whole.len());

    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().to_owned();
    let app = server(Box::<RuleJudge>::default(), |config| {
        config.queue_capacity = 64;
        config.dump = Some(dump_into(&dump, whole.len()));
        config.cohorts.group_size = SIZE as usize;
        config.cohorts.collect = Duration::from_secs(6);
        config.cohorts.max_open = 64;
    });
    let mut order: Vec<u64> = members().collect();
    order.sort_by_key(|&at| Seed::new(3).child("order", at).0);
    // a client has a rollout of each of its groups under way
    let clients = std::sync::Arc::new(tokio::sync::Semaphore::new(64 * 8));
    let mut tasks = Vec::new();
    for at in order {
        let (group, member) = (at / SIZE, at % SIZE);
        let (app, clients) = (app.clone(), std::sync::Arc::clone(&clients));
        let is_double = drawn("double", at) < 0.1;
        let is_retry = drawn("retry", at) < 0.05;
        tasks.push(tokio::spawn(async move {
            let _client = clients.acquire().await.unwrap();
            // every second completion is correct, and half of each kind have the same text
            let said = if member % 2 == 0 { group } else { group + member / 4 + 1 };
            let body =
                openrlhf(&format!("group {group}?"), &format!(" {said}"), &group.to_string());
            let id = format!("{at}");
            let once = || async {
                let response = send(&app, "/get_reward", &[("x-request-id", &id)], &body).await;
                (response.status().as_u16(), json_of(response).await)
            };
            if is_retry {
                // the time limit of the client
                let _ = tokio::time::timeout(Duration::from_millis(20), once()).await;
            }
            let answer = match is_double {
                true => {
                    let (first, second) = tokio::join!(once(), once());
                    assert_eq!(first, second);
                    first
                }
                false => once().await,
            };
            (group, member, answer)
        }));
    }
    let mut right: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    let mut wrong: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for task in tasks {
        let (group, member, (status, answer)) = task.await.unwrap();
        match whole.contains(&group) {
            true => {
                assert_eq!(status, 200, "group {group}: {answer}");
                let kind = if member % 2 == 0 { &mut right } else { &mut wrong };
                kind.entry(group).or_default().push(answer["rewards"][0].as_f64().unwrap());
            }
            false => assert_eq!(status, 504, "group {group}: {answer}"),
        }
    }
    for group in &whole {
        let (right, wrong) = (&right[group], &wrong[group]);
        assert_eq!((right.len(), wrong.len()), (4, 4));
        let least = right.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(wrong.iter().all(|reward| *reward < least), "group {group}: {right:?} {wrong:?}");
    }
    let rewards: Vec<joust_schema::tables::Reward> = rows_of(&dump, 0);
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    for row in rewards {
        *sizes.entry(row.group_id.0).or_default() += 1;
    }
    assert_eq!(sizes.len(), whole.len(), "each whole group was judged once");
    assert!(sizes.values().all(|size| *size == SIZE));
    assert!(!dump.join("set_00001").exists());
}

#[tokio::test]
async fn get_reward_reads_queries_as_tokenizers_decode_them() {
    let app = server(Box::<RuleJudge>::default(), |config| config.cohorts.group_size = 2);
    let start = "<|im_start|>user\nOu\u{300} est le cafe\u{301}, 2+2?<|im_end|>\n";
    let prompt = format!("{start}<|im_start|>assistant\n");
    let composed = prompt.replace("u\u{300}", "\u{f9}").replace("e\u{301}", "\u{e9}");
    // one query is composed, the other cut on the left
    let queries = [format!("{composed}4<|im_end|>"), format!("{}5<|im_end|>", &composed[20..])];
    let tasks = queries.map(|query| {
        let body = json!({"query": [query], "prompts": [prompt], "labels": ["4"]});
        spawn(&app, "/get_reward", body)
    });
    let mut rewards = Vec::new();
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        rewards.push(answer["rewards"][0].as_f64().unwrap());
    }
    assert!(rewards[0] > rewards[1], "{rewards:?}");
}

#[tokio::test]
async fn get_reward_says_in_the_status_line_what_is_wrong() {
    // OpenRLHF's client logs the status line of an error and never reads its body
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let body = json!({"query": ["Élan 4"], "prompts": ["2+2?"], "labels": ["4"]});
    let response = send(&app, "/get_reward", &[], &body).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let phrase = response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
    let phrase = std::str::from_utf8(phrase.as_bytes()).unwrap();
    let words = "query 0 has neither its prompt nor the end of it";
    assert!(phrase.starts_with(words) && phrase.contains("\"?lan 4\""), "{phrase}");
}

/// Texts that are worked on beside the threads of requests, in more requests at once than there are
/// processors.
#[test]
fn get_reward_answers_many_large_requests_at_once() {
    let n_processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let n_groups = 4 * n_processors;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let answers = runtime.block_on(async {
        let app = server(Box::<RuleJudge>::default(), |config| {
            config.queue_capacity = n_groups;
            config.cohorts.group_size = 2;
            config.cohorts.max_open = n_groups;
            config.cohorts.max_bytes = 1 << 30;
        });
        let mut tasks = Vec::new();
        for group in 0..n_groups {
            for said in ["right", "wrong"] {
                let prompt = format!("{group} {}", "p".repeat(100_000));
                let said = format!("{} {said}", "s".repeat(100_000));
                let body = openrlhf(&prompt, &said, "right");
                tasks.push(spawn(&app, "/get_reward", body));
            }
        }
        let all = futures_util::future::join_all(tasks);
        tokio::time::timeout(Duration::from_secs(120), all).await
    });
    // also where threads wait for ever
    runtime.shutdown_background();
    for answer in answers.expect("the requests hang") {
        let (status, answer) = answer.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
}
