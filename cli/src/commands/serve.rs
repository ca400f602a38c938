//! `joust serve`: the reward server.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use joust_reward::Scorer;
use joust_reward::server::cohort::CohortConfig;
use joust_reward::server::{ScorerHandle, ServerConfig, router};

use crate::commands::ConfigArgs;
use crate::failure::UserError;
use crate::output;

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
            timeout: Duration::from_secs_f64(serve.timeout_s),
            dump: serve.dump.clone(),
            dump_every: serve.dump_every,
            seed: config.run.seed,
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
        axum::serve(listener, router(handle))
            .with_graceful_shutdown(stop_signal())
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
    output::note("Stopping; open requests are answered first.");
}
