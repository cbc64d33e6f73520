//! The bodies of the fuzz targets live with the tests of `gateway-core`, `proto-postgres`, `proto-ssh`, `gateway-sql` and
//! `gateway-bin`, which replay the corpora with any toolchain. Here is what those can't have: an allocator that counts.
#![allow(dead_code, reason = "the pair tests use what the targets do not")]

#[path = "../../gateway-bin/tests/config_text/mod.rs"]
pub mod config_text;
#[path = "../../gateway-core/tests/masks/mod.rs"]
pub mod masks;
pub mod memory;
#[path = "../../proto-postgres/tests/pair/mod.rs"]
mod pair;
#[path = "../../proto-ssh/tests/pipes/mod.rs"]
pub mod pipes;
#[path = "../../gateway-core/tests/recordings/mod.rs"]
pub mod recordings;
#[path = "../../gateway-sql/tests/shape/mod.rs"]
pub mod shape;
#[path = "../../proto-ssh/tests/bodies/mod.rs"]
pub mod ssh;

pub use pair::bodies;
