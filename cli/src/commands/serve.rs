//! `joust serve`: the reward server.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use joust_reward::Scorer;
use joust_reward::server::cohort::CohortConfig;
use joust_reward::server::{DumpConfig, ScorerHandle, Server, ServerConfig};

use crate::commands::ConfigArgs;
use crate::failure::UserError;
use crate::output;

/// A set of the dump is written once the journal of its groups is this large, however few they are.
const MAX_SET_BYTES: u64 = 256 << 20;

/// Arguments of `joust serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let scorer = Scorer::open(&config.reward, true)?;
    let judge = scorer.judge_name().to_owned();
    let serve = &config.serve;
    let (handle, thread) = ScorerHandle::spawn(
        scorer,
        ServerConfig {
            queue_capacity: serve.queue_capacity,
            queue_tokens: serve.queue_tokens,
            timeout: Duration::from_secs_f64(serve.timeout_s),
            keep_bytes: serve.keep_mib << 20,
            dump: serve.dump.clone().map(|dir| DumpConfig {
                dir,
                every_groups: serve.dump_every,
                every: Duration::from_secs_f64(serve.dump_every_s),
                max_set_bytes: MAX_SET_BYTES,
                keep: Duration::from_secs_f64(serve.keep_s),
                keep_bytes: (serve.keep_mib as u64) << 20,
            }),
            seed: config.run.seed,
            tokens: tokens(serve.token_file.as_deref())?,
            cohorts: CohortConfig {
                group_size: serve.group_size,
                collect: Duration::from_secs_f64(serve.collect_s),
                keep: Duration::from_secs_f64(serve.keep_s),
                incomplete: serve.incomplete,
                max_open: serve.max_cohorts,
            },
        },
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    runtime.block_on(async {
        let address = format!("{}:{}", serve.host, serve.port);
        let listener = tokio::net::TcpListener::bind(&address).await.map_err(|error| {
            UserError::new(format!("{address}: {error}; choose another serve.host or serve.port"))
        })?;
        let address = listener.local_addr().context("asking for the server's address")?;
        output::line(format!("joust serves on http://{address} (judge: {judge})"));
        let server = Server::new(handle);
        let router = server.router();
        let stopped = async move {
            stop_signal().await;
            output::note("Stopping; open requests are answered first. Once more ends it at once.");
            server.close();
            tokio::spawn(async {
                stop_signal().await;
                output::note("Ended before all requests were answered.");
                std::process::exit(1);
            });
        };
        axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
            .with_graceful_shutdown(stopped)
            .await
            .context("serving")
    })?;
    drop(runtime);
    if thread.join().is_err() {
        anyhow::bail!("the scorer's thread panicked");
    }
    Ok(())
}

/// Completes at Ctrl-C or at the signal that schedulers send.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(terminate) => drop(terminate.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// The tokens of a file and of the environment.
fn tokens(file: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let of_file = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| joust_schema::Error::io(path, source))?
        }
        None => String::new(),
    };
    let of_environment = std::env::var("JOUST_TOKENS").unwrap_or_default();
    let all = of_file.lines().chain(of_environment.split(',')).map(str::trim);
    let tokens: Vec<String> = all.filter(|token| !token.is_empty()).map(str::to_owned).collect();
    match (file, tokens.is_empty()) {
        (Some(path), true) => {
            let text = format!("serve.token_file: {} holds no token", path.display());
            Err(UserError::new(text).into())
        }
        _ => Ok(tokens),
    }
}
