//! Calls to a set of servers that answer JSON with JSON.
//!
//! In: a [`Call`], which makes its request body and reads the answer. Out: its reply, or a
//! [`CallError`]. A call goes to the least loaded server. The crate limits the slots in use and the
//! requests per minute of each server, retries faults with growing pauses, stops calling a server
//! that keeps failing, calls one more slowly that asks for it, and waits for servers that are gone.
//! It does not know what a call asks: no prompts, votes or verdicts.

#![forbid(unsafe_code)]

mod attempt;
mod breaker;
mod call;
mod config;
mod fleet;
mod inspection;
mod json;
mod outage;
mod pace;
mod pool;
mod server;
mod slots;
mod throttle;

pub use call::{BadAnswer, Call, CallError, Exhausted, Finished};
pub use config::{FleetConfig, MAX_TEXT_BYTES, OddNumbers};
pub use fleet::Fleet;
pub use inspection::{Inspected, InspectionError, Inspector};
pub use server::{Error, RequestError, ServerClient};
