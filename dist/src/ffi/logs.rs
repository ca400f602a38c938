//! What libtorch logs. Knows not what.

use std::ffi::c_int;
use std::sync::Once;

unsafe extern "C" {
    fn dist_init_logs();
    fn dist_quiet_logs(is_joining: c_int);
}

/// Makes libtorch's logs follow `TORCH_CPP_LOG_LEVEL`; where it is not set, libtorch logs nothing
/// until [`log_errors`].
pub(crate) fn init_logs() {
    static ONCE: Once = Once::new();
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
