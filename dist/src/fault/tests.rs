//! c10d's words, as libtorch 2.11.0 says them, and the errors that they become.

use super::*;

const LIMIT: Duration = Duration::from_secs(6);

#[test]
fn of_collective_tells_lost_ranks_late_ones_and_others_apart() {
    let place = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] ";
    let lost = |peer: Option<&str>, reason: &str| Error::PeerLost {
        rank: None,
        peer: peer.map(|peer| peer.parse().unwrap()),
        reason: reason.to_owned(),
    };
    // ports are in the network's order: 50810 is c67a, 31430 is 7ac6
    let late = |reason: &str| Error::TimedOut { limit: LIMIT, reason: reason.to_owned() };
    let closed = "Connection closed by peer [127.0.0.1]:31430";
    let closed_as_it_is = "Connection closed by peer 127.0.0.1:50810";
    let closed_v6 = "Connection closed by peer [fe80::1]:31430. Some more.";
    let closed_v6_as_it_is = "Connection closed by peer [fe80::1]:50810. Some more.";
    let reset = "Read error [10.0.0.7]:256: Connection reset by peer";
    let reset_as_it_is = "Read error 10.0.0.7:1: Connection reset by peer";
    let recv = "Timed out waiting 6000ms for recv operation to complete";
    let pairs = "Application timeout caused pair closure";
    let nccl = "NCCL error: remote process exited or there was a network error, NCCL version 2.28";
    let cases = [
        (format!("{place}{closed}"), lost(Some("127.0.0.1:50810"), closed_as_it_is)),
        (closed_v6.to_owned(), lost(Some("[fe80::1]:50810"), closed_v6_as_it_is)),
        (format!("{place}{reset}\nstack"), lost(Some("10.0.0.7:1"), reset_as_it_is)),
        ("Broken pipe".to_owned(), lost(None, "Broken pipe")),
        (nccl.to_owned(), lost(None, nccl)),
        (format!("{place}{recv}"), late(recv)),
        (format!("{place}{pairs}"), late(pairs)),
        ("no memory".to_owned(), Error::Backend { reason: "no memory".to_owned() }),
    ];
    for (words, wanted) in cases {
        assert_eq!(of_collective(&words, LIMIT), wanted);
    }
}

#[test]
fn first_line_leaves_out_places_and_stacks() {
    let cases = [
        ("", "no reason given"),
        ("\n  what happened  \nframe #0: c10::Error", "what happened"),
        ("[/a/b.cc:1] what happened", "what happened"),
        ("it failed with [/a/b.cc:1] that", "it failed with that"),
        ("[127.0.0.1] is an address", "[127.0.0.1] is an address"),
        ("[/a/b.cc:1]", "[/a/b.cc:1]"),
    ];
    for (words, wanted) in cases {
        assert_eq!(first_line(words), wanted);
    }
}
