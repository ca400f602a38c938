//! Accepts a connection once its first byte has arrived, so that idle connections are closed.
//!
//! Knows neither TLS nor HTTP.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::net::TcpStream;

/// Maximum time until the first byte of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstByte(pub(super) Duration);

impl<S: Send + 'static> Accept<TcpStream, S> for FirstByte {
    type Stream = TcpStream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TcpStream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let limit = self.0;
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let first = tokio::time::timeout(limit, stream.peek(&mut [0])).await;
            first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok((stream, service))
        })
    }
}
