//! Fuzz target of `joust_fuzz::answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::answer::check(bytes));
