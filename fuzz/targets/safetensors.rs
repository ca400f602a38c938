//! Fuzz target of `joust_fuzz::safetensors`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::safetensors::check(bytes));
