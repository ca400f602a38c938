//! C functions of libtorch's CUDA library, found by name: the library is loaded when the program
//! runs, not linked.

use std::ffi::{CStr, c_void};

use crate::error::Error;
use crate::ffi;

/// Address of a C function of libtorch's CUDA library.
///
/// # Errors
/// [`Error::Device`] where the library has no such function.
pub(super) fn symbol(name: &'static CStr) -> Result<*mut c_void, Error> {
    ffi::load_libtorch_cuda();
    // SAFETY: a lookup by name in the loaded libraries.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    match symbol.is_null() {
        true => Err(Error::Device(format!("libtorch has no function {name:?}; wanted 2.11"))),
        false => Ok(symbol),
    }
}

/// As [`symbol`], with one lookup per process: some functions are called several times per layer.
macro_rules! symbol_once {
    ($name:literal) => {{
        static FOUND: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        match FOUND.get() {
            Some(&found) => found as *mut std::ffi::c_void,
            None => {
                let found = $crate::ffi::cuda::libtorch::symbol($name)?;
                *FOUND.get_or_init(|| found as usize) as *mut std::ffi::c_void
            }
        }
    }};
}
pub(super) use symbol_once;

/// Turns the status of a C function into an error that names the action.
pub(super) fn check(what: &str, code: i32) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        _ => Err(Error::Device(format!("libtorch failed at {what}"))),
    }
}
