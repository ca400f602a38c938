//! Config sections as data: which keys they have, and the check of a table against them.
//!
//! A config is a serde struct whose doc comments, types and bounds are read from its JSON schema.
//! Nothing here knows what a key means, or where a table was written.

pub mod check;
pub mod keys;
mod near;
pub mod problem;
