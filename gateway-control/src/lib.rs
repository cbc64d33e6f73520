#![doc = include_str!("../README.md")]

pub mod api;
pub mod approvals;
mod asked;
#[cfg(feature = "console")]
pub mod console;
#[cfg(feature = "database")]
pub mod database;
pub mod live;
pub mod notify;
pub mod screen;
mod visible;
