//! The accept loop: once, for every protocol.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::adapter::{ACCEPT_PAUSE, Connection, ProtocolAdapter, ServeError};
use crate::gateway::Gateway;
use crate::half_open::HalfOpen;
use crate::proxy::{self, Header, ProxyError, TrustedProxies};
use crate::tls::ServerTls;
use crate::transport::Transport;

/// Accepts connections for one adapter.
pub struct Listener {
    listener: TcpListener,
    adapter: Arc<dyn ProtocolAdapter>,
    gateway: Arc<Gateway>,
    tls: Arc<ServerTls>,
    half_open: HalfOpen,
    proxies: TrustedProxies,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("protocol", &self.adapter.protocol())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds. `half_open` is shared by all listeners of a gateway.
    pub async fn bind(
        address: SocketAddr,
        adapter: Arc<dyn ProtocolAdapter>,
        gateway: Arc<Gateway>,
        tls: Arc<ServerTls>,
        half_open: HalfOpen,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            listener,
            adapter,
            gateway,
            tls,
            half_open,
            proxies: TrustedProxies::default(),
        })
    }

    /// Demands a PROXY header of these peers, and believes it.
    #[must_use]
    pub fn behind(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `stop`. A connection beyond the half-open cap is closed at once: an honest client tries
    /// again, and nobody's handshake keeps others from being accepted.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => self.start(tcp, peer),
                Err(error) => {
                    tracing::warn!(%error, protocol = self.adapter.protocol(), "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn start(&self, tcp: TcpStream, peer: SocketAddr) {
        let protocol = self.adapter.protocol();
        metrics::counter!("gateway_connections_total", "protocol" => protocol).increment(1);
        // Whom a proxy passes on is known once its header is read.
        let via = self.proxies.contains(peer.ip());
        let Some(place) = self.half_open.take((!via).then(|| peer.ip())) else {
            metrics::counter!("gateway_half_open_refused_total", "protocol" => protocol).increment(1);
            return;
        };
        prepare(&tcp);
        let connection = Connection {
            transport: Transport::Tcp(tcp),
            peer,
            via: via.then_some(peer),
            gateway: self.gateway.clone(),
            tls: self.tls.clone(),
            deadline: tokio::time::Instant::now() + self.gateway.limits().login,
            half_open: Some(place),
        };
        let adapter = self.adapter.clone();
        tokio::spawn(async move {
            // A panic costs this session and no other; the scope's Drop has put its end into the trail.
            let serve = AssertUnwindSafe(serve(adapter, connection));
            match serve.catch_unwind().await {
                Ok(Ok(()) | Err(ServeError::Refused)) => {}
                Ok(Err(error)) => tracing::debug!(%peer, protocol, %error, "connection ended"),
                Err(_) => {
                    metrics::counter!("gateway_panics_total", "protocol" => protocol).increment(1);
                    tracing::error!(%peer, protocol, "a session panicked");
                }
            }
        });
    }
}

async fn serve(adapter: Arc<dyn ProtocolAdapter>, mut connection: Connection) -> Result<(), ServeError> {
    if connection.via.is_some() {
        let deadline = connection.deadline;
        let header = async {
            let header = proxy::read_header(&mut connection.transport).await;
            header.map_err(|error: ProxyError| ServeError::Client(error.to_string()))
        };
        match Connection::in_time(deadline, header).await? {
            Some(Header::Proxied(peer)) => {
                connection.peer = peer;
                let place = connection.half_open.as_mut();
                if place.is_some_and(|place| !place.name(peer.ip())) {
                    let protocol = adapter.protocol();
                    metrics::counter!("gateway_half_open_refused_total", "protocol" => protocol).increment(1);
                    return Ok(());
                }
            }
            Some(Header::Local) => {}
            // A load balancer that looks whether somebody listens.
            None => return Ok(()),
        }
    }
    adapter.serve(connection).await
}

/// No delay, and keepalive so that a peer that vanished is noticed within minutes.
pub fn prepare(tcp: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    let socket = socket2::SockRef::from(tcp);
    // Both are improvements; a socket that refuses them still works.
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_nodelay(true);
}
