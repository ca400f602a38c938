//! From c10d's words to a typed error. Gloo's and NCCL's exceptions have no types that reach Rust,
//! so the words decide. Knows nothing of ranks or tensors.

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::Error;

/// Words of a connection that ended.
const LOST: [&str; 8] = [
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "socket closed",
    "failed to recv",
    "remote process exited",
    "no route to host",
];

/// Words of a time limit that passed.
const LATE: [&str; 3] = ["timed out", "timeout", "time out"];

/// The error of a collective that failed with these words.
pub(crate) fn of_collective(words: &str, limit: Duration) -> Error {
    let reason = first_line(words);
    let lower = reason.to_lowercase();
    let has = |some: &[&str]| some.iter().any(|words| lower.contains(words));
    if has(&LATE) {
        Error::TimedOut { limit, reason }
    } else if has(&LOST) {
        match address(&reason) {
            Some((words, peer)) => {
                let reason = reason.replace(&words, &peer.to_string());
                Error::PeerLost { rank: None, peer: Some(peer), reason }
            }
            None => Error::PeerLost { rank: None, peer: None, reason },
        }
    } else {
        Error::Backend { reason }
    }
}

/// The first line that says something, without places in sources, and the stack after it.
pub(crate) fn first_line(words: &str) -> String {
    let mut lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = lines.next().unwrap_or("no reason given").to_owned();
    // as in `[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed …`
    while let Some((start, end)) = place(&line) {
        line.replace_range(start..end, "");
    }
    line
}

/// Where a place in a source is written, with the space after it.
fn place(line: &str) -> Option<(usize, usize)> {
    let start = line.find("[/")?;
    let end = start + line[start..].find("] ")?;
    line[start..end].contains(".cc:").then_some((start, end + 2))
}

/// An address in c10d's words such as `[127.0.0.1]:4711`, as they have it and as it is: Gloo shows
/// ports with their bytes in the network's order.
fn address(reason: &str) -> Option<(String, SocketAddr)> {
    let (_, rest) = reason.split_once('[')?;
    let (host, rest) = rest.split_once("]:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let address = SocketAddr::new(host.parse().ok()?, u16::from_be(port.parse().ok()?));
    Some((format!("[{host}]:{port}"), address))
}

#[cfg(test)]
mod tests;
