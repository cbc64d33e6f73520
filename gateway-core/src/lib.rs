//! The words, the adapter seam and the pipeline of the gateway.

pub mod adapter;
pub mod audit;
pub mod credentials;
pub mod gateway;
pub mod limits;
pub mod listener;
pub mod machine;
pub mod operation;
pub mod policy;
pub mod principal;
pub mod relay;
pub mod resource;
pub mod secret;
pub mod services;
pub mod session;
pub mod tls;
pub mod transport;
pub mod verdict;
