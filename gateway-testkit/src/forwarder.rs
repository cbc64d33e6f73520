//! A plain TCP forwarder: what a gateway can at best be as fast as.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards every connection that `listener` accepts to `target`, unread and unchanged, without Nagle's delay.
pub async fn forward(listener: TcpListener, target: SocketAddr) -> std::io::Result<()> {
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            let mut upstream = TcpStream::connect(target).await?;
            upstream.set_nodelay(true)?;
            copy_bidirectional(&mut client, &mut upstream).await.map(|_| ())
        });
    }
}

/// A running [`forward`] on a free port; ends when dropped. Connections that run go on to their end.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Forwarder {
    /// Starts one on 127.0.0.1, in the current runtime.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port");
        Self {
            address: listener.local_addr().expect("a bound socket has an address"),
            task: tokio::spawn(forward(listener, target)),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn both_directions_and_half_close_are_forwarded() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let forwarder = Forwarder::start(target.local_addr().unwrap()).await;
        let mut client = TcpStream::connect(forwarder.address()).await.unwrap();
        let (mut server, _) = target.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
        server.write_all(b"pong").await.unwrap();
        drop(server);
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"pong");
    }
}
