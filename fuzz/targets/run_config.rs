//! Fuzz target of `joust_fuzz::run_config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::run_config::check(bytes));
