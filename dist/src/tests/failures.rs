//! What goes wrong between processes: ranks that die, hang, do other things or never come. Each is
//! a typed error, in time, without a word of C++ on standard error.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use tch::{Device, Kind, Tensor};

use super::ranks::{Ranks, Told, free_port, say, signal_self, timed};
use crate::{Collectives, Error};

/// A time limit that one rank alone waits for.
const SHORT: Duration = Duration::from_millis(1_500);
/// A time limit between ranks, which a busy machine starts one after the other.
const LIMIT: Duration = Duration::from_secs(4);
/// A busy machine is slow, but the limits have passed by then.
const SOON: Duration = Duration::from_secs(12);

fn ones(n_values: i64) -> Tensor {
    Tensor::ones([n_values], (Kind::Float, Device::Cpu))
}

/// Two collectives, so that all is well before what goes wrong.
fn warm_up(c: &Collectives) {
    for _ in 0..2 {
        c.all_reduce_sum(&mut ones(1 << 16)).unwrap();
    }
}

/// Asserts that all further collectives fail at once and name the first failure.
fn check_unusable(c: &Collectives, cause: &Error) {
    let cause = || Box::new(cause.clone());
    let (outcomes, took) = timed(|| [c.all_reduce_sum(&mut ones(4)), c.barrier()]);
    assert_eq!(outcomes, [(); 2].map(|()| Err(Error::Unusable { cause: cause() })));
    assert!(took < Duration::from_millis(500), "{took:?}");
}

fn is_one_line(error: &Error) -> bool {
    error.to_string().lines().count() == 1
}

#[test]
fn a_rank_that_is_gone_fails_the_others_at_once() {
    // rank 0 serves the store; a rank that leaves ends well, but too early
    for (victim, how) in [(0, "dies"), (1, "dies"), (2, "leaves")] {
        let ranks = Ranks::new(3).with_variable("VICTIM", victim.to_string());
        let told = ranks.with_variable("HOW", how).run(|joined| {
            let c = joined.unwrap();
            warm_up(&c);
            if c.world().rank.to_string() == std::env::var("VICTIM").unwrap() {
                if std::env::var("HOW").unwrap() == "dies" {
                    signal_self(Signal::KILL);
                }
                return;
            }
            let (outcome, took) = timed(|| c.all_reduce_sum(&mut ones(1 << 16)));
            let error = outcome.unwrap_err();
            let Error::PeerLost { peer: Some(peer), rank: Some(_), .. } = &error else {
                panic!("{error:?}")
            };
            assert!(peer.ip().is_loopback(), "{peer}");
            assert!(took < SOON, "{took:?}");
            check_unusable(&c, &error);
            assert!(is_one_line(&error), "{error}");
            say(&error.to_string());
        });
        assert_eq!(told[victim].is_done, how == "leaves");
        for survivor in told.iter().filter(|told| told.rank != victim) {
            survivor.check();
            let line = &survivor.lines[0];
            let is_named = line.starts_with(&format!("rank {victim} is gone: "));
            // the store that knows the first one may have gone with rank 0
            let is_later = victim == 0 && line.starts_with("rank ") && line.contains(" is gone: ");
            assert!((is_named || is_later) && line.contains(" 127.0.0.1:"), "{line}");
        }
    }
}

#[test]
fn a_rank_that_hangs_fails_the_others_after_the_time_limit() {
    let told = Ranks::new(2).with_options(|o| o.limit = LIMIT).with_endless(1).run(|joined| {
        let c = joined.unwrap();
        warm_up(&c);
        while c.world().rank == 1 {
            // the thread that is not stopped at once does nothing either
            signal_self(Signal::STOP);
        }
        let (outcome, took) = timed(|| c.all_reduce_sum(&mut ones(1 << 16)));
        let error = outcome.unwrap_err();
        assert!(matches!(&error, Error::TimedOut { limit: LIMIT, .. }), "{error:?}");
        assert!(LIMIT <= took && took < SOON, "{took:?}");
        check_unusable(&c, &error);
        let ((), took) = timed(|| drop(c));
        assert!(took < LIMIT, "dropping took {took:?}");
        say(&error.to_string());
    });
    told[0].check();
    let line = &told[0].lines[0];
    assert!(line.starts_with("a rank did not take part within 4 s: Timed out"), "{line}");
}

