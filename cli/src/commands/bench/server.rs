//! `joust bench server`: what the reward server adds, on a socket of this machine, with its clients in the same
//! process.
//!
//! Latency: single completions come at a fixed rate, as slime sends them, whatever has been answered; the
//! time of each counts from when its group's last member was sent, for before that there is nothing to
//! answer. Costs: the same groups through `/v1/score_group` and by the judge alone, in turns.

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

use super::median;
use crate::commands::ConfigArgs;
use crate::commands::score::read_groups;
use crate::commands::serve;
use crate::output;
use crate::score_config::ScoreRun;

/// Arguments of `joust bench server`.
#[derive(Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Single completions a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long they come.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Groups as `joust score` takes them, with answers; measures the costs over the bare judge, too.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Turns of that measurement; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: u32,
}

#[derive(Serialize)]
struct Figures {
    bench: &'static str,
    judge: String,
    rate: u32,
    requests: usize,
    /// Requests without a reward.
    failed: usize,
    /// From the last member of a group to the answers of all.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    costs: Option<Costs>,
}

#[derive(Serialize)]
struct Costs {
    groups: usize,
    bare_s: f64,
    server_s: f64,
    /// Median over the turns of the server's time against the bare judge's, less one.
    overhead: f64,
    /// The same of each turn: how far they lie apart says what the median is worth.
    overheads: Vec<f64>,
}

pub(crate) fn run(args: ServerArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    let costs = match &args.input {
        Some(input) => {
            let groups = read_groups(input, Seed::new(config.run.seed))?;
            Some(runtime.block_on(costs(&config, &groups, args.turns))?)
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
    output::json(&Figures {
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

/// A server on a free port of this machine; it ends with the runtime.
fn start(config: &ScoreRun) -> anyhow::Result<(String, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    let address = listener.local_addr().context("asking for the address")?;
    let (handle, _thread) = serve::open(config, Vec::new())?;
    let judge = handle.judge().to_owned();
    let service = Server::new(handle).router().into_make_service_with_connect_info::<SocketAddr>();
    let server = serve::plain(listener).context("taking the port")?;
    tokio::spawn(server.serve(service));
    Ok((format!("http://{address}"), judge))
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<Value> {
    let answer = client.post(url).json(body).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// Seconds from the last member of a group to the answer of each, and how many had none.
async fn latencies(
    config: &ScoreRun,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<(String, Vec<f64>, usize)> {
    let (url, judge) = start(config)?;
    let (url, size) = (format!("{url}/remote_rm"), config.serve.group_size);
    let client = reqwest::Client::new();
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
            let said = format!("The answer is {member}.");
            let body = json!({"prompt": format!("{group} + 1?"), "response": said, "label": "1"});
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

/// The same groups by the judge alone and through the server, in turns.
async fn costs(config: &ScoreRun, groups: &[GroupRequest], turns: u32) -> anyhow::Result<Costs> {
    let mut config = config.clone();
    config.serve.queue_capacity = config.serve.queue_capacity.max(groups.len());
    let mut scorer = Scorer::open(&config.reward, true)?;
    let (url, _) = start(&config)?;
    let (url, client) = (format!("{url}/v1/score_group"), reqwest::Client::new());
    let (mut bare, mut served, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        // other draws each turn: the server knows what it has judged
        let seed = |at: usize| Seed::new(u64::from(turn)).child("bench", at as u64);
        let turned = groups
            .iter()
            .enumerate()
            .map(|(at, group)| GroupRequest { seed: seed(at), ..group.clone() });
        let began = Instant::now();
        // in the server's order, which ends groups early and not all at once at the end; and as there, what is
        // known of earlier prompts stays known
        let mut turned = turned.peekable();
        while scorer.n_open() > 0 || turned.peek().is_some() {
            while scorer.wants_more()
                && let Some(group) = turned.next()
            {
                scorer.add(group)?;
                scorer.request_votes();
            }
            drop(scorer.pump());
        }
        bare.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        let asks = groups.iter().enumerate().map(|(at, group)| {
            let body = json!({
                "prompt": group.question,
                "completions": group.completions,
                "answer": group.reference,
                "group_id": group.group_id,
                "seed": seed(at).0,
            });
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move { post(&client, &url, &body).await })
        });
        for ask in asks.collect::<Vec<_>>() {
            ask.await.context("a client")??;
        }
        served.push(began.elapsed().as_secs_f64());
        ratios.push(served[served.len() - 1] / bare[bare.len() - 1] - 1.0);
    }
    Ok(Costs {
        groups: groups.len(),
        bare_s: median(&mut bare),
        server_s: median(&mut served),
        overheads: ratios.clone(),
        overhead: median(&mut ratios),
    })
}
