//! Fuzz target of `joust_fuzz::verdict`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::verdict::check(bytes));
