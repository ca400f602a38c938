//! Weights of policy servers: versions arrive, servers that fail or come back are noticed, and each
//! way in which a server computes with other weights is an error with its remedy.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use joust_engine::folder::served::{self, ChangedHead};
use joust_engine::{Decoder, folder};
use joust_rollout::{
    Error, PolicyServers, RolloutConfig, SamplerKind, ServedPolicy, ServerFault, ServersConfig,
    StartId, WeightsDType,
};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use tch::{Device, Kind};

use crate::binary::root;
use crate::policy_server::{Faults, LogprobsOf, PolicyServer};

fn model_path() -> PathBuf {
    root().join("data/models/nano-policy")
}

/// A policy, and how it is sampled on servers.
struct Run {
    config: RolloutConfig,
    files: folder::ModelFiles,
    policy: Decoder,
    dir: tempfile::TempDir,
}

impl Run {
    fn new(kind: SamplerKind, servers: &[&PolicyServer]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = folder::open(&model_path()).unwrap();
        let policy = files.decoder(Device::Cpu, Kind::Float).unwrap();
        let servers = ServersConfig {
            urls: servers.iter().map(|server| server.url()).collect(),
            weights_dir: Some(dir.path().join("weights")),
            weights_dtype: WeightsDType::F32,
            outage_s: 0.0,
            ..ServersConfig::default()
        };
        let config = RolloutConfig { kind, servers, ..RolloutConfig::default() };
        Self { config, files, policy, dir }
    }

    fn open(&self) -> Result<PolicyServers, Error> {
        let start = StartId { id: "ab".to_owned(), publishes: true };
        self.open_as(start)
    }

    fn open_as(&self, start: StartId) -> Result<PolicyServers, Error> {
        let served =
            ServedPolicy::new(self.policy.config(), &self.files.tokenizer, &self.config).unwrap();
        PolicyServers::open(&self.config, &served, start)
    }

    /// The policy after `n` steps of training.
    fn trained(&self, n: u64, size: f64) -> Decoder {
        served::changed(&self.policy, Seed::new(100 + n), size, ChangedHead::Changed).unwrap()
    }

