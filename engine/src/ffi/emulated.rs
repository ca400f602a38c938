//! Libraries of kernels that are compiled for the CPU, for tests: see kernels/emulator.h.

use std::ffi::{CString, c_int, c_uint, c_ulong, c_void};
use std::path::Path;

use super::cuda::kernel::{KernelArg, LaunchShape};

/// A library of kernels, open for the life of the process.
pub(crate) struct EmulatedLibrary(*mut c_void);

// SAFETY: a handle of the loader; launches take the library's own lock.
unsafe impl Send for EmulatedLibrary {}
// SAFETY: as above.
unsafe impl Sync for EmulatedLibrary {}

type EntryPoint =
    unsafe extern "C" fn(c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_ulong, *mut *mut c_void);

impl EmulatedLibrary {
    /// Loads a library.
    pub(crate) fn open(path: &Path) -> Self {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the library was just compiled from this crate's own files.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{} does not load", path.display());
        Self(handle)
    }

    /// Runs threads and thread blocks from the last to the first, which reveals kernels that depend
    /// on their order.
    pub(crate) fn set_backwards(&self, backwards: bool) {
        // SAFETY: emulator.h defines the variable as an int.
        unsafe {
            let variable = libc::dlsym(self.0, c"emulate_backwards".as_ptr()).cast::<c_int>();
            assert!(!variable.is_null());
            *variable = c_int::from(backwards);
        }
    }

    /// Address of a kernel's entry point; null for an unknown kernel.
    fn symbol(&self, kernel: &str) -> *mut c_void {
        let name = CString::new(format!("emulate_{kernel}")).unwrap();
        // SAFETY: a lookup by name.
        unsafe { libc::dlsym(self.0, name.as_ptr()) }
    }

    /// Runs a kernel and waits for it.
    pub(crate) fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) {
        let symbol = self.symbol(kernel);
        assert!(!symbol.is_null(), "no kernel {kernel}");
        let mut addresses: Vec<*mut c_void> = args.iter().map(KernelArg::address).collect();
        let [x, y, z] = shape.grid;
        // SAFETY: the macro JOUST_KERNEL defines this signature; the arguments match the kernel's
        // declaration, as on the GPU.
        unsafe {
            let entry: EntryPoint = std::mem::transmute(symbol);
            entry(x, y, z, shape.block, 1, 1, c_ulong::from(shape.shared), addresses.as_mut_ptr());
        }
    }
}
