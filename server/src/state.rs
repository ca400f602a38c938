//! State of the server: the handle to the judge thread, the barrier, and whether the server shuts
//! down.
//!
//! Knows no routes.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::body_budget::BodyBudget;
use crate::cohort::barrier::Barrier;
use crate::desk::handle::ScorerHandle;
use crate::problem::Problem;

/// State of the server, shared by all handlers.
#[derive(Clone)]
pub(crate) struct ServerState {
    pub(crate) scorer: ScorerHandle,
    pub(crate) barrier: Barrier,
    /// Memory for the bodies that are read.
    pub(crate) bodies: BodyBudget,
    /// The runtime on which requests are worked on.
    pub(crate) runtime: Handle,
    is_closing: Arc<watch::Sender<bool>>,
}

impl ServerState {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(scorer: ScorerHandle) -> Self {
        let barrier = Barrier::new(scorer.clone());
        let bodies = BodyBudget::new(scorer.config.max_body_memory);
        Self { scorer, barrier, bodies, runtime: Handle::current(), is_closing: Arc::default() }
    }

    /// True once the server takes no new groups.
    pub(crate) fn is_closing(&self) -> bool {
        *self.is_closing.borrow()
    }

    /// Refuses new work once the server shuts down.
    ///
    /// # Errors
    /// [`Problem::ServerStopping`]
    pub(crate) fn check_open(&self) -> Result<(), Problem> {
        if self.is_closing() { Err(Problem::ServerStopping) } else { Ok(()) }
    }

    /// Completes once the server begins to shut down.
    pub(crate) async fn until_closing(&self) {
        let mut is_closing = self.is_closing.subscribe();
        // `self` owns the sender, so the wait cannot fail
        let _ = is_closing.wait_for(|is_closing| *is_closing).await;
    }

    /// Begins the shutdown: judged groups are answered, open cohorts are given up.
    pub(crate) fn close(&self) {
        self.is_closing.send_replace(true);
        self.barrier.close();
    }
}
