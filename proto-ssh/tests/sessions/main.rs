//! Whole sessions, with russh on both sides.

mod login;
mod pump;
mod requests;
mod world;
