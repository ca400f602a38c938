//! The kernels on the CPU: compiled by the C++ compiler that libtorch's bindings need as well, run by
//! engine/kernels/emulator.h.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::arena::KvKind;
use super::kernel_ops::KernelOps;
use super::launch::Launch;
use super::ops::Heads;
use super::source;
use crate::error::Error;
use crate::ffi::cuda::{Arg, Shape};
use crate::ffi::emulated::Library;

/// The libraries of all files.
#[derive(Clone)]
pub(super) struct EmulatorLauncher {
    libraries: Arc<Vec<Library>>,
}

impl Launch for EmulatorLauncher {
    fn launch(&self, kernel: &str, shape: Shape, args: &[Arg]) -> Result<(), Error> {
        let library = self.libraries.iter().find(|library| library.has(kernel));
        library.unwrap_or_else(|| panic!("no file has {kernel}")).launch(kernel, shape, args);
        Ok(())
    }
}

/// The kernels for a model's shapes, with threads that take turns forwards or backwards.
pub(super) fn kernels(heads: Heads, kv: KvKind, backwards: bool) -> KernelOps<EmulatorLauncher> {
    let dir = tempfile::tempdir().unwrap();
    let compiled = source::files(&heads, kv).unwrap().into_iter().map(|file| {
        let path = dir.path().join(format!("{}-{}", file.kernels[0].name, file.name));
        let callable = file.kernels.iter().map(|kernel| {
            format!("JOUST_KERNEL({}, {})\n", kernel.name, kernel.c_types().join(", "))
        });
        let source = [file.source()].into_iter().chain(callable).collect::<Vec<_>>().join("\n");
        std::fs::write(&path, source).unwrap();
        let mut command = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned()));
        let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulator.h");
        let library = PathBuf::from(format!("{}.so", path.display()));
        command
            .args(["-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-DJOUST_EMULATE", "-include"])
            .arg(header)
            .args(file.defines.iter().map(|(name, value)| format!("-D{name}={value}")))
            .args(["-x", "c++"])
            .arg(&path)
            .arg("-o")
            .arg(&library);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {told}", file.name);
        let library = Library::open(&library);
        library.set_backwards(backwards);
        library
    });
    // more than most of the tests' matrices have
    let fetch_ahead = 40_000;
    KernelOps {
        launcher: EmulatorLauncher { libraries: Arc::new(compiled.collect()) },
        heads,
        fetch_ahead,
    }
}
