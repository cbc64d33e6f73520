//! A byte stream to a peer: TCP, TLS over it, or anything else that reads and writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::server_end_point;

/// What can carry a session.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream to a peer.
pub enum Transport {
    /// Clear TCP.
    Tcp(TcpStream),
    /// TLS that the peer opened.
    ServerTls {
        /// The stream.
        stream: Box<tokio_rustls::server::TlsStream<TcpStream>>,
        /// `tls-server-end-point` of the certificate that was shown on it.
        end_point: Option<Arc<[u8]>>,
    },
    /// TLS that we opened.
    ClientTls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// Anything else: pipes in tests, streams of an embedder.
    Other(Box<dyn Stream>),
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::ServerTls { .. } => "ServerTls",
            Self::ClientTls(_) => "ClientTls",
            Self::Other(_) => "Other",
        })
    }
}

impl Transport {
    /// Whether what it carries is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::ServerTls { .. } | Self::ClientTls(_))
    }

    /// The application protocol that both sides agreed upon in their TLS handshake.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::ServerTls { stream, .. } => stream.get_ref().1.alpn_protocol(),
            Self::ClientTls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Other(_) => None,
        }
    }

    /// `tls-server-end-point` of this connection: what a login on it can be bound to. `None` without TLS, and for a
    /// certificate whose signature has no hash for it ([`server_end_point`]).
    pub fn tls_server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::ServerTls { end_point, .. } => end_point.as_deref().map(<[u8]>::to_vec),
            Self::ClientTls(stream) => {
                let shown = stream.get_ref().1.peer_certificates()?;
                server_end_point(shown.first()?)
            }
            Self::Tcp(_) | Self::Other(_) => None,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::ServerTls { stream, .. } => Pin::new(stream).poll_read(cx, buf),
            Self::ClientTls(s) => Pin::new(s).poll_read(cx, buf),
            Self::Other(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::ServerTls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
            Self::ClientTls(s) => Pin::new(s).poll_write(cx, buf),
            Self::Other(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::ServerTls { stream, .. } => Pin::new(stream).poll_flush(cx),
            Self::ClientTls(s) => Pin::new(s).poll_flush(cx),
            Self::Other(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::ServerTls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Self::ClientTls(s) => Pin::new(s).poll_shutdown(cx),
            Self::Other(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
