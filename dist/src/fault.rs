//! From c10d's words to a typed error. Gloo's and NCCL's exceptions have no types that reach Rust,
//! so the words decide. Knows nothing of ranks or tensors.

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
        Error::PeerLost { peer: address(&reason), reason }
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

/// An address such as `[127.0.0.1]:4711` in c10d's words, as `127.0.0.1:4711`.
fn address(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once('[')?;
    let (host, rest) = rest.split_once("]:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let is_address = host.parse::<std::net::IpAddr>().is_ok() && !port.is_empty();
    is_address.then(|| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests;
