//! The bodies of the fuzz targets live with the tests of `proto-postgres` and `gateway-sql`, which replay the corpora with
//! any toolchain.
#![allow(dead_code, reason = "the pair tests use what the targets do not")]

#[path = "../../proto-postgres/tests/pair/mod.rs"]
mod pair;

pub use pair::bodies;

#[path = "../../gateway-sql/tests/shape/mod.rs"]
pub mod shape;
