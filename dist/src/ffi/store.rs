//! The store of a rendezvous: keys and values that all ranks see. Knows no process groups.

use std::ffi::{c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use super::call::{Words, c_string, checked, made, ms};

/// The shim's handle of a store.
#[repr(C)]
pub(super) struct RawStore {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn dist_store(
        host: *const c_char,
        port: u16,
        serves: c_int,
        timeout_ms: i64,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn dist_store_prefixed(
        store: *mut RawStore,
        prefix: *const c_char,
        out: *mut *mut RawStore,
    ) -> *mut c_char;
    fn dist_store_set(store: *mut RawStore, key: *const c_char) -> *mut c_char;
    fn dist_store_add(
        store: *mut RawStore,
        key: *const c_char,
        n: i64,
        out: *mut i64,
    ) -> *mut c_char;
    fn dist_store_wait(store: *mut RawStore, key: *const c_char, timeout_ms: i64) -> *mut c_char;
    fn dist_store_has(store: *mut RawStore, key: *const c_char, out: *mut c_int) -> *mut c_char;
    fn dist_store_free(store: *mut RawStore);
}

/// A store that several processes share over TCP, or the keys of one below a prefix.
pub(crate) struct Store(NonNull<RawStore>);

// SAFETY: c10d's stores lock themselves, and belong to no thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Serves a store at a port of this host.
    pub(crate) fn serve(port: u16, timeout: Duration) -> Result<Self, Words> {
        Self::open("127.0.0.1", port, true, timeout)
    }

    /// Connects to the store at an address.
    pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, Words> {
        Self::open(host, port, false, timeout)
    }

    fn open(host: &str, port: u16, serves: bool, timeout: Duration) -> Result<Self, Words> {
        let host = c_string(host)?;
        // SAFETY: the C string lives through the call.
        made(|out| unsafe {
            dist_store(host.as_ptr(), port, c_int::from(serves), ms(timeout), out)
        })
        .map(Self)
    }

    /// The keys below a prefix.
    pub(crate) fn prefixed(&self, prefix: &str) -> Result<Self, Words> {
        let prefix = c_string(prefix)?;
        // SAFETY: the store and the C string live through the call.
        made(|out| unsafe { dist_store_prefixed(self.raw(), prefix.as_ptr(), out) }).map(Self)
    }

    /// Sets a key.
    pub(crate) fn set(&self, key: &str) -> Result<(), Words> {
        let key = c_string(key)?;
        // SAFETY: the store and the C string live through the call.
        checked(unsafe { dist_store_set(self.raw(), key.as_ptr()) })
    }

    /// Adds to the number at a key and returns the sum.
    pub(crate) fn add(&self, key: &str, n: i64) -> Result<i64, Words> {
        let key = c_string(key)?;
        let mut sum = 0;
        // SAFETY: the store, the C string and the number live through the call.
        checked(unsafe { dist_store_add(self.raw(), key.as_ptr(), n, &raw mut sum) })?;
        Ok(sum)
    }

    /// Waits until a key is set.
    pub(crate) fn wait(&self, key: &str, timeout: Duration) -> Result<(), Words> {
        let key = c_string(key)?;
        // SAFETY: the store and the C string live through the call.
        checked(unsafe { dist_store_wait(self.raw(), key.as_ptr(), ms(timeout)) })
    }

    /// Whether a key is set.
    pub(crate) fn has(&self, key: &str) -> Result<bool, Words> {
        let key = c_string(key)?;
        let mut found = 0;
        // SAFETY: the store, the C string and the number live through the call.
        checked(unsafe { dist_store_has(self.raw(), key.as_ptr(), &raw mut found) })?;
        Ok(found != 0)
    }

    pub(super) fn raw(&self) -> *mut RawStore {
        self.0.as_ptr()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the handle was made by the shim and is given back once. c10d counts references,
        // so groups and prefixed stores keep what they need.
        unsafe { dist_store_free(self.raw()) }
    }
}
