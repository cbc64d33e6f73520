//! The accept loops of the control plane, with their bounds.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use gateway_control::api::{Api, Door, in_clear, through};
use gateway_core::listener::prepare;
use gateway_core::tls::{ServerTls, TlsRequire};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::host::{self, HostState};
use super::stalled::Unstalled;

/// Connections at the same time, on each of the two.
const CONNECTIONS: usize = 256;
/// Of these on TCP, from one address: a stranger alone does not keep all others out.
const OF_ONE_ADDRESS: usize = 64;
/// From accept to a whole TLS handshake, or to the first byte.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the head of a request; an idle connection is closed after it, too.
const HEAD: Duration = Duration::from_secs(15);
/// Largest head of a request.
const HEAD_BYTES: usize = 32 * 1024;
/// The wait after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);
/// What a TLS connection begins with: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The control plane on TCP.
pub(crate) struct Tcp {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    require: TlsRequire,
    router: Router,
    room: Room,
}

/// The places for connections on TCP.
#[derive(Clone)]
struct Room {
    all: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of an address, until it is dropped.
struct Place {
    room: Room,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CONNECTIONS)),
            taken: Arc::default(),
        }
    }

    /// A place for a connection from there; `None`: there is none, or the address has its share.
    fn enter(&self, peer: SocketAddr) -> Option<Place> {
        let address = peer.ip().to_canonical();
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= OF_ONE_ADDRESS {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place {
            room: self.clone(),
            address,
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl Tcp {
    /// Binds.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Arc<ServerTls>,
        require: TlsRequire,
        router: Router,
    ) -> std::io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            tls,
            require,
            router,
            room: Room::new(),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the control plane");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.room.enter(peer) else {
                continue;
            };
            prepare(&tcp);
            let clear = self.require == TlsRequire::Remote && peer.ip().to_canonical().is_loopback();
            let router = through(&self.router, Door::Net(peer));
            let (tls, stop) = (self.tls.clone(), stop.clone());
            tokio::spawn(async move {
                secure(tcp, tls, clear, router, stop).await;
                drop(place);
            });
        }
    }
}

/// Tells TLS from HTTP by the first byte, and serves. Clear HTTP is for loopback alone.
async fn secure(
    mut tcp: TcpStream,
    tls: Arc<ServerTls>,
    clear: bool,
    router: Router,
    stop: CancellationToken,
) {
    let deadline = tokio::time::Instant::now() + HANDSHAKE;
    let mut first = [0];
    let Ok(Ok(1)) = tokio::time::timeout_at(deadline, tcp.peek(&mut first)).await else {
        return;
    };
    if first == [TLS_HANDSHAKE] {
        if let Ok(Ok(stream)) = tokio::time::timeout_at(deadline, tls.accept(tcp, &[])).await {
            serve(stream, router, stop).await;
        }
    } else if clear {
        serve(tcp, in_clear(router), stop).await;
    } else {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 28\r\n\
                       Connection: close\r\n\r\nThis address speaks HTTPS.\r\n";
        // Who speaks the wrong protocol may also not listen.
        let _ = tokio::time::timeout_at(deadline, tcp.write_all(answer)).await;
    }
}

/// The control plane on the Unix socket, with the operator's routes.
pub(crate) struct Unix {
    listener: UnixListener,
    router: Router,
    room: Arc<Semaphore>,
}

impl Unix {
    /// Takes a bound socket.
    pub(crate) fn new(listener: UnixListener, api: &Api, state: Arc<HostState>) -> Self {
        Self {
            listener,
            router: api.router(host::routes(state)),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Serves until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(permit) = self.room.clone().try_acquire_owned() else {
                        continue;
                    };
                    let router = through(&self.router, Door::Host);
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        serve(stream, router, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the control socket");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection; on `stop` the request that runs is finished.
async fn serve<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(
            TokioIo::new(Unstalled::new(stream)),
            TowerToHyperService::new(router),
        );
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to the control plane ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_all_others_out() {
        let room = Room::new();
        let (stranger, person) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:1".parse().unwrap());
        let mut places: Vec<Place> = (0..CONNECTIONS).filter_map(|_| room.enter(stranger)).collect();
        assert_eq!(places.len(), OF_ONE_ADDRESS);
        assert!(
            room.enter("[::ffff:192.0.2.1]:2".parse().unwrap()).is_none(),
            "the same address"
        );
        assert!(room.enter(person).is_some());
        places.pop();
        assert!(room.enter(stranger).is_some(), "what left makes room");
        places.clear();
        assert!(room.taken.lock().is_empty(), "nothing is kept of who has left");
    }
}
