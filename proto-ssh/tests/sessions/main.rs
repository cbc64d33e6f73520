//! Whole sessions, with russh on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "helpers of tests, which fail by panics"
)]

mod certificates;
mod endings;
mod journal;
mod keys;
mod login;
mod pump;
mod requests;
mod sockets;
mod sshd;
mod world;
