//! Which servers hold the newest weights: asked before a server's first call of a request, and
//! again after it was gone.
//!
//! It does not know how weights reach a server.

use std::sync::{Arc, Mutex};

use joust_engine::model::Decoder;
use joust_fleet::{InspectionError, Inspector, RequestError};
use joust_schema::ids::PolicyVersion;

use crate::error::Error;

/// The weights that servers hold.
pub(super) trait ServedWeights: Send {
    /// Gives a version of the policy to all servers.
    fn publish(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error>;

    /// Server by server, whether it holds exactly the version that was published last. One that
    /// came back is given it first.
    fn check(&mut self) -> Result<Vec<bool>, Error>;

    /// What servers with that version call their weights.
    fn label(&self) -> String;
}

/// Servers of which it was just found that they hold the newest weights.
#[derive(Default)]
pub(super) struct HeldWeights(Mutex<Vec<bool>>);

impl HeldWeights {
    /// Remembers what was found.
    pub(super) fn set(&self, found: Vec<bool>) {
        *self.lock() = found;
    }

    /// Whether a server was found to hold them. It is known once: later it may have changed.
    fn take(&self, server: usize) -> bool {
        self.lock().get_mut(server).is_some_and(std::mem::take)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.0.lock().expect("no thread panics while it holds what was found. This is a bug.")
    }
}

/// The look at a server: it is no server of this run without the newest weights.
pub(super) fn inspector(
    weights: Arc<Mutex<dyn ServedWeights>>,
    held: Arc<HeldWeights>,
    urls: Vec<String>,
) -> Inspector {
    Arc::new(move |server| {
        let (weights, held) = (Arc::clone(&weights), Arc::clone(&held));
        let base = server.base().to_owned();
        let idx = urls.iter().position(|url| url.trim_end_matches('/') == base);
        let idx = idx.expect("a fleet's servers are those of its config. This is a bug.");
        Box::pin(async move {
            if held.take(idx) {
                return Ok(());
            }
            // it calls servers, and waits for them
            let look = tokio::task::spawn_blocking(move || {
                let lock = weights.lock();
                lock.expect("no thread panics while it holds the weights. This is a bug.").check()
            });
            match look.await {
                Ok(Ok(found)) if found.get(idx).copied().unwrap_or_default() => Ok(()),
                Ok(Ok(_)) => Err(InspectionError::Unseen(RequestError::Gone(
                    format!("{base}: it does not hold the newest weights of the policy"),
                    None,
                ))),
                Ok(Err(error)) => Err(InspectionError::Unusable(error.to_string())),
                Err(error) => Err(InspectionError::Unusable(format!("{base}: {error}"))),
            }
        })
    })
}
