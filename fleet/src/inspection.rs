//! Inspection of servers: a look at a server before its first call, and again after it was gone.
//!
//! It does not know what is looked at; the caller's function does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::server::ServerClient;

/// Result of a look at a server: why it cannot be used, if it cannot.
pub type Inspected = Result<(), InspectionError>;

/// Looks at a server.
pub type Inspector =
    Arc<dyn Fn(ServerClient) -> Pin<Box<dyn Future<Output = Inspected> + Send>> + Send + Sync>;

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InspectionError {
    /// It is not up.
    #[error("{0}")]
    Gone(String),
    /// It is the wrong server: no retry helps.
    #[error("{0}")]
    Unusable(String),
}

/// The servers that were inspected.
pub(crate) struct Inspections {
    inspector: Option<Inspector>,
    /// Per server: whether it passed since it was last gone. Held during a look, so that calls that
    /// start at once share one.
    has_passed: Vec<Mutex<bool>>,
}

impl Inspections {
    pub(crate) fn new(inspector: Option<Inspector>, n_servers: usize) -> Self {
        Self { inspector, has_passed: (0..n_servers).map(|_| Mutex::new(false)).collect() }
    }

    /// Looks at a server that was not inspected since it was last gone.
    pub(crate) async fn pass(&self, idx: usize, server: &ServerClient) -> Inspected {
        let Some(inspector) = &self.inspector else { return Ok(()) };
        let mut has_passed = self.has_passed[idx].lock().await;
        if !*has_passed {
            inspector(server.clone()).await?;
            *has_passed = true;
        }
        Ok(())
    }

    /// Records that a server was gone: another one may come back.
    pub(crate) async fn forget(&self, idx: usize) {
        *self.has_passed[idx].lock().await = false;
    }
}
