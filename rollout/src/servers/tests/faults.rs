//! Wrong answers, and servers that are not as they should be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::json;

use super::scripted::ScriptedChoice;
use super::*;

fn right(asked: &Asked) -> Vec<ScriptedChoice> {
    (0..asked.n).map(|_| choice(vec![42; asked.max_tokens], asked)).collect()
}

/// A server whose first `n_wrong` answers are changed.
fn wrong(
    n_wrong: usize,
    change: impl Fn(&mut Vec<ScriptedChoice>) + Send + Sync + 'static,
) -> ScriptedServer {
    ScriptedServer::start(move |asked: &Asked| {
        let mut choices = right(asked);
        if asked.call < n_wrong {
            change(&mut choices);
        }
        Ok(choices)
    })
}

fn sampler_with(config: &RolloutConfig, weights: ScriptedWeights) -> ServerSampler {
    let files = files();
    let policy = ServedPolicy::new(&files.config, &files.tokenizer, config).unwrap();
    let weights = Arc::new(Mutex::new(weights));
    ServerSampler::new(config, policy, "policy".to_owned(), weights).unwrap()
}

type Change = fn(&mut Vec<ScriptedChoice>);

const WRONG: [(&str, Change); 12] = [
    ("the answer has 2 choices, wanted 3", |choices| drop(choices.pop())),
    ("the answer has 4 choices, wanted 3", |choices| choices.push(choices[0].clone())),
    ("has the log-probability 0.5", |choices| choices[1].logprobs[0] = json!(0.5)),
    ("has a token without log-probability", |choices| choices[1].logprobs[0] = json!(null)),
    ("NaN or Infinity, which is no JSON", |choices| choices[1].logprobs[0] = json!("NaN")),
    ("wanted \"stop\" or \"length\"", |choices| choices[0].finish_reason = "abort"),
    ("outside the policy's vocabulary", |choices| choices[2].ids[0] = 1_000_000),
    ("has 0 tokens, wanted 1 to 6", |choices| {
        choices[2].ids.clear();
        choices[2].logprobs.clear();
    }),
    ("has 7 tokens, wanted 1 to 6", |choices| {
        choices[2].ids.push(42);
        choices[2].logprobs.push(json!(-1.0));
    }),
    ("another prompt than the one that was sent", |choices| choices[0].prompt = json!([1])),
    ("ended by itself with token 42", |choices| {
        choices[0].ids.pop();
        choices[0].logprobs.pop();
        choices[0].finish_reason = "stop";
    }),
    ("was cut off after 5 tokens, wanted up to 6", |choices| {
        choices[0].ids.pop();
        choices[0].logprobs.pop();
    }),
];

#[test]
fn wrong_answers_are_asked_again_and_never_become_rows() {
    for kind in [SamplerKind::Vllm, SamplerKind::Sglang] {
        for (reason, change) in WRONG {
            let once = wrong(1, change);
            let mut sampler = sampler(&config(kind, &[&once]));
            let batch = generate(&mut sampler, 2).unwrap();
            assert!(batch.completions().all(|row| row.completion_token_ids == [42; 6]));
            let counts = sampler.take_counts();
            assert_eq!((counts.n_groups, counts.n_retries), (2, 1), "{kind:?} {reason}");
            let always = wrong(usize::MAX, change);
            let message = generate(&mut super::sampler(&config(kind, &[&always])), 1);
            let message = message.unwrap_err().to_string();
            assert!(message.contains("rollout.servers: no group for prompt p0: 3 calls; "));
            assert!(message.contains(reason), "{kind:?}: {message}, wanted {reason}");
        }
    }
}

#[test]
fn lists_of_other_lengths_are_wrong_answers() {
    let of_vllm = wrong(usize::MAX, |choices| drop(choices[1].logprobs.pop()));
    let message = generate(&mut sampler(&config(SamplerKind::Vllm, &[&of_vllm])), 1).unwrap_err();
    let message = message.to_string();
    assert!(message.contains("choice 1 has 5 log-probabilities for 6 tokens"), "{message}");
}

#[test]
fn a_wrong_servers_groups_go_to_the_other_with_the_same_seed() {
    let wrong = wrong(usize::MAX, |choices| choices[0].finish_reason = "abort");
    let good = ScriptedServer::start(|asked: &Asked| Ok(right(asked)));
    let mut config = config(SamplerKind::Vllm, &[&wrong, &good]);
    config.servers.tries = 8;
    let batch = generate(&mut sampler(&config), 6).unwrap();
    assert_eq!(batch.groups.len(), 6);
    let seeds = |server: &ScriptedServer| -> std::collections::BTreeSet<i64> {
        server.asked().iter().map(|asked| asked.seed).collect()
    };
    assert_eq!(seeds(&good).len(), 6, "all groups are the good server's in the end");
    assert!(seeds(&wrong).is_subset(&seeds(&good)), "with the seeds that they had");
}

#[test]
fn a_dead_servers_groups_go_to_the_other() {
    let good = ScriptedServer::start(|asked: &Asked| Ok(right(asked)));
    let dead = ScriptedServer::start(|_| Err(StatusCode::INTERNAL_SERVER_ERROR));
    let url = dead.url.clone();
    drop(dead);
    let mut config = config(SamplerKind::Vllm, &[&good]);
    config.servers.urls.insert(0, url);
    config.servers.outage_s = 60.0;
    let batch = generate(&mut sampler(&config), 5).unwrap();
    assert_eq!(batch.groups.len(), 5);
}