#[test]
fn a_dropped_collective_that_fails_is_in_the_next_ones_error() {
    let told = Ranks::new(2).run(|joined| {
        let c = joined.unwrap();
        warm_up(&c);
        let mut tensor = ones(1 << 24);
        let work = c.start_all_reduce_sum(&mut tensor).unwrap();
        if c.world().rank == 1 {
            signal_self(Signal::KILL);
        }
        drop(work);
        let error = c.barrier().unwrap_err();
        let cause = match &error {
            Error::Unusable { cause } => cause,
            // all bytes had arrived before the rank died
            other => other,
        };
        assert!(matches!(cause, Error::PeerLost { .. }), "{error:?}");
    });
    told[0].check();
}

#[test]
fn ranks_out_of_step_learn_of_it_at_once() {
    let told = Ranks::new(3).run(|joined| {
        let c = joined.unwrap();
        warm_up(&c);
        let (outcome, took) = timed(|| match c.world().rank {
            0 => c.sum_f64(&mut [1.0, 2.0]),
            1 => c.all_reduce_sum(&mut ones(1 << 16)),
            _ => c.gather_bytes(vec![0; 5_000]).map(|_| ()),
        });
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::OutOfStep { .. }), "{error:?}");
        assert!(took < SOON, "{took:?}");
        check_unusable(&c, &error);
        say(&error.to_string());
    });
    let lines = told.iter().map(|told| {
        told.check();
        &told.lines[0][..]
    });
    let rule = "all ranks have to make the same collectives in the same order";
    let ranks =
        |ours: &str, theirs: &str| format!("the ranks are out of step: {ours}, {theirs}; {rule}");
    let wanted = [
        ranks("rank 0 makes sum_f64 of 2", "rank 1 all_reduce_sum of 65536 f32"),
        ranks("rank 1 makes all_reduce_sum of 65536 f32", "rank 0 sum_f64 of 2"),
        ranks("rank 2 makes gather_bytes", "rank 0 sum_f64 of 2"),
    ];
    assert_eq!(lines.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_rank_that_fails_alone_says_why_to_all() {
    let told = Ranks::new(3).run(|joined| {
        let c = joined.unwrap();
        let rank = c.world().rank;
        let failed = |rank: usize, reason: &str| (rank, reason.to_owned());
        let long = "no room ".repeat(1_000);
        // whatever the others are about to do, small or large
        for nth in 0..4 {
            if rank == 1 {
                assert_eq!(c.fail("the disk is full").unwrap(), [failed(1, "the disk is full")]);
            } else {
                let outcome = match nth {
                    0 => c.sum_f64(&mut [1.0, 2.0]),
                    1 => c.all_reduce_sum(&mut ones(1 << 16)),
                    2 => c.all_gather_bytes(vec![0; 5_000]).map(|_| ()),
                    _ => c.barrier(),
                };
                let (rank, reason) = failed(1, "the disk is full");
                assert_eq!(outcome, Err(Error::RankFailed { rank, reason }));
            }
            // all may go on together
            assert_eq!(c.all_gather_bytes(vec![1]).unwrap().concat(), [1; 3]);
        }
        // several at the same time, and all
        let reasons = ["", "why", &long];
        match rank {
            0 => {
                let error = c.barrier().unwrap_err();
                assert_eq!(error.to_string(), "rank 1 has failed: why");
            }
            _ => {
                let all = c.fail(reasons[rank]).unwrap();
                assert_eq!(all.len(), 2);
                assert_eq!(all[0], failed(1, "why"));
                assert!(all[1].0 == 2 && long.starts_with(&all[1].1) && all[1].1.len() >= 1_000);
            }
        }
        assert_eq!(c.fail("").unwrap(), [0, 1, 2].map(|rank| failed(rank, "")));
        c.barrier().unwrap();
    });
    told.iter().for_each(Told::check);
}

#[test]
fn lengths_formats_and_roots_must_agree() {
    for case in ["length", "format", "root", "numbers"] {
        let told = Ranks::new(2).with_variable("CASE", case).run(|joined| {
            let c = joined.unwrap();
            let rank = c.world().rank;
            let is_first = rank == 0;
            let case = std::env::var("CASE").unwrap();
            let outcome = match &case[..] {
                "length" => c.all_reduce_sum(&mut ones(if is_first { 4 } else { 5 })),
                "format" if is_first => c.all_reduce_sum(&mut ones(4).to_kind(Kind::Double)),
                "format" => c.all_reduce_sum(&mut ones(4)),
                "root" => c.broadcast(&mut ones(4), rank),
                "numbers" => c.sum_f64(&mut vec![1.0; 40 + rank]),
                _ => panic!("{case}"),
            };
            assert!(matches!(outcome, Err(Error::OutOfStep { .. })), "{outcome:?}");
        });
        told.iter().for_each(Told::check);
    }
}

#[test]
fn ranks_that_never_come_are_named() {
    let ranks = Ranks::new(4).only(&[0, 2]).with_options(|o| o.join_limit = LIMIT);
    let told = ranks.run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Rendezvous { .. }), "{error:?}");
        say(&error.to_string());
    });
    told.iter().for_each(Told::check);
    let wanted = "ranks 1, 3 of 4 did not come within 4 s";
    assert!(told[0].lines[0].ends_with(wanted), "{:?}", told[0].lines);
    // rank 0 serves the store, and may have ended before the others have looked who is missing
    let line = &told[1].lines[0];
    let wanted = [": ranks 1, 3 of 4 did not", ": rank 1 of 4 did not", ": rank 1 of 4 had not"];
    assert!(wanted.iter().any(|wanted| line.contains(wanted)), "{line}");
}

