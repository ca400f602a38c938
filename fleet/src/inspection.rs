//! Inspection of servers: a look at a server before its first call, and again after it was gone.
//!
//! It does not know what is looked at; the caller's function does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::server::{RequestError, ServerClient};

/// Result of a look at a server: why it cannot be used, if it cannot.
pub type Inspected = Result<(), InspectionError>;

/// Looks at a server.
pub type Inspector =
    Arc<dyn Fn(ServerClient) -> Pin<Box<dyn Future<Output = Inspected> + Send>> + Send + Sync>;

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InspectionError {
    /// It was not seen: it is not up, busy, or failed. Another look may succeed.
    #[error("{0}")]
    Unseen(RequestError),
    /// It is the wrong server: no retry helps.
    #[error("{0}")]
    Unusable(String),
}

/// The servers that were inspected.
pub(crate) struct Inspections {
    inspector: Option<Inspector>,
    /// Number of failed looks after which a server is taken as it is.
    max_looks: u32,
    /// Per server. Held during a look, so that calls that start at once share one.
    looks: Vec<Mutex<LooksAtServer>>,
}

/// What the looks at one server came to since it was last gone.
#[derive(Default)]
struct LooksAtServer {
    has_passed: bool,
    /// Looks in a row at which the server failed.
    n_failed: u32,
}

impl Inspections {
    /// A server that fails at `max_looks` looks in a row is taken as it is.
    pub(crate) fn new(inspector: Option<Inspector>, n_servers: usize, max_looks: u32) -> Self {
        let looks = (0..n_servers).map(|_| Mutex::default()).collect();
        Self { inspector, max_looks, looks }
    }

    /// Looks at a server that was not inspected since it was last gone.
    pub(crate) async fn pass(&self, idx: usize, server: &ServerClient) -> Inspected {
        let Some(inspector) = &self.inspector else { return Ok(()) };
        let mut looks = self.looks[idx].lock().await;
        if looks.has_passed {
            return Ok(());
        }
        match inspector(server.clone()).await {
            Err(InspectionError::Unseen(RequestError::Failed(reason, pause))) => {
                looks.n_failed += 1;
                if looks.n_failed < self.max_looks {
                    let error = RequestError::Failed(reason, pause);
                    return Err(InspectionError::Unseen(error));
                }
                let n_looks = looks.n_failed;
                tracing::warn!(
                    reason,
                    n_looks,
                    "A server cannot be checked and is used unchecked."
                );
            }
            looked => looked?,
        }
        *looks = LooksAtServer { has_passed: true, n_failed: 0 };
        Ok(())
    }

    /// Records that a server was gone: another one may come back.
    pub(crate) async fn forget(&self, idx: usize) {
        *self.looks[idx].lock().await = LooksAtServer::default();
    }
}
