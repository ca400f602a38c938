//! Groups of completions that arrive one request each: the terms, the state machine, and the
//! barrier that gives it a clock and the judge.

mod answers;
pub(crate) mod barrier;
mod index;
pub(crate) mod machine;
pub(crate) mod members;
mod memory;
mod question;
mod stage;
pub(crate) mod stall;
pub mod terms;
