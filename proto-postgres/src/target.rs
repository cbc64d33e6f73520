//! Reaching a target: TCP, TLS, the login, and the gateway's own connection.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use gateway_core::adapter::ConfigProblem;
use gateway_core::credentials::{CredentialError, Lease};
use gateway_core::gateway::Gateway;
use gateway_core::listener::prepare;
use gateway_core::resource::Resource;
use gateway_core::tls::{TargetTlsMode, TlsError};
use gateway_core::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::login::{LoginError, Reply, TargetLogin};
use crate::wire::backend::{self, field};
use crate::wire::frontend::{CancelRequest, ProtocolVersion, SslRequest, StartupMessage, Terminate};
use crate::wire::{EncodeError, ParseError, frame};

pub use settings::{Binding, MaxProtocolVersion, ResourceSettings};

/// Longest message of a target while it logs us in.
const LOGIN_MESSAGE_BYTES: usize = 64 * 1024;
/// All messages of a target while it logs us in; what it tells of itself is kept.
const LOGIN_BYTES: usize = 256 * 1024;
/// Messages of a target while it logs us in.
const LOGIN_MESSAGES: usize = 500;
/// Longest answer to one of the gateway's own questions.
const OWN_ANSWER_BYTES: usize = 256 << 20;
/// The gateway's own questions are answered within this time.
const OWN_TIME: Duration = Duration::from_secs(30);

/// Host and port of `address`.
pub(crate) fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then_some((host, port))
}

/// Why a target can't be used. For operators: a client is told none of this.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigProblem),
    /// TCP failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It did not answer in time.
    #[error("the target did not answer within {0:?}")]
    Timeout(Duration),
    /// It offers no TLS though that is a must.
    #[error("the target offers no TLS, which `tls` of the resource demands")]
    NoTls,
    /// The TLS settings can't be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// There is no credential.
    #[error("{0}")]
    Credential(#[from] CredentialError),
    /// The login failed on our side of it.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// It refused: SQLSTATE and text.
    #[error("the target refused: {code} {message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Its message.
        message: String,
    },
    /// It sent what is no valid protocol.
    #[error("{0}")]
    Malformed(String),
    /// Its structure can't be read.
    #[error("the structure of the database can't be read: {0}")]
    Structure(String),
}

impl TargetError {
    /// Whether the database that was asked for is not there.
    pub(crate) fn has_no_database(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code == "3D000",
            Self::Credential(CredentialError::Place(_)) => true,
            _ => false,
        }
    }
}

