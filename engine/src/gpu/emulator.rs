//! The kernels on the CPU, for tests: compiled by a C++ compiler, run by kernels/emulator.h.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::arena::KvKind;
use super::kernel_ops::KernelOps;
use super::launch::Launch;
use super::ops::Heads;
use super::source::{self, KernelFile};
use crate::error::Error;
use crate::ffi::cuda::kernel::{KernelArg, LaunchShape};
use crate::ffi::emulated::EmulatedLibrary;

/// A launcher for a model's shapes. A file is compiled when one of its kernels is first launched.
#[derive(Clone)]
pub(super) struct EmulatorLauncher {
    files: Arc<Vec<KernelFile>>,
    /// Whether threads and blocks run from the last to the first.
    backwards: bool,
}

impl Launch for EmulatorLauncher {
    fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) -> Result<(), Error> {
        let has = |file: &&KernelFile| file.kernels.iter().any(|other| other.name == kernel);
        let file = self.files.iter().find(has);
        let file = file.unwrap_or_else(|| panic!("no file has {kernel}"));
        library(file, self.backwards).launch(kernel, shape, args);
        Ok(())
    }
}

/// The kernels for a model's shapes.
pub(super) fn kernels(heads: Heads, kv: KvKind, backwards: bool) -> KernelOps<EmulatorLauncher> {
    let files = Arc::new(source::files(&heads, kv).unwrap());
    // more bytes than most matrices of the tests
    let fetch_ahead = 40_000;
    KernelOps { launcher: EmulatorLauncher { files, backwards }, heads, fetch_ahead }
}

/// The compiled library of a file and its macros, shared by all tests of the process.
fn library(file: &KernelFile, backwards: bool) -> Arc<EmulatedLibrary> {
    type Compiled = BTreeMap<(&'static str, String, bool), Arc<OnceLock<Arc<EmulatedLibrary>>>>;
    static COMPILED: Mutex<Compiled> = Mutex::new(BTreeMap::new());
    let key = (file.name, format!("{:?}", file.defines), backwards);
    let cell = Arc::clone(COMPILED.lock().unwrap().entry(key).or_default());
    Arc::clone(cell.get_or_init(|| Arc::new(compile(file, backwards))))
}

fn compile(file: &KernelFile, backwards: bool) -> EmulatedLibrary {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file.name);
    let callable = file
        .kernels
        .iter()
        .map(|kernel| format!("JOUST_KERNEL({}, {})\n", kernel.name, kernel.c_types().join(", ")));
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
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", file.name);
    let library = EmulatedLibrary::open(&library);
    library.set_backwards(backwards);
    library
}
