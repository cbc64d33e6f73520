//! The command line's side of the Unix socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

/// For one request and its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const LARGEST: usize = 64 << 20;

/// A gateway that runs on this host.
pub(crate) struct Client {
    path: PathBuf,
}

impl Client {
    /// The gateway that answers on the socket; `None`: nobody does.
    pub(crate) async fn find(path: PathBuf) -> anyhow::Result<Option<Self>> {
        match super::answers(&path).await {
            Ok(true) => Ok(Some(Self { path })),
            Ok(false) => Ok(None),
            Err(error) => Err(refused(&path, &error)),
        }
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
                self.path.display(),
                ANSWER.as_secs()
            ),
        }
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| refused(&self.path, &error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its request; what broke it is what the request fails with.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "gateway")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
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
        match told.as_ref().and_then(|told| told.get("error")?.as_str()) {
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
