//! Whether the end of a client's bytes was seen on its connection: such a client gets what it is
//! sent, if it only closed its sending side, but has probably gone.
//!
//! Who serves the connections puts it into the extensions of their requests. Knows no protocol.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// The end of a client's bytes, shared by a connection and its requests.
#[derive(Clone, Debug, Default)]
pub struct ConnectionEnd {
    is_seen: Arc<AtomicBool>,
}

impl ConnectionEnd {
    /// The end was seen.
    pub fn mark_seen(&self) {
        self.is_seen.store(true, Ordering::Relaxed);
    }

    /// Whether the end was seen.
    pub fn is_seen(&self) -> bool {
        self.is_seen.load(Ordering::Relaxed)
    }
}

/// That of the request's connection; without one, an end that is never seen.
impl<S: Send + Sync> FromRequestParts<S> for ConnectionEnd {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}