impl From<ParseError> for TargetError {
    fn from(error: ParseError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<EncodeError> for TargetError {
    fn from(error: EncodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A target that has logged us in.
#[derive(Debug)]
pub struct TargetConnection {
    /// Its bytes.
    pub transport: Transport,
    /// What it told after the login, frame by frame: its ParameterStatus messages.
    pub parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its process id and secret key, for cancelling.
    pub key: Option<(i32, Vec<u8>)>,
    /// What it sent behind its ReadyForQuery.
    pub leftover: BytesMut,
}

/// Opens the way to a target: TCP and, where the resource says so, TLS.
pub(crate) async fn dial(resource: &Resource, limit: Duration) -> Result<Transport, TargetError> {
    let settings = ResourceSettings::of(resource)?;
    let (host, port) = split_address(&resource.address)
        .ok_or_else(|| ConfigProblem(format!("resource `{}`: no host:port in `address`", resource.name)))?;
    let open = async {
        let mut tcp = TcpStream::connect((host, port)).await?;
        prepare(&tcp);
        if settings.tls == TargetTlsMode::Disable {
            return Ok(Transport::Tcp(tcp));
        }
        let mut request = BytesMut::new();
        SslRequest.encode(&mut request)?;
        tcp.write_all(&request).await?;
        // Exactly one byte: what a man in the middle sends behind it is then no part of the TLS stream.
        if tcp.read_u8().await? != b'S' {
            return Err(TargetError::NoTls);
        }
        Ok(settings.client_tls(settings.tls)?.connect(host, tcp).await?)
    };
    tokio::time::timeout(limit, open)
        .await
        .unwrap_or(Err(TargetError::Timeout(limit)))
}

/// Logs in to a target with `parameters` beside the user.
pub(crate) async fn log_in(
    resource: &Resource,
    mut transport: Transport,
    lease: &Lease,
    parameters: &[(String, String)],
    limit: Duration,
) -> Result<TargetConnection, TargetError> {
    let settings = ResourceSettings::of(resource)?;
    let asked = match settings.max_protocol_version {
        MaxProtocolVersion::V3_0 => ProtocolVersion::V3_0,
        MaxProtocolVersion::V3_2 => ProtocolVersion::V3_2,
    };
    let work = async {
        let mut startup = vec![(&b"user"[..], lease.username.as_bytes())];
        startup.extend(
            parameters
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        );
        let mut bytes = BytesMut::new();
        StartupMessage {
            version: asked,
            parameters: startup,
        }
        .encode(&mut bytes)?;
        transport.write_all(&bytes).await?;
        let options = settings.login_options(&transport);
        let password = lease
            .password
            .as_ref()
            .map(|p| p.expose().as_bytes().to_vec().into());
        let mut login = TargetLogin::new(&lease.username, password, options);
        let (mut negotiated, mut done) = (false, false);
        let mut input = BytesMut::new();
        let mut known = Vec::new();
        let mut key = None;
        let mut left = LOGIN_BYTES;
        for _ in 0..LOGIN_MESSAGES {
            let (tag, body) = read_frame(&mut transport, &mut input, LOGIN_MESSAGE_BYTES.min(left)).await?;
            left = left.saturating_sub(body.len());
            match backend::Message::parse(tag, &body)? {
                backend::Message::Authentication(message) => match login.handle(&message)? {
                    Reply::Send(bytes) => transport.write_all(&bytes).await?,
                    Reply::Wait => {}
                    Reply::Done => done = true,
                },
                backend::Message::ErrorResponse(error) => return Err(refused(&error)),
                backend::Message::NoticeResponse(_) => {}
                backend::Message::NegotiateProtocolVersion(less) if !done && !negotiated => {
                    check_negotiated(asked, &less)?;
                    negotiated = true;
                }
                _ if !done => {
                    return Err(TargetError::Malformed(
                        "the target spoke before the login was done".into(),
                    ));
                }
                backend::Message::ParameterStatus(status) => {
                    known.push((status.name.to_vec(), status.value.to_vec()));
                }
                backend::Message::BackendKeyData(data) => key = Some((data.process_id, data.key.to_vec())),
                backend::Message::ReadyForQuery(_) => {
                    return Ok(TargetConnection {
                        transport,
                        parameters: known,
                        key,
                        leftover: input,
                    });
                }
                _ => {
                    return Err(TargetError::Malformed(
                        "the target sent an unexpected message at login".into(),
                    ));
                }
            }
        }
        Err(TargetError::Malformed(
            "the target sent too many messages at login".into(),
        ))
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(TargetError::Timeout(limit)))
}

/// A target that speaks less than was asked may say so, once; we asked for no options that it could not know.
fn check_negotiated(
    asked: ProtocolVersion,
    answer: &backend::NegotiateProtocolVersion<'_>,
) -> Result<(), TargetError> {
    let spoken = answer.version.major() == 3 && answer.version < asked;
    if spoken && answer.unrecognized.is_empty() {
        Ok(())
    } else {
        Err(TargetError::Malformed(
            "the target answered with a version or options that were not asked for".into(),
        ))
    }
}

fn refused(error: &backend::ErrorResponse<'_>) -> TargetError {
    let text = |code| String::from_utf8_lossy(error.get(code).unwrap_or_default()).into_owned();
    TargetError::Refused {
        code: text(field::CODE),
        message: text(field::MESSAGE),
    }
}

async fn read_frame(
    transport: &mut Transport,
    input: &mut BytesMut,
    max: usize,
) -> Result<(u8, BytesMut), TargetError> {
    loop {
        let header = frame::header(input, max).map_err(|e| TargetError::Malformed(e.to_string()))?;
        if let Some(header) = header
            && input.len() >= header.len
        {
            let mut whole = input.split_to(header.len);
            whole.advance(frame::HEADER_LEN.min(whole.len()));
            return Ok((header.tag, whole));
        }
        if transport.read_buf(input).await? == 0 {
            return Err(TargetError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Sends a CancelRequest with the target's own key.
pub(crate) async fn cancel(
    resource: &Resource,
    process_id: i32,
    key: &[u8],
    limit: Duration,
) -> Result<(), TargetError> {
    let mut transport = dial(resource, limit).await?;
    let mut bytes = BytesMut::new();
    CancelRequest { process_id, key }.encode(&mut bytes)?;
    let work = async {
        transport.write_all(&bytes).await?;
        transport.flush().await?;
        // The server closes once it has acted.
        let mut end = [0_u8; 1];
        let _ = transport.read(&mut end).await;
        Ok(())
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(TargetError::Timeout(limit)))
}

/// What a connection that only reads is opened with.
const READING: &[(&str, &str)] = &[
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "30s"),
    // Writing out the definition of a view waits for whoever alters what it stands on.
    ("lock_timeout", "2s"),
    // Compiling a query takes longer than running it here.
    ("jit", "off"),
];

/// The gateway's own connection to a database. It never carries a client's settings.
#[derive(Debug)]
pub struct OwnConnection {
    transport: Transport,
    input: BytesMut,
}

impl OwnConnection {
    /// Opens one that only reads, with the gateway's own login.
    pub async fn open(
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        database: &str,
    ) -> Result<Self, TargetError> {
        Self::open_with(gateway, resource, database, READING).await
    }

    /// Opens it with the gateway's own login and these settings.
    pub(crate) async fn open_with(
        gateway: &Arc<Gateway>,
        resource: &Arc<Resource>,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, TargetError> {
        let limit = gateway.limits().connect;
        let lease = gateway.own_login(resource).await?;
        let always = [
            ("database", database),
            ("application_name", "gateway"),
            ("client_encoding", "UTF8"),
            ("search_path", "pg_catalog"),
        ];
        let parameters: Vec<(String, String)> = always
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let transport = dial(resource, limit).await?;
        let connection = log_in(resource, transport, &lease, &parameters, limit).await?;
        Ok(Self {
            transport: connection.transport,
            input: connection.leftover,
        })
    }

    /// The one value of a query that gives one row of one column.
    pub async fn value(&mut self, sql: &str) -> Result<String, TargetError> {
        let value = self.execute(sql).await?;
        value.ok_or_else(|| TargetError::Structure("the query gave no row".to_owned()))
    }

    /// The first value of the last row that it gives, if any.
    pub async fn execute(&mut self, sql: &str) -> Result<Option<String>, TargetError> {
        tokio::time::timeout(OWN_TIME, self.ask(sql))
            .await
            .unwrap_or(Err(TargetError::Timeout(OWN_TIME)))
    }

    async fn ask(&mut self, sql: &str) -> Result<Option<String>, TargetError> {
        let mut bytes = BytesMut::new();
        crate::wire::frontend::Query { sql: sql.as_bytes() }.encode(&mut bytes)?;
        self.exchange(bytes, OWN_ANSWER_BYTES).await
    }

    /// Sends messages that ask for one ReadyForQuery: the first value of the last row until then, if any.
    pub(crate) async fn exchange(
        &mut self,
        messages: BytesMut,
        longest: usize,
    ) -> Result<Option<String>, TargetError> {
        self.transport.write_all(&messages).await?;
        let mut value = None;
        let mut failure = None;
        loop {
            let (tag, body) = read_frame(&mut self.transport, &mut self.input, longest).await?;
            match backend::Message::parse(tag, &body)? {
                backend::Message::DataRow(row) => {
                    let first = row.columns().next().flatten().unwrap_or_default();
                    value = Some(String::from_utf8_lossy(first).into_owned());
                }
                backend::Message::ErrorResponse(error) => failure = Some(refused(&error)),
                backend::Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(value),
        }
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let mut bytes = BytesMut::new();
        if Terminate.encode(&mut bytes).is_ok() {
            let _ = self.transport.write_all(&bytes).await;
        }
        let _ = self.transport.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(split_address("10.0.0.5:5432"), Some(("10.0.0.5", 5432)));
        assert_eq!(split_address("[::1]:5432"), Some(("::1", 5432)));
        for bad in ["", "host", "host:", ":5432", "host:0", "host:99999"] {
            assert_eq!(split_address(bad), None, "{bad}");
        }
    }
}
