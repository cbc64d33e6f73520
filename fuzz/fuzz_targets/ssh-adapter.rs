#![no_main]

// Beside the queues, which are bounded whatever comes, one byte of a script can be sent 256 times.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    gateway_fuzz::memory::bounded(data, 64 << 20, 1024, |data| drop(gateway_fuzz::pipes::adapter(data)));
});
