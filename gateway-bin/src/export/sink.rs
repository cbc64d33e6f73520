//! Where records go.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use gateway_core::resource::SecretSource;
use gateway_core::tls::{ClientTls, TargetTls};
use gateway_core::transport::Transport;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Format, Record, host, otlp, syslog};

/// For reaching a receiver, and for one batch.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A syslog receiver says nothing. If it closes within this time, it did not take the batch.
const SECOND_THOUGHTS: Duration = Duration::from_millis(100);
/// The longest answer of an OTLP receiver.
const ANSWER: usize = 64 * 1024;
/// How far a file's end is looked at for a torn line.
const LOOK_BACK: u64 = 128 * 1024 * 1024;

/// A receiver on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With TLS; the certificate must be good for `host`.
    pub(crate) tls: bool,
    /// The CA that signed it; `None`: the system's.
    pub(crate) ca: Option<PathBuf>,
}

impl Remote {
    /// For the `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Transport> {
        let (host, port) = (self.host.as_str(), self.port);
        let tcp = tokio::time::timeout(PATIENCE, TcpStream::connect((host, port)))
            .await
            .with_context(|| format!("{host}:{port} does not answer"))?
            .with_context(|| format!("{host}:{port} cannot be reached"))?;
        tcp.set_nodelay(true)?;
        if !self.tls {
            return Ok(Transport::Tcp(tcp));
        }
        let tls = ClientTls::new(TargetTls {
            ca: self.ca.as_deref(),
            ..TargetTls::default()
        })?;
        tokio::time::timeout(PATIENCE, tls.connect(host, tcp))
            .await
            .with_context(|| format!("{host}:{port}: no TLS within {} s", PATIENCE.as_secs()))?
            .with_context(|| format!("{host}:{port}: TLS"))
    }
}

/// `host:port`, `[v6]:port`.
pub(crate) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let good = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
    Some((host.to_owned(), port.parse().ok()?)).filter(|(_, port)| good && *port > 0)
}

/// `http://` and `https://` addresses: whether with TLS, host, port and path.
pub(crate) fn url(text: &str) -> Option<(bool, String, u16, String)> {
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return None,
    };
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        // The path that OTLP/HTTP has for logs.
        None => (rest, "/v1/logs".to_owned()),
    };
    let printable = path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let with_port = if authority.ends_with(']') || !authority.contains(':') {
        format!("{authority}:{}", if tls { 443 } else { 80 })
    } else {
        authority.to_owned()
    };
    let (host, port) = host_and_port(&with_port)?;
    printable.then_some((tls, host, port, path))
}

/// Where records go.
pub(crate) enum Sink {
    /// To standard output, in any format, one a line.
    Stdout(Format),
    /// To the end of a file, in any format, one a line. It is opened anew for each batch, so that it may be moved away.
    File(PathBuf, Format),
    /// Syslog over TCP or TLS.
    Syslog {
        remote: Remote,
        open: Option<Box<Transport>>,
    },
    /// OTLP/HTTP.
    Otlp {
        remote: Remote,
        path: String,
        headers: Vec<(String, SecretSource)>,
    },
}

impl Sink {
    /// The records' format.
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Stdout(format) | Self::File(_, format) => *format,
            Self::Syslog { .. } => Format::Syslog,
            Self::Otlp { .. } => Format::Otlp,
        }
    }

    /// Hands a batch over; where this succeeds, the sink has it.
    pub(crate) async fn send(&mut self, batch: &[Record]) -> anyhow::Result<()> {
        match self {
            Self::Stdout(format) => {
                let mut out = io::stdout().lock();
                out.write_all(&lines(batch, *format)?)?;
                Ok(out.flush()?)
            }
            Self::File(path, format) => {
                let (path, bytes) = (path.clone(), lines(batch, *format)?);
                tokio::task::spawn_blocking(move || {
                    append(&path, &bytes).with_context(|| format!("`{}`", path.display()))
                })
                .await?
            }
            Self::Syslog { remote, open } => {
                let mut stream = match open.take() {
                    Some(stream) => stream,
                    None => Box::new(remote.connect().await?),
                };
                let host = host();
                let frames: Vec<u8> = batch
                    .iter()
                    .flat_map(|record| syslog::frame(record, &host))
                    .collect();
                tokio::time::timeout(PATIENCE, deliver(&mut stream, &frames))
                    .await
                    .context("the receiver takes nothing")??;
                *open = Some(stream);
                Ok(())
            }
            Self::Otlp {
                remote,
                path,
                headers,
            } => post(remote, path, headers, batch).await,
        }
    }
}

