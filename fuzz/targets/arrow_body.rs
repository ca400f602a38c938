//! Fuzz target of the server's Arrow bodies: `joust_fuzz::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(
    // The program catches panics of the Arrow decoder; the fuzzer's hook would end the process
    // before. Panics that nobody catches still end it.
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |bytes: &[u8]| joust_fuzz::request::check_arrow(bytes)
);
