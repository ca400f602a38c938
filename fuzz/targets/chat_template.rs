//! Fuzz target of `joust_fuzz::chat_template`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| joust_fuzz::chat_template::check(bytes));