async fn deliver(stream: &mut Transport, frames: &[u8]) -> anyhow::Result<()> {
    stream.write_all(frames).await.context("the receiver closed")?;
    stream.flush().await.context("the receiver closed")?;
    // What it says is of no interest, that it closes is.
    let mut scratch = [0u8; 256];
    let end = tokio::time::Instant::now() + SECOND_THOUGHTS;
    loop {
        match tokio::time::timeout_at(end, stream.read(&mut scratch)).await {
            Err(_) => return Ok(()),
            Ok(Ok(0)) => bail!("the receiver closed the connection"),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error).context("the receiver closed"),
        }
    }
}

async fn post(
    remote: &Remote,
    path: &str,
    headers: &[(String, SecretSource)],
    batch: &[Record],
) -> anyhow::Result<()> {
    let body = serde_json::to_vec(&otlp::request(batch, &host(), jiff::Timestamp::now()))?;
    let stream = remote.connect().await?;
    let mut request = Request::post(path)
        .header(header::HOST, remote.authority())
        .header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json");
    for (name, source) in headers {
        let value = source.read().with_context(|| format!("the header `{name}`"))?;
        let mut value = header::HeaderValue::from_str(value.expose())
            .map_err(|_| anyhow::anyhow!("the header `{name}` has a value that no header can have"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER).collect().await;
            anyhow::Ok((
                status,
                body.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
            ))
        }
        .await;
        connection.abort();
        answer
    };
    let (status, answer) = tokio::time::timeout(PATIENCE, exchange)
        .await
        .context("the receiver does not answer")??;
    if !status.is_success() {
        bail!("the receiver answers {status}");
    }
    if let Some((count, why)) = otlp::rejected(&answer) {
        // By OTLP such a batch must not be sent again.
        metrics::counter!("audit_export_rejected_total").increment(count);
        tracing::warn!(count, why, "the OTLP receiver rejected some records");
    }
    Ok(())
}

/// A batch as lines.
pub(crate) fn lines(batch: &[Record], format: Format) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    let host = host();
    match format {
        Format::Jsonl => batch.iter().for_each(|record| line(&mut out, &record.line)),
        Format::Syslog => batch
            .iter()
            .for_each(|record| line(&mut out, &syslog::message(record, &host))),
        Format::Otlp => {
            let request = otlp::request(batch, &host, jiff::Timestamp::now());
            line(&mut out, &serde_json::to_string(&request)?);
        }
    }
    Ok(out)
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

/// Appends whole lines durably. A line that a crash tore is cut off first; its record comes again.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let meta = file.metadata()?;
    let mut whole = 0;
    if meta.is_file() {
        cut_torn(&file, meta.len())?;
        whole = file.metadata()?.len();
    }
    let result = file.write_all(bytes).and_then(|()| file.sync_data());
    if result.is_err() && meta.is_file() {
        // Nothing half: what was there before stays, and the batch comes again.
        let _ = file.set_len(whole);
    }
    // Pipes and the like have nothing to make durable.
    match result {
        Err(error) if !meta.is_file() && error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

fn cut_torn(file: &std::fs::File, len: u64) -> io::Result<()> {
    let mut file = file;
    let mut end = len;
    let mut buffer = [0u8; 4096];
    let mut keep = 0;
    while end > 0 && len - end < LOOK_BACK {
        let from = end.saturating_sub(4096);
        let size = usize::try_from(end - from).unwrap_or_default();
        file.seek(SeekFrom::Start(from))?;
        let part = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(found) = part.iter().rposition(|byte| *byte == b'\n') {
            keep = from + u64::try_from(found).unwrap_or_default() + 1;
            break;
        }
        end = from;
    }
    if keep == len {
        return Ok(());
    }
    // Only what this gateway began is cut off.
    file.seek(SeekFrom::Start(keep))?;
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start)?;
    let ours = [&b"{\"seq\":"[..], b"<10", b"{\"resour"];
    if !ours
        .iter()
        .any(|begin| begin.starts_with(&start) || start.starts_with(begin))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its last line has no end and is no record; name another file",
        ));
    }
    file.set_len(keep)
}