    fn folders(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("weights")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn server(faults: Faults) -> PolicyServer {
    PolicyServer::start(&model_path(), faults)
}

fn fault(result: Result<impl Sized, Error>) -> ServerFault {
    match result {
        Err(Error::ServerFault(fault)) => fault,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("no fault was found"),
    }
}

/// Asserts that the drill finds a fault of a server, and that its line names it and the remedy.
fn check_drill(
    faults: Faults,
    change: impl FnOnce(&mut RolloutConfig),
    is_found: fn(&ServerFault) -> bool,
    words: &[&str],
) {
    let server = server(faults);
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    change(&mut run.config);
    let mut servers = run.open().unwrap();
    let found = fault(servers.publish(&run.policy, PolicyVersion(0)));
    let line = found.to_string();
    assert!(is_found(&found), "{line}");
    assert!(line.starts_with(&server.url()) && !line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "{line}");
    }
    assert!(!servers.is_usable(0) || !matches!(found, ServerFault::NotUpdated { .. }));
}

#[test]
fn policy_versions_arrive_at_all_servers_and_old_folders_go() {
    for kind in [SamplerKind::Vllm, SamplerKind::Sglang] {
        let (first, second) = (server(Faults::default()), server(Faults::default()));
        let run = Run::new(kind, &[&first, &second]);
        let mut servers = run.open().unwrap();
        assert_eq!(servers.check().unwrap(), [false, false], "nothing is published");
        servers.publish(&run.policy, PolicyVersion(0)).unwrap();
        for version in 1..5 {
            let policy = run.trained(version, 0.02);
            servers.publish(&policy, PolicyVersion(version as i64)).unwrap();
            assert_eq!(servers.check().unwrap(), [true, true]);
        }
        assert_eq!([first.label(), second.label()], ["4-ab", "4-ab"]);
        assert_eq!((servers.label(), servers.model()), ("4-ab", "policy"));
        assert_eq!(run.folders(), ["v000003", "v000004"]);
    }
}

#[test]
fn vllm_server_is_told_in_the_order_that_leaves_no_half_changed_one_in_traffic() {
    let server = server(Faults::default());
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    let before = server.calls().len();
    servers.publish(&run.trained(1, 0.02), PolicyVersion(1)).unwrap();
    let wanted = [
        "/pause",
        "/update_weight_version",
        "/collective_rpc",
        "/update_weight_version",
        "/reset_prefix_cache",
        "/resume",
        "/weight_info",
        "/v1/completions",
    ];
    assert_eq!(server.calls()[before..], wanted);
}

#[test]
fn drill_finds_a_head_that_stays_old() {
    let faults = Faults { keeps_old_head: true, ..Faults::default() };
    let is_found = |fault: &ServerFault| matches!(fault, ServerFault::OldHead { .. });
    check_drill(faults, |_| {}, is_found, &["output head", "weights/v000000"]);
}

#[test]
fn drill_finds_prefixes_that_stay_cached() {
    let faults = Faults { keeps_prefixes: true, ..Faults::default() };
    let is_found = |fault: &ServerFault| matches!(fault, ServerFault::StalePrefixes { .. });
    check_drill(faults, |_| {}, is_found, &["prefix", "--no-enable-prefix-caching"]);
}

#[test]
fn drill_finds_every_missing_tensor() {
    let files = folder::open(&model_path()).unwrap();
    // those of one layer stand for those of the others
    let is_tried = |name: &&str| !name.contains("layers.") || name.contains("layers.2.");
    let names = files.weights.names().filter(is_tried).map(str::to_owned);
    let names: Vec<String> = names.collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        let faults = Faults { missing_tensor: Some(name.clone()), ..Faults::default() };
        let server = server(faults);
        // as servers on GPUs hold them, too
        for dtype in [WeightsDType::F32, WeightsDType::Bf16] {
            let mut run = Run::new(SamplerKind::Vllm, &[&server]);
            run.config.servers.weights_dtype = dtype;
            let result = run.open().unwrap().publish(&run.policy, PolicyVersion(0));
            let found = match result {
                Err(Error::ServerFault(fault)) => fault,
                other => panic!("{name} {dtype:?}: {other:?}"),
            };
            assert!(matches!(found, ServerFault::PartialWeights { .. }), "{name}: {found}");
        }
    }
}

#[test]
fn drill_finds_a_server_that_reads_another_folder() {
    let faults = Faults { other_folder: Some(model_path()), ..Faults::default() };
    let is_found = |fault: &ServerFault| matches!(fault, ServerFault::OldWeights { .. });
    check_drill(faults, |_| {}, is_found, &["weights_dir_on_server", "weights/drill"]);
}

#[test]
fn drill_finds_log_probabilities_of_another_distribution() {
    let faults = Faults { logprobs_of: LogprobsOf::Untempered, ..Faults::default() };
    let is_found = |fault: &ServerFault| matches!(fault, ServerFault::UntemperedLogprobs { .. });
    let change: [fn(&mut RolloutConfig); 3] =
        [|config| config.temperature = 0.5, |config| config.top_p = 0.7, |config| config.top_k = 5];
    for change in change {
        check_drill(faults.clone(), change, is_found, &["--logprobs-mode processed_logprobs"]);
        // a server that is as it should be
        let server = server(Faults::default());
        let mut run = Run::new(SamplerKind::Vllm, &[&server]);
        change(&mut run.config);
        run.open().unwrap().publish(&run.policy, PolicyVersion(0)).unwrap();
    }
    // without temperature, top_p and top_k both are the same
    let server = server(faults);
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    run.open().unwrap().publish(&run.policy, PolicyVersion(0)).unwrap();
}

