//! The only unsafe code of joust: memory maps, libtorch's shared libraries, CUDA, slices of
//! tensors, threads, signal masks and vector instructions.
//!
//! Each function is small and safe to call. This module knows nothing of models.

pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod emulated;
pub(crate) mod malloc;
pub(crate) mod nvrtc;
pub mod signals;
pub(crate) mod simd;
pub(crate) mod tensors;
pub(crate) mod threads;

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::Mmap;

use crate::error::Error;

/// Maps a file into memory, read-only.
///
/// # Errors
/// [`Error::Io`] where it cannot be opened or mapped.
pub fn mmap(path: &Path) -> Result<Mmap, Error> {
    let file = std::fs::File::open(path).map_err(|source| Error::io(path, source))?;
    // SAFETY: the map is read-only. If another process truncates the file, an access ends this
    // process with SIGBUS; model files are written once and replaced by renaming, never in place.
    unsafe { Mmap::map(&file) }.map_err(|source| Error::io(path, source))
}

/// Releases pages of a map that have been read. They no longer count as this process's memory, and
/// are read again on the next access.
pub(crate) fn release_pages(map: &Mmap, range: std::ops::Range<usize>) {
    // an access maps neighbouring pages too, also earlier ones that were released already
    const NEIGHBOURS: usize = 2 << 20;
    let range = range.start.saturating_sub(NEIGHBOURS)..range.end;
    // SAFETY: the map is of a file and read-only, so that released pages are read back unchanged.
    let advised = unsafe {
        map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
    };
    // if the system refuses the advice, the pages stay in memory
    let _ = advised;
}

/// Total memory of the machine, in bytes.
pub(crate) fn memory_bytes() -> usize {
    // SAFETY: two queries of system constants.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    usize::try_from(pages).unwrap_or(0) * usize::try_from(size).unwrap_or(0)
}

/// Peak memory of this process, in bytes.
pub(crate) fn peak_memory_bytes() -> usize {
    // the value of getrusage includes the program that started this one
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<usize>().ok());
    if let Some(kib) = kib {
        return kib * 1_024;
    }
    // SAFETY: a zeroed rusage is valid, and the call fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    usize::try_from(usage.ru_maxrss).unwrap_or(0) * 1_024
}

/// Whether NVIDIA's driver library can be loaded. Does not load libtorch's CUDA library.
pub fn has_cuda_driver() -> bool {
    open_library(c"libcuda.so.1")
}

/// Loads libtorch's CUDA library once and returns whether it is loaded.
///
/// It must be loaded before the first query of CUDA, because libtorch keeps the answer. The library
/// is not linked, so that one binary works with libtorch with and without CUDA.
pub fn load_libtorch_cuda() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| open_library(c"libtorch_cuda.so"))
}

/// Opens a library by its path, or by its name if the path has no folder.
fn open_library_at(path: &Path) -> bool {
    CString::new(path.as_os_str().as_bytes()).is_ok_and(|name| open_library(&name))
}

fn open_library(name: &CStr) -> bool {
    // SAFETY: `name` is a valid C string. The library's initialisers are those of CUDA and
    // libtorch, which may run at any time. The handle stays open for the life of the process.
    !unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }.is_null()
}

/// Path of the file that libtorch's CPU library was loaded from.
pub fn libtorch_path() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: both arguments are valid; a null symbol is not passed on.
    let found = unsafe {
        let symbol: *mut c_void =
            libc::dlsym(libc::RTLD_DEFAULT, c"aoti_torch_device_type_cpu".as_ptr());
        !symbol.is_null() && libc::dladdr(symbol, &mut info) != 0 && !info.dli_fname.is_null()
    };
    // SAFETY: dladdr succeeded, so the name is a C string that lives as long as the library.
    found.then(|| {
        PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes()))
    })
}

/// Version of libtorch, from the files beside the library; `unknown` without these files.
pub fn libtorch_version() -> String {
    let root = libtorch_path().and_then(|path| Some(path.parent()?.parent()?.to_owned()));
    let version = root.and_then(|root| {
        if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
            return Some(text.trim().to_owned());
        }
        let text = std::fs::read_to_string(root.join("version.py")).ok()?;
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        Some(line.split(['\'', '"']).nth(1)?.to_owned())
    });
    version.unwrap_or_else(|| "unknown".to_owned())
}