#[test]
fn no_server_within_the_outage_is_an_error() {
    let dead = ScriptedServer::start(|_| Err(StatusCode::INTERNAL_SERVER_ERROR));
    let mut config = config(SamplerKind::Vllm, &[&dead]);
    drop(dead);
    config.servers.outage_s = 0.5;
    let began = Instant::now();
    let message = generate(&mut sampler(&config), 2).unwrap_err().to_string();
    assert!(began.elapsed() >= Duration::from_millis(400), "it waits");
    assert!(message.starts_with("rollout.servers: no group for prompt p"), "{message}");
}

#[test]
fn a_server_that_asks_for_slower_calls_is_ordinary() {
    let busy = ScriptedServer::start(|asked: &Asked| match asked.call {
        0..3 => Err(StatusCode::TOO_MANY_REQUESTS),
        _ => Ok(right(asked)),
    });
    let mut config = config(SamplerKind::Vllm, &[&busy]);
    config.servers.outage_s = 60.0;
    config.servers.tries = 1;
    assert_eq!(generate(&mut sampler(&config), 3).unwrap().groups.len(), 3);
}

#[test]
fn a_refused_call_ends_the_request_with_the_servers_reason() {
    let server = ScriptedServer::start(|_| Err(StatusCode::BAD_REQUEST));
    let message = generate(&mut sampler(&config(SamplerKind::Vllm, &[&server])), 1).unwrap_err();
    let message = message.to_string();
    assert!(message.contains("no group for prompt p0") && message.contains("400"), "{message}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn groups_of_a_server_with_other_weights_are_thrown_away() {
    for kind in [SamplerKind::Vllm, SamplerKind::Sglang] {
        let server = Arc::new(ScriptedServer::start(|asked: &Asked| Ok(right(asked))));
        server.set_label("default");
        let config = config(kind, &[&server]);
        // the check at the start of the request finds nothing; the next one mends the server
        let (mended, mut n_checks) = (Arc::clone(&server), 0);
        let weights = ScriptedWeights {
            on_check: Box::new(move |held| {
                n_checks += 1;
                if n_checks > 1 {
                    mended.set_label(scripted::LABEL);
                }
                held.to_vec()
            }),
            ..ScriptedWeights::new(1)
        };
        let mut sampler = sampler_with(&config, weights);
        let batch = generate(&mut sampler, 1).unwrap();
        assert_eq!(batch.groups.len(), 1);
        assert_eq!(sampler.take_counts().n_stale_groups, 1);
        assert_eq!(server.asked().len(), 2);
        let of_route = if kind == SamplerKind::Vllm { 2 } else { 0 };
        assert_eq!(server.n_labels(), of_route, "SGLang's answers have the label");
    }
}

#[test]
fn a_server_that_never_gets_the_weights_is_not_called() {
    let (good, other) = (
        ScriptedServer::start(|asked: &Asked| Ok(right(asked))),
        ScriptedServer::start(|asked: &Asked| Ok(right(asked))),
    );
    let mut config = config(SamplerKind::Vllm, &[&good, &other]);
    config.servers.outage_s = 60.0;
    let weights = ScriptedWeights { held: vec![true, false], ..ScriptedWeights::new(2) };
    let batch = generate(&mut sampler_with(&config, weights), 4).unwrap();
    assert_eq!(batch.groups.len(), 4);
    assert_eq!((good.asked().len(), other.asked().len()), (4, 0));
}

#[test]
fn cancelling_ends_calls_under_way_at_once_and_leaves_nothing_behind() {
    let is_slow = Arc::new(AtomicBool::new(true));
    let slow = Arc::clone(&is_slow);
    let server = ScriptedServer::start(move |asked: &Asked| {
        if slow.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1500));
        }
        Ok(right(asked))
    });
    let mut sampler = sampler(&config(SamplerKind::Vllm, &[&server]));
    let (prompts, cancelled) = (prompts(3), Arc::new(AtomicBool::new(false)));
    let request_with = GenerateRequest { cancelled: Some(&cancelled), ..request(&prompts) };
    let began = Instant::now();
    let sampling = sampler.start(&request_with).unwrap();
    cancelled.store(true, Ordering::Release);
    assert!(matches!(sampling.finish(), Err(Error::Cancelled)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    is_slow.store(false, Ordering::SeqCst);
    assert_eq!(generate(&mut sampler, 3).unwrap().groups.len(), 3);
}

#[test]
fn a_stop_ends_the_wait_for_servers_that_are_gone_and_no_other() {
    let server = ScriptedServer::start(|asked: &Asked| Ok(right(asked)));
    let mut config = config(SamplerKind::Vllm, &[&server]);
    config.servers.outage_s = 600.0;
    let (prompts, stop) = (prompts(2), Arc::new(AtomicBool::new(true)));
    let stopped = GenerateRequest { stop: Some(&stop), ..request(&prompts) };
    let mut sampler = sampler(&config);
    assert_eq!(sampler.generate(&stopped, &mut |_| {}).unwrap().groups.len(), 2);
    drop(server);
    assert!(matches!(sampler.generate(&stopped, &mut |_| {}), Err(Error::Cancelled)));
}
