//! The bodies of the fuzz targets; `fuzz/` calls them, and `fuzz_bodies.rs` replays the corpora with them.
