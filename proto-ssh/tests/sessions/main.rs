//! Whole sessions, with russh on both sides.

mod certificates;
mod journal;
mod login;
mod pump;
mod requests;
mod sshd;
mod world;
