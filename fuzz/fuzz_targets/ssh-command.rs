#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::memory::bounded(data, 4 << 20, 4096, gateway_fuzz::ssh::command));
