//! How `object_store` reaches a server: over our own TLS, one connection a request, and in clear only where that is said.

use std::time::Duration;

use async_trait::async_trait;
use gateway_core::tls::ClientTls;
use gateway_core::transport::Transport;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use tokio::net::TcpStream;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// From the first byte of a request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(120);
/// The largest head of an answer, in bytes.
const HEAD: usize = 64 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tls: ClientTls,
    plain: bool,
}

/// What went wrong, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Why(String);

fn failed(kind: HttpErrorKind, why: impl Into<String>) -> HttpError {
    HttpError::new(kind, Why(why.into()))
}

fn of_hyper(error: hyper::Error) -> HttpError {
    let kind = match error.is_timeout() {
        true => HttpErrorKind::Timeout,
        false => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error)
}

impl Connector {
    pub(crate) fn new(tls: ClientTls, plain: bool) -> Self {
        Self { tls, plain }
    }

    async fn connect(&self, uri: &Uri) -> Result<Transport, HttpError> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.plain => false,
            _ => return Err(failed(HttpErrorKind::Unknown, "only `https://` is asked")),
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let connecting = async {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            match tls {
                true => self.tls.connect(host, tcp).await,
                false => Ok(Transport::Tcp(tcp)),
            }
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => Err(failed(
                HttpErrorKind::Connect,
                format!("`{host}:{port}` can't be reached: {error}"),
            )),
            Err(_) => Err(failed(
                HttpErrorKind::Connect,
                format!("`{host}:{port}` gave no answer within {CONNECT:?}"),
            )),
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        let odd = |why: &str| failed(HttpErrorKind::Unknown, why);
        let transport = self.connect(&parts.uri).await?;
        let authority = parts
            .uri
            .authority()
            .ok_or_else(|| odd("an address without a host"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| odd("a host that is none"))?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| odd("a path that is none"))?;
        parts.headers.entry(HOST).or_insert(host);
        parts
            .headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
        parts.headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("gateway/", env!("CARGO_PKG_VERSION"))),
        );
        let exchange = async {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD)
                .handshake(TokioIo::new(transport))
                .await
                .map_err(of_hyper)?;
            // It ends with the answer's body, or when that is dropped.
            tokio::spawn(connection);
            let answer = sender.send_request(Request::from_parts(parts, body)).await;
            answer.map_err(of_hyper)
        };
        let answer = tokio::time::timeout(ANSWER, exchange)
            .await
            .map_err(|_| failed(HttpErrorKind::Timeout, format!("no answer within {ANSWER:?}")))?;
        Ok(answer?.map(|body| HttpResponseBody::new(body.map_err(of_hyper))))
    }
}
