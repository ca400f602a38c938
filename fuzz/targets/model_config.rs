//! Fuzz target of `joust_fuzz::model_config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::model_config::check(bytes));
