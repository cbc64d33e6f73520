#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::memory::bounded(data, 64 << 10, 64, gateway_fuzz::recordings::line));
