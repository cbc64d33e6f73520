//! One POST to a receiver outside: to addresses that are allowed, no redirect followed, no proxy asked, within bounds.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::tls::{ClientTls, TargetTls};
use gateway_core::transport::Transport;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::{Host, Url};

use super::address::is_public;

/// For one attempt, from the name's addresses to the end of the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// For one of several addresses.
const CONNECT: Duration = Duration::from_secs(4);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// The most that is read of an answer.
const ANSWER: usize = 64 * 1024;
/// Longest address.
const URL: usize = 2048;

/// Where messages are sent to.
#[derive(Debug, Clone)]
pub struct Place {
    host: String,
    port: u16,
    tls: Option<ClientTls>,
    /// Path and query.
    path: String,
    authority: String,
    private: bool,
}

/// Why an address is none that messages can be sent to.
#[derive(Debug, thiserror::Error)]
pub enum BadPlace {
    /// It can't be read.
    #[error("must be an address such as https://hooks.example/gateway, without a user name and without `#`")]
    Form,
    /// Its scheme is another one.
    #[error(
        "must begin with `https://`; `http://` is taken where `allow_private = true`, for receivers in one's own network"
    )]
    Scheme,
    /// It is of one's own network.
    #[error("is an address that is not public; `allow_private = true` permits it")]
    Private,
    /// A CA that nothing is done with.
    #[error("there is no TLS on an `http://` address, so `ca` does nothing")]
    CaUnused,
    /// Its CA can't be read.
    #[error("`ca`: {0}")]
    Ca(#[from] gateway_core::tls::TlsError),
}

impl Place {
    /// Checks an address, and reads the CA. With `private` it may be in one's own network, and without TLS.
    ///
    /// # Errors
    ///
    /// [`BadPlace`] says what is wrong; not even a part of the address is repeated.
    pub fn new(url: &str, private: bool, ca: Option<&Path>) -> Result<Self, BadPlace> {
        let parsed = checked(url, private)?;
        let secure = parsed.scheme() == "https";
        let tls = match (secure, ca) {
            (true, ca) => Some(ClientTls::new(TargetTls {
                ca,
                ..TargetTls::default()
            })?),
            (false, Some(_)) => return Err(BadPlace::CaUnused),
            (false, None) => None,
        };
        let host = match parsed.host().ok_or(BadPlace::Form)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = parsed.port_or_known_default().ok_or(BadPlace::Form)?;
        let named = parsed.host_str().unwrap_or_default();
        Ok(Self {
            authority: match parsed.port() {
                Some(port) => format!("{named}:{port}"),
                None => named.to_owned(),
            },
            path: match parsed.query() {
                Some(query) => format!("{}?{query}", parsed.path()),
                None => parsed.path().to_owned(),
            },
            host,
            port,
            tls,
            private,
        })
    }

    /// Checks an address alone.
    ///
    /// # Errors
    ///
    /// As [`Place::new`].
    pub fn check(url: &str, private: bool) -> Result<(), BadPlace> {
        checked(url, private).map(drop)
    }

    /// The host's name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends `body` and gives what is answered.
    pub(super) async fn post(
        &self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Answered, NotSent> {
        match tokio::time::timeout(PATIENCE, self.exchange(headers, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(NotSent::TooSlow),
        }
    }

    async fn exchange(
        &self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<Answered, NotSent> {
        let stream = self.connect().await?;
        let mut request = Request::post(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header(header::CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| NotSent::Http(error.to_string()))?;
        let failed = |error: hyper::Error| NotSent::Http(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(ANSWER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with this call, also where nobody waits for it any more.
        let mut connection = tokio::task::JoinSet::from_iter([connection]);
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        // What is too long, or breaks off, is as good as nothing: the status counts.
        let body = Limited::new(response.into_body(), ANSWER).collect().await;
        connection.abort_all();
        Ok(Answered {
            status,
            retry_after,
            body: body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
        })
    }

    /// To the first of its addresses that is allowed and answers.
    async fn connect(&self) -> Result<Transport, NotSent> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(NotSent::Name)?;
        let found: Vec<SocketAddr> = found.collect();
        let allowed: Vec<SocketAddr> = found
            .iter()
            .copied()
            .filter(|address| self.private || is_public(address.ip()))
            .take(ADDRESSES)
            .collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(NotSent::Private);
        }
        let mut last = None;
        for address in allowed {
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    let tcp = self.secured(tcp).await;
                    return tcp.map_err(NotSent::Connection);
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
        }
        Err(NotSent::Connection(
            last.unwrap_or_else(|| io::ErrorKind::NotFound.into()),
        ))
    }

    async fn secured(&self, tcp: TcpStream) -> io::Result<Transport> {
        tcp.set_nodelay(true)?;
        match &self.tls {
            Some(tls) => tls.connect(&self.host, tcp).await,
            None => Ok(Transport::Tcp(tcp)),
        }
    }
}

fn checked(text: &str, private: bool) -> Result<Url, BadPlace> {
    if text.len() > URL {
        return Err(BadPlace::Form);
    }
    let url: Url = text.parse().map_err(|_| BadPlace::Form)?;
    match url.scheme() {
        "https" => {}
        "http" if private => {}
        _ => return Err(BadPlace::Scheme),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(BadPlace::Form);
    }
    let address = match url.host().ok_or(BadPlace::Form)? {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    };
    if !private && address.is_some_and(|address| !is_public(address)) {
        return Err(BadPlace::Private);
    }
    Ok(url)
}

/// What a receiver answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// After how long it wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// At most 64 KiB; nothing where it is longer.
    pub(super) body: Bytes,
}

/// Why nothing was answered. None of these repeats what was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    #[error("its name has no address: {0}")]
    Name(io::Error),
    #[error("its name has only addresses that are not public; `allow_private = true` permits them")]
    Private,
    #[error("it cannot be reached: {0}")]
    Connection(io::Error),
    #[error("it does not answer within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("it does not speak HTTP as it should: {0}")]
    Http(String),
}
