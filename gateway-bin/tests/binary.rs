//! The shipped binary, run as a user runs it: configuration files, commands, signals, sockets.

#[path = "binary/config.rs"]
mod config;
#[path = "binary/policy.rs"]
mod policy;
#[path = "binary/rig.rs"]
mod rig;
#[path = "binary/serve.rs"]
mod serve;
#[path = "binary/tokens.rs"]
mod tokens;
