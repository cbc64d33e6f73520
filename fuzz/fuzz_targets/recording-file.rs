#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::memory::bounded(data, 1 << 20, 256, gateway_fuzz::recordings::file));
