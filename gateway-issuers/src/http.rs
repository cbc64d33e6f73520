//! One HTTP request: over one connection, no redirect followed, no proxy asked, everything bounded. What is sent and received is
//! wiped, as far as it is in our hands.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::tls::{ClientTls, TargetTls, TlsError};
use gateway_core::transport::Transport;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::{Host, Url};
use zeroize::Zeroizing;

/// For a whole exchange, unless the caller says less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of an answer, in bytes.
const ANSWER: usize = 1 << 20;
/// The largest head of an answer, in bytes.
const HEAD: usize = 32 * 1024;
/// The most header lines of an answer.
const HEADERS: usize = 100;
/// The longest address, in bytes.
const URL: usize = 2048;

/// The addresses of the metadata service.
#[cfg(feature = "iam")]
const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

/// Why an address is none that can be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadAddress {
    /// It can't be read.
    #[error("must be an address such as https://vault.example:8200, without a user name, `?` and `#`")]
    Form,
    /// In clear over a network.
    #[error(
        "must begin with `https://`: what is asked for are secrets; `http://` is for this host alone (127.0.0.1, [::1], localhost)"
    )]
    Plain,
    /// A CA that nothing is done with.
    #[error("there is no TLS on an `http://` address, so `ca` does nothing")]
    CaUnused,
    /// Its CA can't be read.
    #[error("`ca`: {0}")]
    Ca(#[from] TlsError),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody there, or no trust.
    #[error("`{0}` can't be reached: {1}")]
    Connect(String, String),
    /// Too slow.
    #[error("`{0}` gave no answer within {1:?}")]
    TooSlow(String, Duration),
    /// It broke off, or speaks something else.
    #[error("`{0}`: {1}")]
    Http(String, String),
    /// It answers more than anybody would.
    #[error("`{0}` answers more than {ANSWER} bytes")]
    TooLong(String),
}

/// Who may be reached without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Loopback,
    /// This host's own metadata service, which is reached over no network that others are on.
    #[cfg(feature = "iam")]
    Metadata,
}

