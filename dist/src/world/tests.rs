//! Variables of launchers, right and wrong.

use super::*;

const ALL: [(&str, &str); 6] = [
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("MASTER_ADDR", "node-0"),
    ("MASTER_PORT", "29500"),
];

/// Reads the variables of [`ALL`] with changes; no value removes a variable.
fn read(changes: &[(&str, Option<&str>)]) -> Result<World, Error> {
    World::read(|name| {
        let changed = changes.iter().rev().find(|(changed, _)| *changed == name);
        let set = ALL.iter().find(|(set, _)| *set == name).map(|(_, value)| *value);
        changed.map_or(set, |(_, value)| *value).map(str::to_owned)
    })
}

#[test]
fn world_without_variables_is_one_process() {
    assert_eq!(World::read(|_| None), Ok(World::single()));
    assert_eq!(World::read(|_| Some(" ".to_owned())), Ok(World::single()));
}

#[test]
fn world_reads_all_variables() {
    let meeting = |launcher_serves, n_restarts| {
        Some(Meeting { host: "node-0".to_owned(), port: 29_500, launcher_serves, n_restarts })
    };
    let world =
        World { rank: 5, size: 8, local_rank: 1, local_size: 4, meeting: meeting(false, 0) };
    assert_eq!(read(&[]), Ok(world.clone()));
    let torchrun =
        [("TORCHELASTIC_USE_AGENT_STORE", Some("True")), ("TORCHELASTIC_RESTART_COUNT", Some("3"))];
    assert_eq!(read(&torchrun), Ok(World { meeting: meeting(true, 3), ..world }));
    let one = ["WORLD_SIZE", "LOCAL_WORLD_SIZE"].map(|name| (name, Some("1")));
    let first = ["RANK", "LOCAL_RANK"].map(|name| (name, Some("0")));
    assert_eq!(read(&[one, first].concat()).unwrap().size, 1);
}

#[test]
fn world_names_variables_that_are_missing_or_make_no_sense() {
    let cases: [(&str, Option<&str>, &str); 18] = [
        (
            "RANK",
            None,
            "is not set, wanted a number from 0 to 7 (WORLD_SIZE is 8), because \
            WORLD_SIZE is set (for one process unset all)",
        ),
        (
            "WORLD_SIZE",
            Some(""),
            "is not set, wanted the number of processes, from 1, because \
            RANK is set (for one process unset all)",
        ),
        (
            "LOCAL_RANK",
            None,
            "is not set, wanted a number from 0 to 3 (LOCAL_WORLD_SIZE is 4), \
            because RANK is set (for one process unset all)",
        ),
        (
            "LOCAL_WORLD_SIZE",
            None,
            "is not set, wanted the number of processes on this host, \
            from 1 to 8, because RANK is set (for one process unset all)",
        ),
        (
            "MASTER_ADDR",
            None,
            "is not set, wanted the host of rank 0, because RANK is set (for \
            one process unset all)",
        ),
        (
            "MASTER_PORT",
            None,
            "is not set, wanted a port, from 1 to 65535, because RANK is set \
            (for one process unset all)",
        ),
        ("RANK", Some("8"), "is `8`, wanted a number from 0 to 7 (WORLD_SIZE is 8)"),
        ("RANK", Some("-1"), "is `-1`, wanted a number from 0 to 7 (WORLD_SIZE is 8)"),
        ("WORLD_SIZE", Some("0"), "is `0`, wanted the number of processes, from 1"),
        ("WORLD_SIZE", Some("two"), "is `two`, wanted the number of processes, from 1"),
        ("LOCAL_RANK", Some("4"), "is `4`, wanted a number from 0 to 3 (LOCAL_WORLD_SIZE is 4)"),
        (
            "LOCAL_WORLD_SIZE",
            Some("9"),
            "is `9`, wanted the number of processes on this host, \
            from 1 to 8",
        ),
        (
            "MASTER_PORT",
            Some("tcp://1.2.3.4:80"),
            "is `tcp://1.2.3.4:80`, wanted a port, from 1 \
            to 65535",
        ),
        ("MASTER_PORT", Some("65536"), "is `65536`, wanted a port, from 1 to 65535"),
        ("MASTER_PORT", Some("0"), "is `0`, wanted a port, from 1 to 65535"),
        ("TORCHELASTIC_USE_AGENT_STORE", Some("yes"), "is `yes`, wanted True or False"),
        (
            "TORCHELASTIC_RESTART_COUNT",
            Some("-1"),
            "is `-1`, wanted the number of restarts, \
            from 0",
        ),
        ("TORCHELASTIC_RESTART_COUNT", Some("x"), "is `x`, wanted the number of restarts, from 0"),
    ];
    for (name, value, wanted) in cases {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(matches!(&error, Error::Variable { name: of, .. } if *of == name), "{error:?}");
        assert_eq!(error.to_string(), format!("environment variable {name} {wanted}"));
    }
}
