//! How targets are reached.

use std::io;

use async_trait::async_trait;
use gateway_core::transport::Transport;
use tokio::net::TcpStream;

/// Reaches targets, for an adapter that is embedded where TCP to their address is not the way
/// ([`SshAdapter::dialling`](crate::SshAdapter::dialling)). Whoever answers must still show the pinned host key.
#[async_trait]
pub trait Dial: Send + Sync {
    /// A connection to the address of a resource. It may take as long as `limits.connect` says.
    ///
    /// # Errors
    ///
    /// Nobody answers there.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Transport>;
}

/// What a gateway does by itself.
#[derive(Debug)]
pub(crate) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Transport> {
        let tcp = TcpStream::connect((host, port)).await?;
        gateway_core::listener::prepare(&tcp);
        Ok(Transport::Tcp(tcp))
    }
}
