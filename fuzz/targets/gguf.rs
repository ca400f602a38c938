//! Fuzz target of `joust_fuzz::gguf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::gguf::check(bytes));
