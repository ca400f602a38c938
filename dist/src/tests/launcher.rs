//! Ranks that `torchrun` starts, as users start them: on two nodes, and again after a failure.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;

use super::ranks::{Told, as_rank, free_port, of_test, say, signal_self, start, test_name};
use super::tests_not_run;
use crate::{Collectives, Error, JoinOptions, World};

/// Python takes seconds to start, more on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn options() -> JoinOptions {
    let limit = Duration::from_secs(40);
    JoinOptions { join_limit: limit, limit, ..JoinOptions::default() }
}

/// `torchrun` of the wheel that these tests run on.
fn torchrun() -> Option<PathBuf> {
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    // lib/python3.x/site-packages/torch of a virtual environment
    let environment = libtorch.canonicalize().ok()?.ancestors().nth(4)?.to_owned();
    Some(environment.join("bin/torchrun")).filter(|path| path.is_file())
}

/// Runs the body in the ranks that one `torchrun` per node starts, and returns what each `torchrun`
/// and its ranks said; none where there is no `torchrun`.
fn launch<F: FnOnce(Result<Collectives, Error>)>(nodes: &[&[&str]], body: F) -> Option<Vec<Told>> {
    let name = test_name::<F>();
    as_rank(&name, options(), body);
    let Some(torchrun) = torchrun() else {
        tests_not_run("no torchrun beside libtorch: no rank was launched by it");
        return None;
    };
    let (done, outcomes) = mpsc::channel();
    for (node, arguments) in nodes.iter().enumerate() {
        let mut command = Command::new(&torchrun);
        command.args(["--no-python", "--monitor-interval=0.1"]).args(*arguments);
        command.arg(std::env::current_exe().unwrap()).args(["--exact", &name, "--nocapture"]);
        of_test(&mut command, &name);
        start(node, &mut command, &done);
    }
    let told = nodes.iter().map(|_| outcomes.recv_timeout(DEADLINE).unwrap());
    let mut told: Vec<Told> = told.collect();
    told.sort_by_key(|told| told.rank);
    Some(told)
}

#[test]
fn torchrun_joins_the_ranks_of_two_nodes() {
    let port = format!("--master-port={}", free_port());
    // the second node finds the first at another address than the one that Gloo listens at
    let common = ["--nnodes=2", "--nproc-per-node=2", "--master-addr=127.0.0.2", &port];
    let node = |rank: &'static str| [&common[..], &[rank]].concat();
    let nodes = [node("--node-rank=0"), node("--node-rank=1")];
    let told = launch(&[&nodes[0], &nodes[1]], |joined| {
        let c = joined.unwrap();
        let mut ranks = [c.world().rank as f64];
        c.sum_f64(&mut ranks).unwrap();
        drop(c);
        // a second run in the same places, as a script of two commands: the launcher's store has
        // the keys of the first
        let c = Collectives::join(World::from_env().unwrap(), options()).unwrap();
        let World { rank, size, local_rank, local_size, .. } = *c.world();
        let all = c.gather_bytes(vec![u8::try_from(rank).unwrap()]).unwrap();
        let all = all.map(|all| all.concat());
        let place = format!("{rank} of {size}, {local_rank} of {local_size} here");
        say(&format!("{place}; sum {}, gathered {all:?}", ranks[0]));
    });
    let Some(told) = told else { return };
    let mut lines = Vec::new();
    for node in &told {
        assert!(node.status.success(), "{}\n{}\n{}", node.rank, node.stdout, node.stderr);
        lines.extend(node.lines.iter().filter(|line| *line != "done").cloned());
    }
    lines.sort();
    let wanted = [
        "0 of 4, 0 of 2 here; sum 6, gathered Some([0, 1, 2, 3])",
        "1 of 4, 1 of 2 here; sum 6, gathered None",
        "2 of 4, 0 of 2 here; sum 6, gathered None",
        "3 of 4, 1 of 2 here; sum 6, gathered None",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn torchrun_starts_all_ranks_again_after_one_was_killed() {
    let arguments = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"];
    let told = launch(&[&arguments], |joined| {
        let c = joined.unwrap();
        c.barrier().unwrap();
        let restart = std::env::var("TORCHELASTIC_RESTART_COUNT").unwrap();
        if restart == "0" {
            if c.world().rank == 1 {
                signal_self(Signal::KILL);
            }
            let error = c.barrier().unwrap_err();
            assert!(matches!(error, Error::PeerLost { .. }), "{error}");
            std::process::exit(1);
        }
        let mut ranks = [1.0];
        c.sum_f64(&mut ranks).unwrap();
        say(&format!("restart {restart}: rank {} of {}", c.world().rank, ranks[0]));
    });
    let Some(told) = told else { return };
    let Told { status, stdout, stderr, .. } = &told[0];
    assert!(status.success(), "{stdout}\n{stderr}");
    let mut lines: Vec<&String> = told[0].lines.iter().filter(|line| *line != "done").collect();
    lines.sort();
    assert_eq!(lines, ["restart 1: rank 0 of 2", "restart 1: rank 1 of 2"]);
}
