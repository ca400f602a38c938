//! Accepts a connection once its first byte has arrived, so that idle connections are closed, and
//! watches it from then on.
//!
//! Knows neither TLS nor HTTP.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use joust_server::ConnectionEnd;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tower::Layer as _;

use super::gone::WatchedStream;

/// Time without any packet after which the client's machine is asked whether it is still there, and
/// time between two questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Maximum time until the first byte of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstByte(pub(super) Duration);

impl<S: Send + 'static> Accept<TcpStream, S> for FirstByte {
    type Stream = WatchedStream;
    type Service = AddExtension<S, ConnectionEnd>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(WatchedStream, Self::Service)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let limit = self.0;
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            let first = tokio::time::timeout(limit, stream.peek(&mut [0])).await;
            first.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let end = ConnectionEnd::default();
            let service = Extension(end.clone()).layer(service);
            Ok((WatchedStream::new(stream, end), service))
        })
    }
}
