//! What all calls of the shim have in common: their outcome, and arguments in C's types.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

/// c10d's words.
pub(crate) type Words = String;

unsafe extern "C" {
    fn dist_free_message(message: *mut c_char);
}

/// What a call of the shim returned: nothing, or c10d's words, which are taken over.
pub(super) fn checked(message: *mut c_char) -> Result<(), Words> {
    let Some(message) = NonNull::new(message) else { return Ok(()) };
    // SAFETY: the shim returns null or a C string made by strdup, which is given back once.
    let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
    // SAFETY: as above.
    unsafe { dist_free_message(message.as_ptr()) };
    Err(text)
}

/// What a call of the shim made.
pub(super) fn made<T>(call: impl FnOnce(*mut *mut T) -> *mut c_char) -> Result<NonNull<T>, Words> {
    let mut out = std::ptr::null_mut();
    checked(call(&raw mut out))?;
    NonNull::new(out).ok_or_else(|| "nothing was made".to_owned())
}

/// Milliseconds for c10d, to which 0 means no limit.
pub(super) fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).clamp(1, i64::from(i32::MAX))
}

/// A text for C.
pub(super) fn c_string(text: &str) -> Result<CString, Words> {
    CString::new(text).map_err(|_| format!("`{text}` holds a zero byte"))
}

/// A number for C.
pub(super) fn c_number(number: usize) -> Result<c_int, Words> {
    c_int::try_from(number).map_err(|_| format!("{number} does not fit into a C int"))
}
