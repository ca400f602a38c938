//! A connection that fails once its client has gone, so that nothing is done for it any more.
//!
//! HTTP/1.1 has no word for "I have gone": a client that gives up closes its socket, and what
//! arrives is the end of its bytes. A client that closes only its sending side looks the same. It
//! has [`GRACE`] for its answer, which is enough for probes and for `nc`, and is then taken for one
//! that has gone. Meanwhile the requests of the connection know of the end by [`ConnectionEnd`], so
//! that an answer that nobody may read is kept. Knows neither TLS nor HTTP; reads nothing itself,
//! so that it also sees the end behind bytes that nobody reads (a pipelined request).

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use joust_server::ConnectionEnd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Time from the end of a client's bytes to the end of its connection.
const GRACE: Duration = Duration::from_millis(200);

/// A connection that is watched for the end of its client.
pub(crate) struct WatchedStream {
    stream: TcpStream,
    /// Runs while there are bytes, or the end of them, that nobody reads.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the end of the client's bytes was seen when the timer was started.
    is_at_end: bool,
    end: ConnectionEnd,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream, end: ConnectionEnd) -> Self {
        Self { stream, timer: None, is_at_end: false, end }
    }

    /// Whether the client has sent the end of its bytes, read or not.
    fn sees_end(&self, context: &mut Context<'_>) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE)).poll(context);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Fails once the client has gone; else sees to it that the task is woken when it may have.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.stream.poll_read_ready(context)?.is_pending() {
            self.timer = None;
            return Ok(());
        }
        loop {
            let is_at_end = self.sees_end(context);
            if is_at_end {
                self.end.mark_seen();
            }
            if self.timer.is_none() || is_at_end != self.is_at_end {
                (self.timer, self.is_at_end) = (Some(Box::pin(sleep(GRACE))), is_at_end);
            }
            let timer = self.timer.as_mut().expect("it was just set. This is a bug.");
            if timer.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            if is_at_end {
                let gone = "the client closed its side of the connection";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, gone));
            }
            // bytes that nobody reads: no event tells their end, so it is looked for again
            self.timer = None;
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.remaining() > 0 && buffer.filled().len() == n_before && read.is_ready() {
            self.end.mark_seen();
        }
        read
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called by the protocol whenever its task is woken, with nothing to write while it waits for
    /// an answer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(self.check(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
