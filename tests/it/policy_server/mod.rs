//! A policy server to test against: the engine of joust behind the routes of vLLM and of SGLang,
//! for sampling and for new weights, with faults that a test switches on.
//!
//! It samples for real, so that its log-probabilities are those of the weights that it holds. It
//! does not know who calls it.

mod answers;
mod faults;
mod itself;
mod model;
mod served;
mod sglang;
mod vllm;

use std::path::Path;
use std::sync::{Arc, MutexGuard};

use axum::Router;
use tokio::sync::Notify;

pub(crate) use faults::{Faults, LogprobsOf};
use served::Served;

/// A server in a thread of its own, which ends with it.
pub(crate) struct PolicyServer {
    address: std::net::SocketAddr,
    served: Arc<Served>,
    running: Option<Running>,
}

struct Running {
    stop: Arc<Notify>,
    thread: std::thread::JoinHandle<()>,
}

impl PolicyServer {
    /// Starts a server of a model folder on a free port. A model with tied embeddings gets a head
    /// of its own, as published folders have one.
    pub(crate) fn start(model: &Path, faults: Faults) -> Self {
        let served = Arc::new(Served::new(model, faults));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let running = Some(run(listener, Arc::clone(&served)));
        Self { address, served, running }
    }

    /// Base address, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The faults, to be read and changed.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.served.faults()
    }

    /// Routes that were called since the start, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.served.calls()
    }

    /// The label of its weights.
    pub(crate) fn label(&self) -> String {
        self.served.label()
    }

    /// Ends it as a kill would: open connections break.
    pub(crate) fn kill(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            stop.notify_one();
            thread.join().unwrap();
        }
    }

    /// Starts it again at its address, with the weights and the label that it began with.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.served.begin_anew();
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        self.running = Some(run(listener, Arc::clone(&self.served)));
    }
}

impl Drop for PolicyServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Answers requests until it is told to stop, by the caller or by a fault.
fn run(listener: std::net::TcpListener, served: Arc<Served>) -> Running {
    let stop = served.stop_signal();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let routes: Router = vllm::routes().merge(sglang::routes()).with_state(served);
            tokio::select! {
                answered = async { axum::serve(listener, routes).await } => answered.unwrap(),
                () = stopped.notified() => {}
            }
        });
        runtime.shutdown_background();
    });
    Running { stop, thread }
}
