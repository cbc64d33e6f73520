//! The words, the adapter seam and the pipeline of the gateway.

pub mod audit;
pub mod operation;
pub mod policy;
pub mod principal;
pub mod resource;
pub mod secret;
pub mod services;
pub mod session;
pub mod verdict;
