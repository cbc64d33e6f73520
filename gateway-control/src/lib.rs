#![doc = include_str!("../README.md")]

pub mod approvals;
#[cfg(feature = "database")]
pub mod database;
