//! The command line's side of the control plane: over the Unix socket on the host, or over the network.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use gateway_core::secret::Secret;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::commands::tables::plain;
use crate::export::sink::{self, Remote};

/// For one request and its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const LARGEST: usize = 64 << 20;
/// Largest thing that is taken in parts.
const LARGEST_DOWNLOAD: usize = 2 << 30;
/// Largest event of a stream.
const LARGEST_EVENT: usize = 8 << 20;
/// A stream in which nothing comes for so long is broken.
const SILENCE: Duration = Duration::from_secs(60);
/// Items of a page.
const PAGE: usize = 1000;

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

    /// The gateway at that address, whose certificate is signed by those of the file `ca` (`None`: by one that the system
    /// trusts). A token goes over the network under TLS alone, but on loopback.
    pub(crate) fn at(url: &str, token: Secret, ca: Option<PathBuf>) -> anyhow::Result<Self> {
        let wrong = "GATEWAY_URL is no address of a gateway; write it like https://gw.example:6080";
        let (tls, host, port, path) = sink::url(&format!("{}/", url.trim_end_matches('/'))).context(wrong)?;
        if path != "/" {
            bail!("{wrong}: without a path");
        }
        if !tls && !is_loopback(&host) {
            bail!(
                "GATEWAY_URL is http:// and not on loopback: whoever listens would have your token; use https://"
            );
        }
        Ok(Self {
            way: Way::Net(Remote { host, port, tls, ca }),
            token: Some(token),
        })
    }

    /// The gateway's host, where it is reached over the network; `None`: it is this one.
    pub(crate) fn host(&self) -> Option<&str> {
        match &self.way {
            Way::Socket(_) => None,
            Way::Net(remote) => Some(&remote.host),
        }
    }

    /// The data directory, where this is its operator's way.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        match &self.way {
            Way::Socket(path) if self.token.is_none() => path.parent().map(Path::to_owned),
            _ => None,
        }
    }

    /// The token that it acts as.
    pub(crate) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// Acts as that token says.
    pub(crate) fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// Gets a thing.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &str) -> anyhow::Result<T> {
        let answer = self.ask(Method::GET, target, Bytes::new()).await?;
        read(&answer.body)
    }

    /// Gets at most `limit` items of a list, page by page.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        target: &str,
        limit: usize,
    ) -> anyhow::Result<Vec<T>> {
        let joint = if target.contains('?') { '&' } else { '?' };
        let page = limit.clamp(1, PAGE);
        let mut next = (limit > 0).then(|| format!("{target}{joint}limit={page}"));
        let mut items: Vec<T> = Vec::new();
        while let Some(target) = next {
            let answer = self.ask(Method::GET, &target, Bytes::new()).await?;
            let page: Vec<T> = read(&answer.body)?;
            let empty = page.is_empty();
            items.extend(page);
            next = answer.next.filter(|_| !empty && items.len() < limit);
        }
        items.truncate(limit);
        Ok(items)
    }

    /// Gets at most `limit` items of a list whose pages are newest last and lead backwards; newest last.
    pub(crate) async fn newest(&self, target: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
        let joint = if target.contains('?') { '&' } else { '?' };
        let page = limit.clamp(1, PAGE);
        let mut next = (limit > 0).then(|| format!("{target}{joint}limit={page}"));
        let mut items: VecDeque<Value> = VecDeque::new();
        while let Some(target) = next {
            let answer = self.ask(Method::GET, &target, Bytes::new()).await?;
            let page: Vec<Value> = read(&answer.body)?;
            let empty = page.is_empty();
            for item in page.into_iter().rev() {
                items.push_front(item);
            }
            next = answer.next.filter(|_| !empty && items.len() < limit);
        }
        let more = items.len().saturating_sub(limit);
        items.drain(..more);
        Ok(items.into())
    }

    /// Makes a thing.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        what: &impl Serialize,
    ) -> anyhow::Result<T> {
        let answer = self
            .ask(Method::POST, target, serde_json::to_vec(what)?.into())
            .await?;
        read(&answer.body)
    }

    /// Ends a thing.
    pub(crate) async fn delete(&self, target: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, target, Bytes::new()).await.map(drop)
    }

    /// Reads server-sent events until the stream ends; `take` gets each with its name.
    pub(crate) async fn events(
        &self,
        target: &str,
        mut take: impl FnMut(&str, Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let late = || anyhow::anyhow!("the gateway at `{}` has fallen silent", self.place());
        let opened = self.open(Method::GET, target, Bytes::new());
        let (answer, _connection) = tokio::time::timeout(ANSWER, opened).await.map_err(|_| late())??;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let mut body = answer.into_body();
        let mut text = Vec::new();
        // The gateway sends something from time to time, also where nothing happens.
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame())
            .await
            .map_err(|_| late())?
        {
            let Ok(bytes) = frame.context("the stream is cut")?.into_data() else {
                continue;
            };
            text.extend_from_slice(&bytes);
            if text.len() > LARGEST_EVENT {
                bail!("the gateway sends an event that is too large");
            }
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end.saturating_add(2)).collect();
                let event = String::from_utf8_lossy(&event);
                let (mut name, mut data) = ("", String::new());
                for line in event.lines() {
                    if let Some(value) = line.strip_prefix("event:") {
                        name = value.trim_start();
                    } else if let Some(value) = line.strip_prefix("data:") {
                        data.push_str(value.trim_start());
                    }
                }
                if !name.is_empty() {
                    take(name, read(data.as_bytes())?)?;
                }
            }
        }
        Ok(())
    }

    /// Gets a large thing in parts.
    pub(crate) async fn download(&self, target: &str, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let late = || anyhow::anyhow!("the gateway at `{}` has fallen silent", self.place());
        let opened = self.open(Method::GET, target, Bytes::new());
        let (answer, _connection) = tokio::time::timeout(SILENCE, opened)
            .await
            .map_err(|_| late())??;
        if !answer.status().is_success() {
            return Err(self.refusal(answer).await);
        }
        let (mut body, mut size) = (answer.into_body(), 0_usize);
        while let Some(frame) = tokio::time::timeout(SILENCE, body.frame())
            .await
            .map_err(|_| late())?
        {
            let Ok(bytes) = frame.context("the answer is cut")?.into_data() else {
                continue;
            };
            size = size.saturating_add(bytes.len());
            if size > LARGEST_DOWNLOAD {
                bail!("the gateway sends more than a recording has");
            }
            take(&bytes);
        }
        Ok(())
    }

    async fn ask(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Answer> {
        let exchange = async {
            let (answer, _connection) = self.open(method, target, body).await?;
            if !answer.status().is_success() {
                return Err(self.refusal(answer).await);
            }
            let next = answer.headers().get(header::LINK).and_then(next_page);
            let body = whole(answer).await?;
            Ok(Answer { body, next })
        };
        match tokio::time::timeout(ANSWER, exchange).await {
            Ok(result) => result,
            Err(_) => bail!(
                "the gateway does not answer on `{}` ({} s)",
                self.place(),
                ANSWER.as_secs()
            ),
        }
    }

    fn place(&self) -> String {
        match &self.way {
            Way::Socket(path) => path.display().to_string(),
            Way::Net(remote) => remote.authority(),
        }
    }

    /// Sends a request; the connection lives as long as what is given with the answer.
    async fn open(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> anyhow::Result<(Response<Incoming>, Connection)> {
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

    async fn speak<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> anyhow::Result<(Response<Incoming>, Connection)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its request; what broke it is what the request fails with.
        let mut connections = JoinSet::new();
        connections.spawn(async move {
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
                value.map_err(|_| anyhow::anyhow!("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::new(body))?;
        let answer = sender.send_request(request).await?;
        Ok((
            answer,
            Connection {
                _task: connections,
                _sender: sender,
            },
        ))
    }

    /// What an answer that is no success says.
    async fn refusal(&self, answer: Response<Incoming>) -> anyhow::Error {
        let status = answer.status();
        let body = whole(answer).await.unwrap_or_default();
        let told = serde_json::from_slice::<Value>(&body).ok();
        let text = |name: &str| Some(told.as_ref()?.get(name)?.as_str()?.to_owned());
        match (text("detail"), text("operation")) {
            // It is shown on a terminal, and whoever answers there need not be a gateway.
            (Some(detail), Some(operation)) => Told(status, plain(&format!("{operation}: {detail}"))).into(),
            (Some(detail), None) => Told(status, plain(&detail)).into(),
            (None, _) => anyhow::anyhow!("the gateway answers {status}"),
        }
    }
}

/// What the gateway says where it refuses.
#[derive(Debug)]
pub(crate) struct Told(pub(crate) StatusCode, String);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Told {}

/// An answer.
struct Answer {
    body: Bytes,
    /// Where the next page is.
    next: Option<String>,
}

/// A connection; it ends when this is dropped.
struct Connection {
    _task: JoinSet<()>,
    _sender: SendRequest<Full<Bytes>>,
}

/// `</api/v1/...?cursor=...>; rel="next"`.
fn next_page(link: &HeaderValue) -> Option<String> {
    let (target, parameters) = link.to_str().ok()?.strip_prefix('<')?.split_once('>')?;
    // A page of this gateway, whatever the header says.
    (target.starts_with("/api/v1/") && parameters.contains("rel=\"next\"")).then(|| target.to_owned())
}

async fn whole(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|error| anyhow::anyhow!("the gateway's answer is cut: {error}"))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the gateway's answer is of another version")
}

/// Whether it is this host.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A text as it stands in a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
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
