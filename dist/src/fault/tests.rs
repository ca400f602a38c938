//! c10d's words, as libtorch 2.11.0 says them, and the errors that they become.

use super::*;

const LIMIT: Duration = Duration::from_secs(6);

#[test]
fn of_collective_tells_lost_ranks_late_ones_and_others_apart() {
    let place = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] ";
    let lost = |peer: Option<&str>, reason: &str| Error::PeerLost {
        peer: peer.map(str::to_owned),
        reason: reason.to_owned(),
    };
    let late = |reason: &str| Error::TimedOut { limit: LIMIT, reason: reason.to_owned() };
    let closed = "Connection closed by peer [127.0.0.1]:16425";
    let closed_v6 = "Connection closed by peer [fe80::1]:16425. Some more.";
    let reset = "Read error [10.0.0.7]:5: Connection reset by peer";
    let recv = "Timed out waiting 6000ms for recv operation to complete";
    let pairs = "Application timeout caused pair closure";
    let nccl = "NCCL error: remote process exited or there was a network error, NCCL version 2.28";
    let cases = [
        (format!("{place}{closed}"), lost(Some("127.0.0.1:16425"), closed)),
        (closed_v6.to_owned(), lost(Some("[fe80::1]:16425"), closed_v6)),
        (format!("{place}{reset}\nstack"), lost(Some("10.0.0.7:5"), reset)),
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
