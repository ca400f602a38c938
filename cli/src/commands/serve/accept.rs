//! Takes a connection once its client says something; one that never does is closed.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::net::TcpStream;

/// Waits so long for a connection's first byte.
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
