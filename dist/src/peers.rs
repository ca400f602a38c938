//! Which rank is at the other end of a connection, and which rank was lost first. Gloo names the
//! address of a connection that has ended; ranks tell each other theirs once all have come. Knows
//! no collectives.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::ffi::{Store, Words};

/// Above this number of ranks their connections are too many to tell.
pub(crate) const MAX_RANKS: usize = 256;

/// How long a rank asks which one was lost first: the store may have gone with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Keys of the store: how many ranks have seen one go, and the first that was seen, from 1.
const N_SEEN: &str = "lost/n_seen";
const FIRST: &str = "lost/first";

/// The other ranks, as far as they are known.
pub(crate) struct Peers {
    store: Arc<Store>,
    rank_of: OnceLock<BTreeMap<SocketAddr, usize>>,
}

impl Peers {
    pub(crate) fn new(store: Store) -> Self {
        Self { store: Arc::new(store), rank_of: OnceLock::new() }
    }

    /// Takes what [`own_addresses`] says on each rank.
    pub(crate) fn learn(&self, addresses_of_ranks: &[Vec<u8>]) {
        let of_rank = |(rank, text): (usize, &Vec<u8>)| {
            let text = String::from_utf8_lossy(text);
            let addresses = text.split(' ').filter_map(|address| address.parse().ok());
            addresses.map(|address| (address, rank)).collect::<Vec<(SocketAddr, usize)>>()
        };
        let all = addresses_of_ranks.iter().enumerate().flat_map(of_rank).collect();
        let _ = self.rank_of.set(all);
    }

    /// The rank that was lost first, where it is known: the one at this address, unless another
    /// rank has seen one go before. A rank that is lost makes others end, too.
    pub(crate) fn first_lost(&self, address: Option<SocketAddr>) -> Option<usize> {
        let seen = address.and_then(|address| self.rank_of.get()?.get(&address).copied());
        let store = Arc::clone(&self.store);
        let (told, answer) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("lost".to_owned());
        let asked = thread.spawn(move || {
            // nobody receives where the time has passed
            let _ = told.send(ask(&store, seen));
        });
        let answer = asked.ok().and_then(|_| answer.recv_timeout(PATIENCE).ok());
        answer.and_then(Result::ok).flatten().or(seen)
    }
}

/// Tells which rank was seen to go, and returns the first that any rank has told of.
fn ask(store: &Store, seen: Option<usize>) -> Result<Option<usize>, Words> {
    if let Some(seen) = seen
        && store.add(N_SEEN, 1)? == 1
    {
        store.add(FIRST, seen as i64 + 1)?;
    }
    Ok(usize::try_from(store.add(FIRST, 0)?).ok().and_then(|first| first.checked_sub(1)))
}

/// The addresses of this process's TCP sockets, separated by spaces; none where the system does not
/// list them.
pub(crate) fn own_addresses() -> Vec<u8> {
    let own: Vec<String> = own_sockets();
    let mut addresses = Vec::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines() {
            let cells: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, _, _, _, _, _, _, inode, ..] = cells[..]
                && own.iter().any(|it| it == inode)
            {
                addresses.extend(address(local).map(|address| address.to_string()));
            }
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses.join(" ").into_bytes()
}

/// The numbers by which the system lists this process's sockets.
fn own_sockets() -> Vec<String> {
    let entries = std::fs::read_dir(Path::new("/proc/self/fd")).into_iter().flatten().flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let number = |target: std::path::PathBuf| {
        let target = target.to_string_lossy().into_owned();
        Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    targets.filter_map(number).collect()
}

/// An address as the kernel lists it: words of 32 bits in the machine's order, then the port, all
/// in hexadecimal digits.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].map(u32::to_ne_bytes);
            let mut bytes = [0; 16];
            bytes.chunks_exact_mut(4).zip(words).for_each(|(to, from)| to.copy_from_slice(&from));
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_lists_them() {
        if cfg!(target_endian = "big") {
            return;
        }
        let read = |text: &str| address(text).map(|address| address.to_string());
        assert_eq!(read("0100007F:C67A"), Some("127.0.0.1:50810".to_owned()));
        let mapped = "0000000000000000FFFF00000100007F:0016";
        assert_eq!(read(mapped), Some("127.0.0.1:22".to_owned()));
        let loopback = "00000000000000000000000001000000:0016";
        assert_eq!(read(loopback), Some("[::1]:22".to_owned()));
        for text in ["", "0100007F", "0100007F:", "00007F:0016", "local_address"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn own_addresses_has_a_socket_of_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap().to_string();
        let all = String::from_utf8(own_addresses()).unwrap();
        assert!(all.split(' ').any(|address| address == ours), "{ours}: {all}");
    }
}
