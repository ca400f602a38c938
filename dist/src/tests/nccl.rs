//! NCCL without a GPU: that its constructors are where the shim looks for them, and that its
//! absence is a typed error. No collective of NCCL runs here.

use std::path::PathBuf;

use tch::Device;

use super::ranks::{Ranks, say};
use super::tests_not_run;
use crate::{Error, ffi};

fn libtorch_cuda() -> Option<PathBuf> {
    let root = std::env::var_os("LIBTORCH").map(PathBuf::from)?;
    let path = root.join("lib/libtorch_cuda.so");
    let found = path.is_file();
    if !found {
        tests_not_run(&format!("no {}: NCCL's constructors were not looked up", path.display()));
    }
    found.then_some(path)
}

/// A number of a 64-bit ELF file, little-endian.
fn number(bytes: &[u8], at: usize, n_bytes: usize) -> usize {
    bytes[at..at + n_bytes].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// The names of the dynamic symbols of a 64-bit ELF file, separated by zeros.
fn dynamic_names(path: &std::path::Path) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    const DYNSYM: usize = 11;
    let file = std::fs::File::open(path).unwrap();
    let read = |at: usize, n_bytes: usize| {
        let mut bytes = vec![0; n_bytes];
        file.read_exact_at(&mut bytes, u64::try_from(at).unwrap()).unwrap();
        bytes
    };
    let head = read(0, 64);
    assert_eq!(&head[..5], b"\x7fELF\x02");
    let (start, length, n) = (number(&head, 40, 8), number(&head, 58, 2), number(&head, 60, 2));
    let sections = read(start, length * n);
    let section = |idx: usize| &sections[idx * length..][..length];
    let symbols = (0..n).map(section).find(|section| number(section, 4, 4) == DYNSYM).unwrap();
    let names = section(number(symbols, 40, 4));
    read(number(names, 24, 8), number(names, 32, 8))
}

#[test]
fn nccl_constructors_are_in_libtorch_cuda() {
    let Some(path) = libtorch_cuda() else { return };
    let names = dynamic_names(&path);
    let is_there = |name: &str| names.split(|byte| *byte == 0).any(|n| n == name.as_bytes());
    for constructor in ffi::nccl_constructors() {
        assert!(is_there(constructor), "{} has no {constructor}", path.display());
    }
    assert!(!is_there("_ZN4c10d16ProcessGroupNCCL7OptionsC1Ebb"));
}

#[test]
fn a_gpu_without_libtorch_cuda_is_a_typed_error() {
    let told = Ranks::new(2).with_options(|o| o.device = Device::Cuda(0)).run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::NoNccl { .. }), "{error:?}");
        say(&error.to_string());
    });
    for told in told {
        told.check();
        let wanted = "no NCCL in libtorch: libtorch_cuda is not loaded, or not that of libtorch \
                      2.11.0: no symbol _ZN4c10d16ProcessGroupNCCL7OptionsC1Eb";
        assert_eq!(told.lines, [wanted]);
    }
}

#[test]
fn nccl_without_a_gpu_refuses_in_its_own_words() {
    let Some(path) = libtorch_cuda() else { return };
    let cuda = |o: &mut crate::JoinOptions| o.device = Device::Cuda(0);
    // the constructors are called, and throw
    let told = Ranks::new(2).with_options(cuda).with_variable("LD_PRELOAD", path).run(|joined| {
        say(&match joined {
            Ok(_) => "a GPU".to_owned(),
            Err(error) => {
                assert!(matches!(error, Error::NoNccl { .. }), "{error:?}");
                error.to_string()
            }
        });
    });
    for told in told {
        told.check();
        if told.lines == ["a GPU"] {
            tests_not_run("there is a GPU: NCCL's error without one was not seen");
            return;
        }
        let wanted = "no NCCL in libtorch: ProcessGroupNCCL is only supported with GPUs, no GPUs \
                      found!";
        assert_eq!(told.lines, [wanted]);
    }
}
