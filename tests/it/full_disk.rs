//! A disk that has no room: a limit of the size of files stands for it, which any user may set. A
//! server starts and serves without its dump, says so, accepts no job that it cannot record, and
//! goes on dumping once there is room; other commands end with the exit code of a failure.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use joust_schema::tables::Completion;
use serde_json::{Value, json};

use crate::binary::{arg, file, joust, root};
use crate::http::exchange;
use crate::serving::Server;

/// Longest time for anything that should happen soon.
const LIMIT: Duration = Duration::from_secs(60);

/// The program under a limit of `blocks` of 512 bytes or more for each file that it writes.
pub(crate) fn limited(blocks: u32, args: &[&str]) -> Command {
    let program = joust(args);
    // the signal that a full disk does not send is ignored; the soft limit can be raised again
    let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

/// A server under the limit, with the lines of its log.
struct LimitedServer {
    server: Server,
    log: std::thread::JoinHandle<Vec<String>>,
}

fn start_limited(blocks: u32, config: &str, more: &[&str]) -> LimitedServer {
    let args = [&["serve", config, "serve.port=0"], more].concat();
    let mut process =
        limited(blocks, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(process.stderr.take().unwrap());
    let log = std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect());
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split("http://").nth(1).expect("it serves").split(' ').next().unwrap();
    let address = address.to_owned();
    LimitedServer { server: Server { process, address }, log }
}

/// Makes room.
fn lift_limit(process: &Child) {
    let pid = process.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    assert!(lifted.expect("prlimit (util-linux) is there").success());
}

fn group(prompt: &str, right: &str) -> Value {
    json!({"prompt": prompt, "completions": [right, "wrong"], "answer": right, "group_id": "0"})
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Prompts of all groups in the sets of a dump.
fn dumped(dump: &Path) -> Vec<String> {
    let mut prompts = Vec::new();
    for entry in std::fs::read_dir(dump).unwrap() {
        let path = entry.unwrap().path().join("completions.parquet");
        if path.exists() {
            let rows: Vec<Completion> = joust_schema::parquet::read(&path).unwrap();
            prompts.extend(rows.into_iter().filter(|row| row.member.0 == 0).map(|row| row.prompt));
        }
    }
    prompts.sort();
    prompts
}

#[test]
fn server_on_a_full_disk_serves_without_its_dump_and_writes_it_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let dump = dir.path().join("dump");
    let key = format!("serve.dump={}", dump.display());
    // a set that was not written, because the server was killed
    let mut before = Server::with_config(Path::new(&config), &[&key]);
    assert_eq!(before.request("POST /v1/score_group", &group("before", "1").to_string()).0, 200);
    before.process.kill().unwrap();
    before.process.wait().unwrap();

    let LimitedServer { mut server, log } =
        start_limited(0, &config, &[&key, "serve.dump_every=4"]);
    let cached = group("before", "1").to_string();
    assert_eq!(server.request("POST /v1/score_group", &cached).0, 200);
    for number in 0..40 {
        let group = group(&format!("full {number}"), "1").to_string();
        let (status, answer) = server.request("POST /v1/score_group", &group);
        assert_eq!(status, 200, "{answer}");
    }
    let (status, ready) = server.request("GET /ready", "");
    assert_eq!((status, &ready["ready"]), (200, &json!(true)));
    assert!(ready["dump"].as_str().unwrap().starts_with("not written: "), "{ready}");
    let job = group("a job", "1").to_string();
    for _ in 0..2 {
        let (status, refused) = server.request("POST /v1/jobs", &job);
        assert_eq!(status, 507, "{refused}");
    }
    assert_eq!(dumped(&dump), Vec::<String>::new());
    assert_eq!(server.request("GET /health", "").1["open_groups"], 0);

    lift_limit(&server.process);
    until("the dump is written again", || {
        server.request("GET /ready", "").1 == json!({"ready": true})
    });
    let (status, job) = server.request("POST /v1/jobs", &job);
    assert_eq!(status, 202, "{job}");
    let place = format!("GET /v1/jobs/{}", job["job_id"].as_str().unwrap());
    until("the job is done", || server.request(&place, "").1["status"] == "done");
    server.stop();
    let mut wanted: Vec<String> = (0..40).map(|number| format!("full {number}")).collect();
    wanted.extend(["a job".to_owned(), "before".to_owned()]);
    wanted.sort();
    assert_eq!(dumped(&dump), wanted, "each group once");
    let log = log.join().unwrap();
    let n_told = log.iter().filter(|line| line.contains("cannot be written")).count();
    assert!((1..=6).contains(&n_told), "not once a group: {log:#?}");
}

#[test]
fn refused_job_of_a_full_disk_is_not_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let key = format!("serve.dump={}", dir.path().join("dump").display());
    let LimitedServer { mut server, .. } = start_limited(0, &config, &[&key]);
    let answer = exchange(
        &server.address,
        "POST /v1/jobs",
        &[("content-type", "application/json")],
        group("a job", "1").to_string().as_bytes(),
    );
    let answer = answer.unwrap();
    assert_eq!(answer.status, 507);
    assert!(answer.headers.contains_key("retry-after"));
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let server = Server::with_config(Path::new(&config), &[&key]);
    assert_eq!(server.request("GET /health", "").1["open_groups"], 0);
}

