//! Which thread the process's signal handlers run on.
//!
//! A handler runs on the stack of the thread that the signal interrupts. Matrix kernels that are
//! compiled at run time use their stack pointer for other things: a handler that runs on one of
//! their threads overwrites memory.

use std::io;

/// Signals that have handlers: those that stop a run, and the end of a child.
const HANDLED: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD];

/// [`HANDLED`] as a set.
fn handled() -> libc::sigset_t {
    // SAFETY: `sigemptyset` makes the set before a signal is added; it lives during the calls.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in HANDLED {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Changes the calling thread's mask by a set, and returns the mask of before.
fn change_mask(how: i32, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    // SAFETY: both sets live during the call, which writes the old mask.
    unsafe {
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        match libc::pthread_sigmask(how, std::ptr::from_ref(set), &raw mut before) {
            0 => Ok(before),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Makes all handlers run on a thread that does nothing else. To be called by the main thread
/// before it starts others, which inherit what it blocks.
///
/// # Errors
/// The error of the system.
pub fn confine_handlers() -> io::Result<()> {
    let thread = std::thread::Builder::new().name("handlers".to_owned());
    thread.spawn(|| {
        loop {
            std::thread::park();
        }
    })?;
    change_mask(libc::SIG_BLOCK, &handled()).map(drop)
}

/// Runs `start`, which starts a child process: a child inherits what its parent's thread blocks,
/// and has to be stopped by signals. The calling thread must not compute meanwhile.
///
/// # Errors
/// The error of `start`, or of the system.
pub fn unblocked<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = change_mask(libc::SIG_UNBLOCK, &handled())?;
    let started = start();
    change_mask(libc::SIG_SETMASK, &before)?;
    started
}