#[test]
fn drill_finds_numbers_of_another_model() {
    let faults = Faults { logprobs_of: LogprobsOf::Drawn, ..Faults::default() };
    let is_found = |fault: &ServerFault| matches!(fault, ServerFault::Difference { .. });
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    let files = folder::open(&model_path()).unwrap();
    let policy = files.decoder(Device::Cpu, Kind::Float).unwrap();
    let changed = served::changed(&policy, Seed::new(5), 0.3, ChangedHead::Changed).unwrap();
    folder::save(&other, changed.config(), &changed.to_weights(Kind::Float), &files.tokenizer)
        .unwrap();
    let faults = Faults { other_folder: Some(other), ..faults };
    check_drill(faults, |_| {}, is_found, &["max_logprob_difference"]);
}

#[test]
fn server_without_control_routes_or_context_is_refused_at_the_start() {
    let server = server(Faults { control_status: Some(404), ..Faults::default() });
    for status in [404, 403] {
        server.faults().control_status = Some(status);
        let run = Run::new(SamplerKind::Vllm, &[&server]);
        let found = fault(run.open()).to_string();
        assert!(
            found.contains(&server.url()) && found.contains("VLLM_SERVER_DEV_MODE=1"),
            "{found}"
        );
    }
    *server.faults() = Faults::default();
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    run.config.servers.model = "other".to_owned();
    let found = fault(run.open()).to_string();
    assert!(found.contains("\"policy\"") && found.contains("\"other\""), "{found}");
    server.faults().max_model_len = Some(256);
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let found = fault(run.open()).to_string();
    assert!(found.contains("256") && found.contains("--max-model-len 512"), "{found}");
    server.faults().max_model_len = None;
    // the discard port, where nobody listens
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    run.config.servers.urls.push("http://127.0.0.1:9".to_owned());
    let found = fault(run.open()).to_string();
    assert!(found.contains("127.0.0.1:9") && found.contains("outage_s"), "{found}");
}

#[test]
fn server_whose_reload_fails_once_is_told_again_and_used() {
    let server = server(Faults::default());
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    server.faults().failing_reloads = 1;
    servers.publish(&run.trained(1, 0.02), PolicyVersion(1)).unwrap();
    assert_eq!(servers.check().unwrap(), [true]);
}

#[test]
fn server_whose_reload_fails_twice_gets_nothing_until_it_was_restarted() {
    let (mut broken, other) = (server(Faults::default()), server(Faults::default()));
    let run = Run::new(SamplerKind::Vllm, &[&broken, &other]);
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    broken.faults().failing_reloads = 2;
    servers.publish(&run.trained(1, 0.02), PolicyVersion(1)).unwrap();
    let n_calls = broken.calls().len();
    assert_eq!(servers.check().unwrap(), [false, true]);
    servers.publish(&run.trained(2, 0.02), PolicyVersion(2)).unwrap();
    assert_eq!(servers.check().unwrap(), [false, true]);
    let asked = broken.calls();
    assert!(asked[n_calls..].iter().all(|call| call == "/weight_info"), "{asked:?}");
    assert!(!asked.contains(&"/resume".to_owned()) || broken.label().starts_with("unfinished-1"));
    broken.restart();
    assert_eq!(servers.check().unwrap(), [true, true]);
    assert_eq!(broken.label(), "2-ab");
}

#[test]
fn server_that_was_restarted_gets_the_newest_weights_before_any_call() {
    for kind in [SamplerKind::Vllm, SamplerKind::Sglang] {
        let mut server = server(Faults::default());
        let run = Run::new(kind, &[&server]);
        let mut servers = run.open().unwrap();
        servers.publish(&run.policy, PolicyVersion(0)).unwrap();
        servers.publish(&run.trained(1, 0.02), PolicyVersion(1)).unwrap();
        server.kill();
        assert_eq!(servers.check().unwrap(), [false]);
        let found = fault(servers.publish(&run.trained(2, 0.02), PolicyVersion(2)));
        assert!(matches!(found, ServerFault::NoServer { .. }), "{found}");
        server.restart();
        assert_eq!(server.label(), "default");
        assert_eq!(servers.check().unwrap(), [true]);
        assert_eq!(server.label(), "2-ab");
    }
}