#[test]
fn resumed_job_that_is_posted_again_on_a_full_disk_is_accepted_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // nobody is there to judge, and votes wait for it
    let judge = "[reward.judge]\nkind = \"http\"\nurls = [\"http://127.0.0.1:9/v1\"]\n\
                 model = \"rrm\"\noutage_s = 100000\n";
    let config = file(dir.path(), "nobody.toml", judge);
    let key = format!("serve.dump={}", dir.path().join("dump").display());
    let job = group("a job", "1").to_string();
    let mut server = Server::with_config(Path::new(&config), &[&key]);
    let (status, accepted) = server.request("POST /v1/jobs", &job);
    assert_eq!(status, 202, "{accepted}");
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let LimitedServer { mut server, .. } = start_limited(0, &config, &[&key]);
    let place = format!("GET /v1/jobs/{}", accepted["job_id"].as_str().unwrap());
    for _ in 0..2 {
        let (status, again) = server.request("POST /v1/jobs", &job);
        assert_eq!((status, &again["job_id"]), (202, &accepted["job_id"]), "{again}");
        until("the job goes on", || server.request(&place, "").1["status"] == "running");
    }
    // another job is refused, and does not remain
    let other = group("another job", "1").to_string();
    assert_eq!(server.request("POST /v1/jobs", &other).0, 507);
    assert_eq!(server.request("GET /health", "").1["open_groups"], 1);
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    // the journal of the first start still has it
    let server = Server::with_config(Path::new(&config), &[&key]);
    let (_, resumed) = server.request(&place, "");
    assert!(["running", "queued"].map(|stage| json!(stage)).contains(&resumed["status"]));
}

#[test]
fn commands_on_a_full_disk_end_with_exit_code_1_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| arg(&dir.path().join(name));
    let groups = "{\"prompt\":\"2+2?\",\"completions\":[\"4\",\"5\"],\"answer\":\"4\"}\n";
    let groups = file(dir.path(), "groups.jsonl", groups);
    let rule = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let model = arg(&root().join("data/models/nano-policy"));
    let (scores, quantized) = (out("scores"), out("fp8"));
    let cases: [&[&str]; 2] = [
        &["score", &rule, "--input", &groups, "--output", &scores],
        &["quantize", "--model", &model, "--output", &quantized],
    ];
    for args in cases {
        let output = limited(0, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        let last = error.lines().last().unwrap();
        assert!(last.contains("too large"), "{args:?}: the system's words: {error}");
    }
}
