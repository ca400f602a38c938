//! The only unsafe code of this crate: calls of `c10d/shim.cpp`. Each function is small and safe to
//! call, and fails with c10d's words. It knows nothing of ranks' duties or kinds of errors.

mod group;
mod store;

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

pub(crate) use group::{PendingWork, ProcessGroup};
pub(crate) use store::Store;

/// c10d's words.
pub(crate) type Words = String;

unsafe extern "C" {
    fn dist_free_message(message: *mut c_char);
    fn dist_init_logs();
    fn dist_quiet_logs(is_joining: c_int);
    #[cfg(test)]
    fn dist_nccl_constructor(of_options: c_int) -> *const c_char;
}

/// Makes libtorch's logs follow `TORCH_CPP_LOG_LEVEL`; where it is not set, libtorch logs nothing
/// until [`log_errors`].
pub(crate) fn init_logs() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: reads the environment and sets a level, which libtorch reads as a plain number.
    ONCE.call_once(|| unsafe { dist_init_logs() });
    // SAFETY: as above.
    unsafe { dist_quiet_logs(1) }
}

/// Makes libtorch log errors, where `TORCH_CPP_LOG_LEVEL` does not say otherwise.
pub(crate) fn log_errors() {
    // SAFETY: as in `init_logs`.
    unsafe { dist_quiet_logs(0) }
}

/// Mangled names of NCCL's constructors in libtorch_cuda: of its options and of its group.
#[cfg(test)]
pub(crate) fn nccl_constructors() -> [&'static str; 2] {
    [1, 0].map(|of_options| {
        // SAFETY: the function returns one of two constants, which are C strings.
        let name = unsafe { CStr::from_ptr(dist_nccl_constructor(of_options)) };
        name.to_str().expect("mangled names are ASCII. This is a bug.")
    })
}

/// What a call of the shim returned: nothing, or c10d's words, which are taken over.
fn checked(message: *mut c_char) -> Result<(), Words> {
    let Some(message) = NonNull::new(message) else { return Ok(()) };
    // SAFETY: the shim returns null or a C string made by strdup, which is given back once.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: as above.
    unsafe { dist_free_message(message.as_ptr()) };
    Err(text)
}

/// What a call of the shim made.
fn made<T>(call: impl FnOnce(*mut *mut T) -> *mut c_char) -> Result<NonNull<T>, Words> {
    let mut out = std::ptr::null_mut();
    checked(call(&raw mut out))?;
    NonNull::new(out).ok_or_else(|| "nothing was made".to_owned())
}

/// Milliseconds for c10d, to which 0 means no limit.
fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::from(i32::MAX))
}

fn c_string(text: &str) -> Result<CString, Words> {
    CString::new(text).map_err(|_| format!("`{text}` holds a zero byte"))
}

fn c_number(number: usize) -> Result<c_int, Words> {
    c_int::try_from(number).map_err(|_| format!("{number} does not fit into a C int"))
}
