//! The command line's side of the control plane: over the Unix socket on the host, or over the network.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use gateway_core::secret::Secret;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::export::sink::{self, Remote};

/// For one request and its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const LARGEST: usize = 64 << 20;

/// The way to a gateway.
enum Way {
    /// Its socket, on this host.
    Socket(PathBuf),
    /// Its control address.
    Net(Remote),
}

/// A gateway that runs.
pub(crate) struct Client {
    way: Way,
    token: Option<Secret>,
}

impl Client {
    /// The gateway that answers on the socket; `None`: nobody does.
    pub(crate) async fn find(path: PathBuf) -> anyhow::Result<Option<Self>> {
        match super::answers(&path).await {
            Ok(true) => Ok(Some(Self {
                way: Way::Socket(path),
                token: None,
            })),
            Ok(false) => Ok(None),
            Err(error) => Err(refused(&path, &error)),
        }
    }

    /// The gateway at `GATEWAY_URL`. A token goes over the network under TLS alone, but on loopback.
    pub(crate) fn at(url: &str, token: Secret) -> anyhow::Result<Self> {
        let wrong = "GATEWAY_URL is no address of a gateway; write it like https://gw.example:6080";
        let (tls, host, port, path) = sink::url(&format!("{}/", url.trim_end_matches('/'))).context(wrong)?;
        let loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if path != "/" {
            bail!("{wrong}: without a path");
        }
        if !tls && !loopback {
            bail!(
                "GATEWAY_URL is http:// and not on loopback: whoever listens would have your token; use https://"
            );
        }
        Ok(Self {
            way: Way::Net(Remote {
                host,
                port,
                tls,
                ca: None,
            }),
            token: Some(token),
        })
    }

    /// Acts as that token says.
    pub(crate) fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// Gets a list or a thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<T> {
        let body = self.ask(Method::GET, target, Bytes::new()).await?;
        serde_json::from_slice(&body).context("the gateway's answer is of another version")
    }

    /// Makes a thing.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        what: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = self
            .ask(Method::POST, target, serde_json::to_vec(what)?.into())
            .await?;
        serde_json::from_slice(&body).context("the gateway's answer is of another version")
    }

    /// Ends a thing.
    pub(crate) async fn delete(&self, target: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, target, Bytes::new()).await.map(drop)
    }

    async fn ask(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        match tokio::time::timeout(ANSWER, self.exchange(method, target, body)).await {
            Ok(result) => result,
            Err(_) => bail!(
                "the gateway does not answer on `{}` ({} s)",
                self.place(),
                ANSWER.as_secs()
            ),
        }
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        match &self.way {
            Way::Socket(path) => {
                let stream = UnixStream::connect(path)
                    .await
                    .map_err(|error| refused(path, &error))?;
                self.speak(stream, "gateway", method, target, body).await
            }
            Way::Net(remote) => {
                let stream = remote.connect().await.context("GATEWAY_URL")?;
                self.speak(stream, &remote.authority(), method, target, body)
                    .await
            }
        }
    }

    fn place(&self) -> String {
        match &self.way {
            Way::Socket(path) => path.display().to_string(),
            Way::Net(remote) => remote.authority(),
        }
    }

    async fn speak<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its request; what broke it is what the request fails with.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose()));
            let mut value =
                value.map_err(|_| anyhow::anyhow!("GATEWAY_TOKEN has characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the gateway's answer is cut: {error}"))?
            .to_bytes();
        connection.abort();
        if status.is_success() {
            return Ok(body);
        }
        let told = serde_json::from_slice::<Value>(&body).ok();
        match told.as_ref().and_then(|told| told.get("detail")?.as_str()) {
            Some(error) => bail!("{error}"),
            None if status == StatusCode::NOT_FOUND => bail!("the gateway that runs does not know this"),
            None => bail!("the gateway answers {status}"),
        }
    }
}

fn refused(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let shown = path.display();
    if error.kind() == ErrorKind::PermissionDenied {
        anyhow::anyhow!(
            "permission denied on `{shown}`: only the user that runs the gateway, and root, are its operator"
        )
    } else {
        anyhow::anyhow!("the control socket `{shown}` cannot be reached: {error}")
    }
}
