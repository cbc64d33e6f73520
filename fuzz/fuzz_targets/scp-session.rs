#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway_fuzz::memory::bounded(data, 1 << 20, 1024, gateway_fuzz::ssh::scp_session));
