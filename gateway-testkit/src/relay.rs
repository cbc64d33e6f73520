//! Relays that cut and delay what they carry, for everything that must not depend on how bytes arrive.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How one direction is carried.
#[derive(Debug, Clone)]
struct Manner {
    /// Sizes of the pieces, again from the start after the last; a piece may end early where no more has come.
    sizes: Vec<usize>,
    /// The wait after each piece, so that it is a packet of its own.
    pause: Duration,
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, manner: Manner) -> std::io::Result<()> {
    for size in manner.sizes.iter().copied().cycle() {
        let mut piece = vec![0; size.max(1)];
        let got = from.read(&mut piece).await?;
        if got == 0 {
            break;
        }
        to.write_all(&piece[..got]).await?;
        tokio::time::sleep(manner.pause).await;
    }
    to.shutdown().await
}

async fn accept(listener: TcpListener, target: SocketAddr, manner: Manner) -> std::io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let upstream = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        upstream.set_nodelay(true)?;
        let (client_read, client_write) = client.into_split();
        let (upstream_read, upstream_write) = upstream.into_split();
        tokio::spawn(carry(client_read, upstream_write, manner.clone()));
        tokio::spawn(carry(upstream_read, client_write, manner.clone()));
    }
}

async fn start(target: SocketAddr, manner: Manner) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    assert!(!manner.sizes.is_empty(), "a relay needs at least one size");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    (address, tokio::spawn(accept(listener, target, manner)))
}

/// Carries both directions in pieces of given sizes, each a packet of its own as far as TCP lets one say that.
#[derive(Debug)]
pub struct ChunkingRelay {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl ChunkingRelay {
    /// Starts one on 127.0.0.1. `sizes` is used from its start again after its last; `[1]` is byte by byte.
    pub async fn start(target: SocketAddr, sizes: &[usize]) -> Self {
        let manner = Manner {
            sizes: sizes.to_vec(),
            pause: Duration::from_micros(200),
        };
        let (address, task) = start(target, manner).await;
        Self { address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ChunkingRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries both directions whole, and waits after each read: a slow network.
#[derive(Debug)]
pub struct DelayingRelay {
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl DelayingRelay {
    /// Starts one on 127.0.0.1.
    pub async fn start(target: SocketAddr, delay: Duration) -> Self {
        let manner = Manner {
            sizes: vec![64 * 1024],
            pause: delay,
        };
        let (address, task) = start(target, manner).await;
        Self { address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DelayingRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bytes_arrive_in_order_in_pieces_no_larger_than_told() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = ChunkingRelay::start(target.local_addr().unwrap(), &[1, 3, 2]).await;
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        let (mut server, _) = target.accept().await.unwrap();
        client.write_all(b"a message of some length").await.unwrap();
        client.shutdown().await.unwrap();
        let mut first = [0; 64];
        assert_eq!(server.read(&mut first).await.unwrap(), 1);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b" message of some length");
    }

    #[tokio::test]
    async fn a_delay_delays_and_changes_nothing() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = DelayingRelay::start(target.local_addr().unwrap(), Duration::from_millis(5)).await;
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        let (mut server, _) = target.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        drop(client);
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
    }
}