/// An address that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    host: String,
    port: u16,
    authority: String,
    /// The path that all requests begin with, without a slash behind it.
    base: String,
    tls: Option<ClientTls>,
    plain: Plain,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query, with a slash before it.
    pub(crate) path: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What is sent, and its type.
    pub(crate) body: Option<(Zeroizing<Vec<u8>>, &'static str)>,
    pub(crate) within: Duration,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A header whose value is a secret; `None`: no header can have it.
pub(crate) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A text as one part of a path or a query (RFC 3986, section 2.3: all but the unreserved characters).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Place {
    /// Checks an address, and reads the CA.
    pub(crate) fn new(text: &str, ca: Option<&Path>) -> Result<Self, BadAddress> {
        let wild = |c: char| c.is_control() || c.is_whitespace();
        if text.len() > URL || text.contains(wild) || text.contains(['?', '#']) {
            return Err(BadAddress::Form);
        }
        let url = Url::parse(text).map_err(|_| BadAddress::Form)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadAddress::Form);
        }
        let (host, loopback) = match url.host().ok_or(BadAddress::Form)? {
            Host::Domain(name) => (name.to_owned(), name == "localhost"),
            Host::Ipv4(ip) => (ip.to_string(), ip.is_loopback()),
            Host::Ipv6(ip) => (ip.to_string(), ip.is_loopback()),
        };
        let tls = match (url.scheme(), ca) {
            ("https", ca) => Some(ClientTls::new(TargetTls {
                ca,
                ..TargetTls::default()
            })?),
            ("http", _) if !loopback => return Err(BadAddress::Plain),
            ("http", Some(_)) => return Err(BadAddress::CaUnused),
            ("http", None) => None,
            _ => return Err(BadAddress::Form),
        };
        let named = url.host_str().unwrap_or_default();
        Ok(Self {
            authority: match url.port() {
                Some(port) => format!("{named}:{port}"),
                None => named.to_owned(),
            },
            port: url.port_or_known_default().ok_or(BadAddress::Form)?,
            base: url.path().trim_end_matches('/').to_owned(),
            host,
            tls,
            plain: Plain::Loopback,
        })
    }

    /// The metadata service of an AWS instance, or what stands for it on this host.
    #[cfg(feature = "iam")]
    pub(crate) fn metadata(text: &str) -> Result<Self, BadAddress> {
        let url = Url::parse(text).map_err(|_| BadAddress::Form)?;
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if url.scheme() != "http" || !METADATA.contains(&host) {
            return Self::new(text, None);
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port_or_known_default().ok_or(BadAddress::Form)?,
            authority: url.authority().to_owned(),
            base: String::new(),
            tls: None,
            plain: Plain::Metadata,
        })
    }

    /// One request, and all of its answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, HttpError> {
        let within = ask.within;
        match tokio::time::timeout(within, self.exchange(ask)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::TooSlow(self.authority.clone(), within)),
        }
    }

    async fn connect(&self) -> Result<Transport, HttpError> {
        let failed = |why: String| HttpError::Connect(self.authority.clone(), why);
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| failed(e.to_string()))?;
        let Some(tls) = &self.tls else {
            let peer = tcp.peer_addr().map_err(|e| failed(e.to_string()))?.ip();
            let there = match self.plain {
                Plain::Loopback => peer.to_canonical().is_loopback(),
                #[cfg(feature = "iam")]
                Plain::Metadata => METADATA.iter().any(|ip| peer.to_string() == *ip),
            };
            // Whatever the resolver says.
            return match there {
                true => Ok(Transport::Tcp(tcp)),
                false => Err(failed(
                    "plain HTTP is for this host, and its name leads elsewhere".to_owned(),
                )),
            };
        };
        tls.connect(&self.host, tcp)
            .await
            .map_err(|e| failed(e.to_string()))
    }

    async fn exchange(&self, ask: Ask) -> Result<Answer, HttpError> {
        let failed = |why: String| HttpError::Http(self.authority.clone(), why);
        let transport = self.connect().await?;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.base, ask.path))
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close");
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        let body = match ask.body {
            None => Bytes::new(),
            Some((body, kind)) => {
                request = request.header(CONTENT_TYPE, kind);
                // Wiped when it is sent.
                Bytes::from_owner(body)
            }
        };
        let request = request.body(Full::new(body)).map_err(|e| failed(e.to_string()))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_header_size(HEAD)
            .max_headers(HEADERS)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(|e| failed(e.to_string()))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| failed(e.to_string()))?;
            let status = response.status().as_u16();
            let mut stream = response.into_body();
            let mut body = Zeroizing::new(Vec::new());
            while let Some(frame) = stream.frame().await {
                let frame = frame.map_err(|e| failed(e.to_string()))?;
                let Some(data) = frame.data_ref() else { continue };
                let size = body.len().saturating_add(data.len());
                if size > ANSWER {
                    return Err(HttpError::TooLong(self.authority.clone()));
                }
                if size > body.capacity() {
                    // By hand: a vector that grows by itself leaves copies behind that nobody wipes.
                    let mut larger = Zeroizing::new(Vec::with_capacity(size.saturating_mul(2).max(4096)));
                    larger.extend_from_slice(&body);
                    body = larger;
                }
                body.extend_from_slice(data);
            }
            Ok(Answer { status, body })
        };
        let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
        tokio::select! {
            answer = &mut answer => answer,
            // The connection is done once its last bytes are read; they may still wait to be taken.
            _ = &mut connection => answer.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn secrets_are_asked_for_over_tls_or_on_this_host() {
        for good in [
            "https://vault.example:8200",
            "https://vault.example/base/",
            "http://127.0.0.1:8200",
            "http://[::1]:8200",
            "http://localhost",
        ] {
            assert!(Place::new(good, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "vault.example",
            "http://vault.example:8200",
            "http://10.0.0.1",
            "http://127.0.0.1.evil.example",
            "http://0.0.0.0:8200",
            "ftp://127.0.0.1",
            "https://",
            "https://u@vault.example",
            "https://u:p@vault.example",
            "https://vault.example/?a=b",
            "https://vault.example/#a",
            "https://vault.example/ a",
            "https://vault.example/\n",
            &format!("https://vault.example/{}", "a".repeat(URL)),
        ] {
            assert!(Place::new(bad, None).is_err(), "{bad}");
        }
        assert!(matches!(
            Place::new("http://127.0.0.1", Some(Path::new("x"))),
            Err(BadAddress::CaUnused)
        ));
    }

    #[test]
    fn a_part_of_a_path_stays_one_part() {
        assert_eq!(
            encoded("a/b?c=1&d#e%\u{e9} ~x-1._"),
            "a%2Fb%3Fc%3D1%26d%23e%25%C3%A9%20~x-1._"
        );
    }

    fn get() -> Ask {
        Ask {
            method: Method::GET,
            path: "/v1/x".to_owned(),
            headers: Vec::new(),
            body: None,
            within: Duration::from_millis(500),
        }
    }

    async fn answered(bytes: Vec<u8>, hold: bool) -> Result<Answer, HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut scratch = [0; 4096];
            let _ = stream.read(&mut scratch).await;
            let _ = stream.write_all(&bytes).await;
            if hold {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let answer = Place::new(&format!("http://{address}/base/"), None)
            .unwrap()
            .ask(get())
            .await;
        server.abort();
        answer
    }

    #[tokio::test]
    async fn an_answer_is_bounded_in_time_and_size() {
        let whole = answered(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\n{}".to_vec(), false)
            .await
            .unwrap();
        assert_eq!((whole.status, whole.body.as_slice()), (403, &b"{}"[..]));
        assert!(matches!(
            answered(Vec::new(), true).await,
            Err(HttpError::TooSlow(..))
        ));
        assert!(answered(Vec::new(), false).await.is_err());
        assert!(
            answered(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec(), false)
                .await
                .is_err()
        );
        let mut long = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        long.resize(long.len() + ANSWER + 1, b' ');
        assert!(matches!(answered(long, false).await, Err(HttpError::TooLong(_))));
        let mut head = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
        head.resize(HEAD * 2, b'a');
        assert!(answered(head, false).await.is_err());
    }
}
