//! Kernels compiled for the CPU, for tests: see engine/kernels/emulator.h.

use std::ffi::{CString, c_int, c_uint, c_ulong, c_void};
use std::path::Path;

use super::cuda::kernel::{KernelArg, LaunchShape};

/// A library of kernels, open for the life of the process.
pub(crate) struct Library(*mut c_void);

// SAFETY: a handle of the loader; launches take a lock of the library's own.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

type EntryPoint =
    unsafe extern "C" fn(c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_ulong, *mut *mut c_void);

impl Library {
    pub(crate) fn open(path: &Path) -> Self {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the library was just compiled from this crate's own files.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{} does not load", path.display());
        Self(handle)
    }

    /// Lets threads and blocks take turns from the last to the first: what depends on their order
    /// shows.
    pub(crate) fn set_backwards(&self, backwards: bool) {
        // SAFETY: emulator.h defines the variable as an int.
        unsafe {
            let place = libc::dlsym(self.0, c"emulate_backwards".as_ptr()).cast::<c_int>();
            assert!(!place.is_null());
            *place = c_int::from(backwards);
        }
    }

    fn symbol(&self, kernel: &str) -> *mut c_void {
        let name = CString::new(format!("emulate_{kernel}")).unwrap();
        // SAFETY: a lookup by name.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }

    pub(crate) fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) {
        let symbol = self.symbol(kernel);
        assert!(!symbol.is_null(), "no kernel {kernel}");
        let mut addresses: Vec<*mut c_void> = args.iter().map(KernelArg::address).collect();
        let [x, y, z] = shape.grid;
        // SAFETY: the macro JOUST_KERNEL defines this signature; the arguments are the kernel's, as
        // on the GPU.
        unsafe {
            let entry: EntryPoint = std::mem::transmute(symbol);
            entry(x, y, z, shape.block, 1, 1, c_ulong::from(shape.shared), addresses.as_mut_ptr());
        }
    }
}
