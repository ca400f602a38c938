//! Settings of a fleet.
//!
//! Plain values. The crate that owns the config section names the keys and checks the bounds.

use std::time::Duration;

/// The servers of a fleet and the limits on calls to them.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Base address of each server, at least one.
    pub urls: Vec<String>,
    /// Path of a call, below the base address.
    pub path: String,
    /// Headers that are sent with each request, by name.
    pub headers: Vec<(String, String)>,
    /// Maximum number of slots in use at each server, at least 1.
    pub concurrency: usize,
    /// Maximum number of calls that start at each server in any minute, retries included; 0 sets no
    /// limit.
    pub requests_per_minute: u32,
    /// Maximum time of one call, its whole response included.
    pub timeout: Duration,
    /// Maximum size of an answer, in bytes.
    pub max_answer_bytes: usize,
    /// Maximum number of attempts of a call, the first included; at least 1.
    pub tries: u32,
    /// Time for which calls wait for servers that are gone, all of them: attempts in this time do
    /// not count. Zero: they count.
    pub outage: Duration,
    /// Time for which a call waits after a server first asked it to call more slowly: attempts that
    /// such an answer ends do not count in this time. Zero: they count.
    pub busy: Duration,
    /// What numbers in answers mean that JSON does not have.
    pub odd_numbers: OddNumbers,
}

/// Size of an answer that is enough for texts: the longest thoughts of many samples take a few MiB.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// What `NaN`, `Infinity` and `-Infinity` in an answer mean, which Python writes and JSON does not
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddNumbers {
    /// They are null.
    Null,
    /// They make it no JSON, so that it is no answer.
    Refused,
}
