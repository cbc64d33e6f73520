//! The shipped binary, run as a user runs it: configuration files, commands, signals, sockets.
//! (`cfg(test)` tells clippy that helpers are tests, too.)

#[cfg(test)]
#[path = "binary/config.rs"]
mod config;
#[cfg(test)]
#[path = "binary/policy.rs"]
mod policy;
#[cfg(test)]
#[path = "binary/rig.rs"]
mod rig;
#[cfg(test)]
#[path = "binary/serve.rs"]
mod serve;
#[cfg(test)]
#[path = "binary/tokens.rs"]
mod tokens;
