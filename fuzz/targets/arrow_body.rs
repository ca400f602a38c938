//! Fuzz target of the server's Arrow bodies: `joust_fuzz::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::request::check_arrow(bytes));