#[test]
fn an_address_without_a_store_fails_within_the_time_limit() {
    let ranks = Ranks::new(2).only(&[1]).with_options(|o| o.join_limit = SHORT);
    let told = ranks.at("127.0.0.1", free_port()).run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Rendezvous { .. }), "{error:?}");
        say(&error.to_string());
    });
    told[0].check();
    let line = &told[0].lines[0];
    assert!(line.contains("nothing answered within 1.5 s: Connection refused"), "{line}");
}

#[test]
fn a_stranger_at_the_address_fails_soon_after_the_time_limit() {
    // accepts connections, and says nothing
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = stranger.local_addr().unwrap().port();
    let ranks = Ranks::new(2).only(&[1]).with_options(|o| o.join_limit = SHORT);
    let told = ranks.at("127.0.0.1", port).run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Rendezvous { .. }), "{error:?}");
        say(&error.to_string());
    });
    told[0].check();
    let line = &told[0].lines[0];
    assert!(line.ends_with("whoever listens there did not answer within 1.5 s"), "{line}");
}

#[test]
fn a_taken_port_fails_at_once() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let told = Ranks::new(2).only(&[0]).at("127.0.0.1", port).run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Rendezvous { .. }), "{error:?}");
        say(&error.to_string());
    });
    told[0].check();
    assert!(told[0].lines[0].contains("EADDRINUSE"), "{:?}", told[0].lines);
}

#[test]
fn libtorch_logs_where_the_user_asks_for_it() {
    let told = Ranks::new(2).with_variable("TORCH_CPP_LOG_LEVEL", "INFO").run(|joined| {
        joined.unwrap().barrier().unwrap();
    });
    assert!(told.iter().all(|told| told.status.success() && told.is_done));
    let text: String = told.iter().map(|told| &told.stderr[..]).collect();
    assert!(text.contains("TCPStore"), "{text}");
}

#[test]
fn time_limits_may_be_of_any_length() {
    let limits =
        |o: &mut crate::JoinOptions| (o.join_limit, o.limit) = (Duration::MAX, Duration::MAX);
    let told = Ranks::new(2).with_options(limits).run(|joined| joined.unwrap().barrier().unwrap());
    told.iter().for_each(Told::check);
}
