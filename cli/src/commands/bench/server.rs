//! `joust bench server`: latency and overhead of the reward server, on a socket of this machine,
//! with the clients in the same process.
//!
//! Latency: single completions are sent at a fixed rate, as slime sends them, without waiting for
//! answers. The time of each counts from the sending of its group's last member, because no member
//! can be answered before. Overhead: the same groups through `/v1/score_group` and by the judge
//! alone, in turns.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use joust_reward::{GroupRequest, Scorer};
use joust_schema::seed::Seed;
use joust_server::Server;
use serde::Serialize;
use serde_json::{Value, json};

use super::model::median;
use crate::commands::ConfigArgs;
use crate::commands::score::read_groups;
use crate::commands::serve;
use crate::output;
use crate::score_config::ScoreRun;

/// Arguments of `joust bench server`.
#[derive(Args)]
pub(crate) struct ServerBenchArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Number of single completions per second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Number of seconds during which they are sent.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// File of groups with answers, as `joust score` reads it; also measures the overhead over the
    /// judge alone.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Number of measurements of the overhead; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: u32,
}

#[derive(Serialize)]
struct ServerBench {
    bench: &'static str,
    judge: String,
    rate: u32,
    requests: usize,
    /// Number of requests without a reward.
    failed: usize,
    /// Time from the last member of a group to an answer.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    costs: Option<ServerOverhead>,
}

#[derive(Serialize)]
struct ServerOverhead {
    groups: usize,
    bare_s: f64,
    server_s: f64,
    /// Time of the server divided by that of the judge alone, minus 1; median over the turns.
    overhead: f64,
    /// Overhead of each turn; their spread shows the noise of the machine.
    overheads: Vec<f64>,
}

pub(crate) fn run(args: ServerBenchArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    let costs = match &args.input {
        Some(input) => {
            let groups =
                read_groups(input, Seed::new(config.run.seed), config.reward.prompt_use())?;
            Some(runtime.block_on(overhead(&config, &groups, args.turns))?)
        }
        None => None,
    };
    let (judge, mut times, failed) =
        runtime.block_on(latencies(&config, args.rate, args.seconds))?;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let idx = (times.len() as f64 * share) as usize;
        times.get(idx.min(times.len().saturating_sub(1))).map_or(f64::NAN, |s| s * 1e3)
    };
    output::json(&ServerBench {
        bench: "server",
        judge,
        rate: args.rate,
        requests: times.len() + failed,
        failed,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        costs,
    })
}

/// Starts a server on a free port, which ends with the runtime; returns its URL and the judge's
/// name.
fn start_server(config: &ScoreRun) -> anyhow::Result<(String, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    let address = listener.local_addr().context("asking for the address")?;
    let (handle, _thread) = serve::spawn_scorer(config, Vec::new())?;
    let judge = handle.judge().to_owned();
    let service = Server::new(handle).router().into_make_service_with_connect_info::<SocketAddr>();
    let server = serve::plain_server(listener).context("taking the port")?;
    tokio::spawn(server.serve(service));
    Ok((format!("http://{address}"), judge))
}

/// A client of a server on this machine.
fn local_client() -> anyhow::Result<reqwest::Client> {
    // reqwest wants a provider of TLS for plain HTTP, too; fails if the process has one already,
    // which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    // a proxy or root certificates of the machine have nothing to do with it
    let builder = reqwest::Client::builder().tls_certs_only([]).no_proxy();
    builder.build().context("making a client")
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = client.post(url).json(body).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// Name of the judge, seconds from the last member of a group to each answer, and the number of
/// requests without a reward.
async fn latencies(
    config: &ScoreRun,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<(String, Vec<f64>, usize)> {
    let (url, judge) = start_server(config)?;
    let (url, size) = (format!("{url}/remote_rm"), config.serve.group_size);
    let client = local_client()?;
    let n_groups = (rate * seconds) as usize / size;
    let mut tasks = Vec::new();
    let started = Instant::now();
    for number in 0..n_groups * size {
        let (group, member) = (number / size, number % size);
        let due = started + Duration::from_secs_f64(number as f64 / f64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        let last =
            started + Duration::from_secs_f64(((group + 1) * size - 1) as f64 / f64::from(rate));
        let (client, url) = (client.clone(), url.clone());
        tasks.push(tokio::spawn(async move {
            let response = format!("The answer is {member}.");
            let prompt = format!("{group} + 1?");
            let body = json!({"prompt": prompt, "response": response, "label": "1"});
            post(&client, &url, &body).await.map(|_| last.elapsed().as_secs_f64())
        }));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        match task.await.context("a client")? {
            Ok(time) => times.push(time),
            Err(_) => failed += 1,
        }
    }
    Ok((judge, times, failed))
}

/// Judges the same groups by the judge alone and through the server, in turns.
async fn overhead(
    config: &ScoreRun,
    groups: &[GroupRequest],
    turns: u32,
) -> anyhow::Result<ServerOverhead> {
    let mut config = config.clone();
    config.serve.queue_capacity = config.serve.queue_capacity.max(groups.len());
    let mut scorer = Scorer::open(&config.reward, true)?;
    let (url, _) = start_server(&config)?;
    let (url, client) = (format!("{url}/v1/score_group"), local_client()?);
    let (mut bare, mut served, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        // other seeds in each turn: the server would answer the same groups from its cache
        let reseeded = groups.iter().enumerate().map(|(idx, group)| {
            let seed = Seed::new(u64::from(turn)).child("bench", idx as u64);
            GroupRequest { seed, ..group.clone() }
        });
        let reseeded: Vec<GroupRequest> = reseeded.collect();
        let began = Instant::now();
        score_directly(&mut scorer, &reseeded)?;
        bare.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        score_through_server(&client, &url, &reseeded).await?;
        served.push(began.elapsed().as_secs_f64());
        ratios.push(served[served.len() - 1] / bare[bare.len() - 1] - 1.0);
    }
    Ok(ServerOverhead {
        groups: groups.len(),
        bare_s: median(&mut bare),
        server_s: median(&mut served),
        overheads: ratios.clone(),
        overhead: median(&mut ratios),
    })
}

/// Scores groups in the order of the server, which begins a group once the judge has capacity, and
/// like the server without clearing caches.
fn score_directly(scorer: &mut Scorer, groups: &[GroupRequest]) -> anyhow::Result<()> {
    let mut waiting = groups.iter().cloned().peekable();
    while scorer.n_open() > 0 || waiting.peek().is_some() {
        while scorer.wants_more()
            && let Some(group) = waiting.next()
        {
            scorer.add(group)?;
            scorer.request_votes();
        }
        drop(scorer.pump());
    }
    Ok(())
}

async fn score_through_server(
    client: &reqwest::Client,
    url: &str,
    groups: &[GroupRequest],
) -> anyhow::Result<()> {
    let requests = groups.iter().map(|group| {
        let body = json!({
            "prompt": group.question,
            "completions": group.completions,
            "answer": group.reference,
            "group_id": group.group_id,
            "seed": group.seed.0,
        });
        let (client, url) = (client.clone(), url.to_owned());
        tokio::spawn(async move { post(&client, &url, &body).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.context("a client")??;
    }
    Ok(())
}
