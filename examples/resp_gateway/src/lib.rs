#![doc = include_str!("../README.md")]

pub mod adapter;
pub mod commands;
pub mod session;
pub mod wire;

pub use adapter::RespAdapter;
