//! `joust serve`: the reward server.

mod accept;
mod gone;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use clap::Args;
use hyper_util::rt::TokioTimer;
use joust_reward::{RewardKind, Scorer};
use joust_server::{BearerToken, ScorerHandle, ServeConfig, Server, ServerConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use accept::FirstByte;

use crate::commands::{ConfigArgs, written};
use crate::failure::UserError;
use crate::output;
use crate::score_config::ScoreRun;

/// Maximum time from the start of a connection to the end of a request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Arguments of `joust serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let Some(config) = args.config.start_scoring()? else { return Ok(()) };
    let plays_matches = config.reward.kind != RewardKind::Correct;
    if plays_matches && let Some(problem) = config.serve.problem_with(&config.reward.tournament) {
        return Err(UserError::new(problem).into());
    }
    // files that cannot be read fail before the judge is loaded
    let tls = tls_config(&config.serve)?;
    let tokens = read_tokens(config.serve.token_file.as_deref())?;
    if let Some(dump) = &config.serve.dump {
        written::check_apart_from_dump("serve.dump", dump, &config.reward)?;
    }
    let (handle, thread) = spawn_scorer(&config, tokens)?;
    let judge = handle.judge().to_owned();
    let serve = &config.serve;
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the server's threads")?;
    // sockets have a thread of their own: probes are answered while requests are worked on. A
    // runtime of many threads, so that a long event of a stream moves to another one
    let sockets = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sockets")
        .enable_all()
        .build()
        .context("starting the thread of the sockets")?;
    let address = format!("{}:{}", serve.host, serve.port);
    let listener = TcpListener::bind(&address).map_err(|error| {
        UserError::new(format!("{address}: {error}; choose another serve.host or serve.port"))
    })?;
    let address = listener.local_addr().context("asking for the server's address")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = {
        let _inside = workers.enter();
        Server::new(handle)
    };
    sockets.block_on(async {
        output::line(format!("joust serves on {scheme}://{address} (judge: {judge})"));
        let limit = Duration::from_secs_f64(serve.timeout_s);
        listen(server, listener, tls, limit).await.context("serving")?;
        // finishes jobs for which no request waits, too; a second signal ends the program at once
        let ended = tokio::task::spawn_blocking(move || thread.join()).await;
        match ended {
            Ok(Ok(())) => Ok(()),
            _ => Err(anyhow::anyhow!("the scorer's thread panicked")),
        }
    })
}

/// Loads the judge and starts the thread that owns it.
pub(super) fn spawn_scorer(
    config: &ScoreRun,
    tokens: Vec<BearerToken>,
) -> anyhow::Result<(ScorerHandle, JoinHandle<()>)> {
    let scorer = Scorer::open(&config.reward, true)?;
    let limits = ServerConfig::new(&config.serve, config.run.seed, tokens);
    Ok(ScorerHandle::spawn(scorer, limits)?)
}

/// Serves until a stop signal, and then until all groups at the judge are answered.
async fn listen(
    server: Server,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limit: Duration,
) -> std::io::Result<()> {
    let service = server.router().into_make_service_with_connect_info::<SocketAddr>();
    let handle = Handle::new();
    let stopping = handle.clone();
    tokio::spawn(async move {
        stop_signal().await;
        output::note("Stopping after open requests; a second signal ends at once.");
        server.close();
        // the judge thread ends when its last handle is dropped
        drop(server);
        // a client that does not read its answer delays the end by at most the request timeout
        stopping.graceful_shutdown(Some(limit));
        stop_signal().await;
        output::note("Ended before all requests were answered.");
        std::process::exit(1);
    });
    let plain = plain_server(listener)?.handle(handle);
    match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(config));
            let acceptor = acceptor.acceptor(FirstByte(HEAD_TIME));
            plain.acceptor(acceptor).serve(service).await
        }
        None => plain.serve(service).await,
    }
}

/// Number of requests that may wait at once on an HTTP/2 connection: a client may send all members
/// of all its groups over one. Clients that are told no number (httpx) send one request at a time.
const MAX_STREAMS: u32 = 100_000;

/// A server on a socket, with limits for slow clients.
pub(super) fn plain_server(
    listener: TcpListener,
) -> std::io::Result<axum_server::Server<SocketAddr, FirstByte>> {
    listener.set_nonblocking(true)?;
    let mut server = axum_server::from_tcp(listener)?.acceptor(FirstByte(HEAD_TIME));
    let http = server.http_builder();
    // the end of a client's bytes is handled by `gone`: HTTP/1.1 would overlook it behind bytes
    // that are not read yet, or close the connection of a client that waits for a quick answer
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).half_close(true);
    http.http2().max_concurrent_streams(MAX_STREAMS);
    http.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIME);
    Ok(server)
}

/// TLS with the configured certificate and key; `None` if they are not configured.
fn tls_config(serve: &ServeConfig) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    let (Some(certificates), Some(key)) = (&serve.tls_cert, &serve.tls_key) else {
        return Ok(None);
    };
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        UserError::new(format!("{}: {error}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(|error| bad(certificates, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(certificates, &error))?;
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}

/// Completes at Ctrl-C or SIGTERM.
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

/// The tokens of a file and of the environment variable.
fn read_tokens(file: Option<&Path>) -> anyhow::Result<Vec<BearerToken>> {
    let of_file = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| joust_schema::Error::io(path, source))?
        }
        None => String::new(),
    };
    let variable = std::env::var_os("JOUST_TOKENS");
    let is_set = variable.is_some();
    let Ok(of_environment) = variable.unwrap_or_default().into_string() else {
        let text = "JOUST_TOKENS is not UTF-8 text, wanted tokens in ASCII, separated by commas";
        return Err(UserError::new(text).into());
    };
    let of_file = of_file.lines().enumerate().map(|(idx, line)| (Some(idx + 1), line));
    let all = of_file.chain(of_environment.split(',').map(|text| (None, text)));
    let all = all.filter(|(_, text)| !text.trim().is_empty());
    let tokens = all.map(|(line, text)| {
        BearerToken::parse(text).map_err(|reason| {
            let place = file.map_or(String::new(), |path| path.display().to_string());
            UserError::new(match line {
                Some(line) => format!("serve.token_file: {place}:{line} has {reason}"),
                None => format!("JOUST_TOKENS: one of its parts has {reason}"),
            })
        })
    });
    let tokens = tokens.collect::<Result<Vec<BearerToken>, _>>()?;
    match file {
        Some(path) if tokens.is_empty() => {
            let text = format!("serve.token_file: {} holds no token", path.display());
            Err(UserError::new(text).into())
        }
        None if tokens.is_empty() && is_set => {
            let text = "JOUST_TOKENS is set and holds no token; unset it to serve without";
            Err(UserError::new(text).into())
        }
        _ => Ok(tokens),
    }
}