#[test]
fn publishing_waits_for_a_server_that_comes_back() {
    let mut server = server(Faults::default());
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    run.config.servers.outage_s = 60.0;
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    server.kill();
    let policy = run.trained(1, 0.02);
    std::thread::scope(|scope| {
        let published = scope.spawn(move || servers.publish(&policy, PolicyVersion(1)));
        let began = Instant::now();
        // the new weights are written when the servers are asked
        while !run.dir.path().join("weights/v000001").exists() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        server.restart();
        published.join().unwrap().unwrap();
    });
    assert_eq!(server.label(), "1-ab");
}

#[test]
fn label_of_another_program_is_replaced_and_one_that_stays_is_an_error() {
    let server = server(Faults::default());
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    let other = StartId { id: "cd".to_owned(), publishes: true };
    run.open_as(other).unwrap().publish(&run.policy, PolicyVersion(0)).unwrap();
    assert_eq!(server.label(), "0-cd");
    assert_eq!(servers.check().unwrap(), [true]);
    assert_eq!(server.label(), "0-ab");
    server.faults().keeps_label = true;
    let found = fault(servers.publish(&run.trained(1, 0.02), PolicyVersion(1)));
    assert!(matches!(found, ServerFault::OtherLabel { .. }), "{found}");
}

#[test]
fn canary_finds_a_version_that_a_server_did_not_take() {
    let server = server(Faults::default());
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    server.faults().other_folder = Some(model_path());
    let found = fault(servers.publish(&run.trained(1, 0.3), PolicyVersion(1)));
    assert!(matches!(found, ServerFault::Difference { version: 1, .. }), "{found}");
    assert!(!servers.is_usable(0));
}

#[test]
fn canary_finds_small_updates_that_get_lost() {
    let server = server(Faults::default());
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    // nothing is seen of a single one
    run.config.servers.max_logprob_difference = 1.0;
    let mut servers = run.open().unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    servers.publish(&run.trained(1, 1e-3), PolicyVersion(1)).unwrap();
    server.faults().other_folder = Some(run.dir.path().join("weights/v000001"));
    let found = fault(servers.publish(&run.trained(2, 1e-2), PolicyVersion(2)));
    assert!(matches!(found, ServerFault::LostUpdates { version: 2, .. }), "{found}");
    assert!(found.to_string().contains("updates of its weights get lost"), "{found}");
}

#[test]
fn process_that_does_not_publish_sees_the_versions_of_the_one_that_does() {
    let mut server = server(Faults::default());
    let run = Run::new(SamplerKind::Vllm, &[&server]);
    let mut servers = run.open().unwrap();
    let mut other = run.open_as(StartId { id: "ab".to_owned(), publishes: false }).unwrap();
    servers.publish(&run.policy, PolicyVersion(0)).unwrap();
    let n_updates = |server: &PolicyServer| {
        server.calls().iter().filter(|call| *call == "/collective_rpc").count()
    };
    let n_before = n_updates(&server);
    other.publish(&run.policy, PolicyVersion(0)).unwrap();
    assert_eq!(other.check().unwrap(), [true]);
    server.restart();
    assert_eq!(other.check().unwrap(), [false]);
    assert_eq!(n_updates(&server), n_before);
    assert_eq!(servers.check().unwrap(), [true]);
    assert_eq!(other.check().unwrap(), [true]);
}

#[test]
fn weights_folder_that_cannot_be_written_is_an_error_before_any_server_is_told() {
    let server = server(Faults::default());
    let mut run = Run::new(SamplerKind::Vllm, &[&server]);
    let file = run.dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    run.config.servers.weights_dir = Some(Path::new(&file).join("weights"));
    let error = run.open().and_then(|mut it| it.publish(&run.policy, PolicyVersion(0)));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a file/weights"), "{error}");
    assert!(!server.calls().contains(&"/pause".to_owned()));
}
