//! The client's side of the login: TLS, cancelling, start-up parameters, and the password.

use bytes::BytesMut;
use gateway_core::adapter::{Connection, ServeError};
use gateway_core::secret::Secret;
use gateway_core::transport::Transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::wire::backend::{ErrorBuilder, NegotiateProtocolVersion, Severity, sqlstate};
use crate::wire::frame::{self, HEADER_LEN, MAX_AUTH_TOKEN_LENGTH};
use crate::wire::frontend::{PasswordMessage, ProtocolVersion, StartupPacket};

/// Requests for encryption before the start-up message: one each of TLS and GSSAPI, and no more.
const MAX_REQUESTS: usize = 3;

/// The newest version that is spoken here.
const NEWEST: ProtocolVersion = ProtocolVersion::V3_2;
/// Most protocol options (`_pq_.`) of a start-up message; there are none yet that mean anything.
const MAX_OPTIONS: usize = 100;
/// The application protocol of direct TLS (ALPN).
pub(crate) const ALPN: &[u8] = b"postgresql";
/// First byte of a TLS handshake, which no start-up packet begins with: it would be 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;

/// How a connection begins.
#[derive(Debug)]
pub(crate) enum Opening {
    /// A session.
    Startup(Startup),
    /// A wish to cancel what another session runs.
    Cancel {
        /// The process id that we made up.
        process_id: i32,
        /// The key that we made up.
        key: Vec<u8>,
    },
    /// The client closed without a word (a health check).
    Nothing,
}

/// A start-up message.
#[derive(Debug, Clone)]
pub(crate) struct Startup {
    /// The version that is spoken: what the client asked for, or the newest that we know where that is less.
    pub(crate) version: ProtocolVersion,
    /// `[login@]resource`.
    pub(crate) user: String,
    /// The database that is asked for.
    pub(crate) database: Option<String>,
    /// All other parameters, those in `options` among them.
    pub(crate) parameters: Vec<(String, String)>,
}

/// Reads up to the start-up message, or whatever comes instead. The caller holds the deadline.
pub(crate) async fn open(connection: &mut Connection) -> Result<Opening, ServeError> {
    if begins_with_tls(&mut connection.transport).await? {
        start_direct_tls(connection).await?;
    }
    let mut input = BytesMut::new();
    for _ in 0..=MAX_REQUESTS {
        let Some(packet) = packet(&mut connection.transport, &mut input).await? else {
            return Ok(Opening::Nothing);
        };
        let body = packet.get(frame::STARTUP_HEADER_LEN..).unwrap_or_default();
        let parsed = match StartupPacket::parse(body) {
            Ok(parsed) => parsed,
            Err(error) => return Err(refuse(connection, &format!("the client sent a {error}")).await),
        };
        match parsed {
            StartupPacket::SslRequest(_) => {
                // What comes before the handshake was not encrypted and must not count as if it was (CVE-2021-3935).
                if !input.is_empty() {
                    return Err(ServeError::Client(
                        "bytes came before the TLS handshake".to_owned(),
                    ));
                }
                start_requested_tls(connection).await?;
            }
            StartupPacket::GssEncRequest(_) => {
                if !input.is_empty() {
                    return Err(ServeError::Client(
                        "bytes came before the GSSAPI handshake".to_owned(),
                    ));
                }
                write(&mut connection.transport, b"N").await?;
            }
            StartupPacket::CancelRequest(request) => {
                return Ok(Opening::Cancel {
                    process_id: request.process_id,
                    key: request.key.to_vec(),
                });
            }
            StartupPacket::StartupMessage(message) => {
                if !input.is_empty() {
                    return Err(refuse(connection, "the client sent more before it was asked to").await);
                }
                let version = message.version;
                if version.major() != 3 {
                    return Err(refuse(connection, "only version 3 of the protocol is spoken here").await);
                }
                let startup = match startup(version.min(NEWEST), &message.parameters) {
                    Ok(startup) => startup,
                    Err(why) => return Err(refuse(connection, &why).await),
                };
                negotiate(connection, version, &message.parameters).await?;
                return Ok(Opening::Startup(startup));
            }
        }
    }
    Err(ServeError::Client("too many requests for encryption".to_owned()))
}

async fn begins_with_tls(transport: &mut Transport) -> Result<bool, ServeError> {
    let Transport::Tcp(tcp) = transport else {
        return Ok(false);
    };
    let mut first = [0];
    let seen = tcp.peek(&mut first).await.map_err(client)?;
    Ok(seen == 1 && first == [TLS_HANDSHAKE])
}

/// TLS without a request for it (`sslnegotiation=direct`). Only a client that says `postgresql` may do so, since what
/// speaks TLS from the first byte may also be a browser that was sent here.
async fn start_direct_tls(connection: &mut Connection) -> Result<(), ServeError> {
    start_tls(connection, b"").await?;
    if connection.transport.alpn() == Some(ALPN) {
        Ok(())
    } else {
        Err(ServeError::Client(
            "direct TLS without the application protocol `postgresql`".to_owned(),
        ))
    }
}

async fn start_requested_tls(connection: &mut Connection) -> Result<(), ServeError> {
    if let Transport::Tcp(_) = connection.transport {
        start_tls(connection, b"S").await
    } else {
        // TLS inside of TLS, or on a stream that an embedder has secured already.
        write(&mut connection.transport, b"N").await
    }
}

/// Says `yes` and shakes hands. A client that offers other application protocols alone is refused by that.
async fn start_tls(connection: &mut Connection, yes: &[u8]) -> Result<(), ServeError> {
    let taken = std::mem::replace(
        &mut connection.transport,
        Transport::Other(Box::new(tokio::io::empty())),
    );
    connection.transport = match taken {
        Transport::Tcp(mut tcp) => {
            tcp.write_all(yes).await.map_err(client)?;
            connection.tls.accept(tcp, &[ALPN]).await.map_err(client)?
        }
        other => other,
    };
    Ok(())
}

/// Answers a newer minor version than ours, and options that we don't know, with what is spoken here.
///
/// PostgreSQL documentation, Start-up: the version is the one that the session goes on with, also where only options
/// are unknown. 3.1 was never released; who asks for it is spoken to as it asked, as PostgreSQL 18 does.
async fn negotiate(
    connection: &mut Connection,
    asked: ProtocolVersion,
    parameters: &[(&[u8], &[u8])],
) -> Result<(), ServeError> {
    let unrecognized: Vec<&[u8]> = parameters
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| name.starts_with(b"_pq_."))
        .collect();
    if unrecognized.len() > MAX_OPTIONS {
        return Err(refuse(connection, "too many protocol options").await);
    }
    if asked <= NEWEST && unrecognized.is_empty() {
        return Ok(());
    }
    let mut out = BytesMut::new();
    NegotiateProtocolVersion {
        version: asked.min(NEWEST),
        unrecognized,
    }
    .encode(&mut out)
    .map_err(|e| ServeError::Client(e.to_string()))?;
    write(&mut connection.transport, &out).await
}

async fn refuse(connection: &mut Connection, why: &str) -> ServeError {
    if let Ok(error) = ErrorBuilder::new(Severity::Fatal, sqlstate::PROTOCOL_VIOLATION, why).to_frame() {
        let _ = connection.transport.write_all(&error).await;
        let _ = connection.transport.shutdown().await;
    }
    ServeError::Client(why.to_owned())
}

fn client(error: std::io::Error) -> ServeError {
    ServeError::Client(error.to_string())
}

async fn write(transport: &mut Transport, bytes: &[u8]) -> Result<(), ServeError> {
    transport.write_all(bytes).await.map_err(client)?;
    transport.flush().await.map_err(client)
}

/// One packet without a tag; `None`: the client closed before its first byte.
async fn packet(transport: &mut Transport, input: &mut BytesMut) -> Result<Option<BytesMut>, ServeError> {
    loop {
        let length = frame::startup_header(input)
            .map_err(|e| ServeError::Client(format!("the client sent a malformed start-up packet: {e}")))?;
        if let Some(length) = length
            && input.len() >= length
        {
            return Ok(Some(input.split_to(length)));
        }
        if transport.read_buf(input).await.map_err(client)? == 0 {
            if input.is_empty() {
                return Ok(None);
            }
            return Err(ServeError::Client(
                "the client closed in the middle of its start-up packet".to_owned(),
            ));
        }
    }
}

/// The body of the client's next message of its login; what it holds is wiped when dropped.
pub(crate) async fn login_message(transport: &mut Transport) -> Result<Zeroizing<Vec<u8>>, ServeError> {
    // Made at its final size where it can be: growing would leave copies behind that nobody wipes.
    let mut input = Zeroizing::new(Vec::with_capacity(1024));
    loop {
        let header = frame::header(&input, MAX_AUTH_TOKEN_LENGTH)
            .map_err(|e| ServeError::Client(format!("the client sent a malformed frame: {e}")))?;
        let wanted = header.map_or(HEADER_LEN, |header| header.len);
        if let Some(header) = header {
            if header.tag != b'p' {
                return Err(ServeError::Client(
                    "the client sent something else than its password".to_owned(),
                ));
            }
            if input.len() > header.len {
                return Err(ServeError::Client(
                    "the client sent more than its password".to_owned(),
                ));
            }
            if input.len() == header.len {
                let body = input.get(HEADER_LEN..).unwrap_or_default();
                return Ok(Zeroizing::new(body.to_vec()));
            }
        }
        if input.capacity() < wanted {
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted));
            larger.extend_from_slice(&input);
            input = larger;
        }
        if transport.read_buf(&mut *input).await.map_err(client)? == 0 {
            return Err(ServeError::Client(
                "the client closed when it was asked for its password".to_owned(),
            ));
        }
    }
}

/// The answer to AuthenticationCleartextPassword.
pub(crate) async fn password(transport: &mut Transport) -> Result<Secret, ServeError> {
    let body = login_message(transport).await?;
    let message =
        PasswordMessage::parse(&body).map_err(|e| ServeError::Client(format!("the client sent a {e}")))?;
    let text = std::str::from_utf8(message.password)
        .map_err(|_| ServeError::Client("the client's password is no UTF-8".to_owned()))?;
    Ok(Secret::new(text))
}

fn startup(version: ProtocolVersion, parameters: &[(&[u8], &[u8])]) -> Result<Startup, String> {
    let mut startup = Startup {
        version,
        user: String::new(),
        database: None,
        parameters: Vec::new(),
    };
    for (name, value) in parameters {
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| "a start-up parameter is no UTF-8".to_owned())
        };
        let (name, value) = (text(name)?, text(value)?);
        match name.as_str() {
            "user" => startup.user = value,
            "database" => startup.database = (!value.is_empty()).then_some(value),
            "replication" => {
                let off = ["", "false", "off", "no", "0"].contains(&value.to_ascii_lowercase().as_str());
                if !off {
                    return Err("replication connections are not let through".to_owned());
                }
            }
            "options" => startup.parameters.extend(options(&value)?),
            name if name.starts_with("_pq_.") => {}
            _ => startup.parameters.push((name, value)),
        }
    }
    if startup.user.is_empty() {
        return Err("no user name was given; it names the resource: user=you@resource".to_owned());
    }
    Ok(startup)
}

/// The settings in `options`, as PostgreSQL splits them: blanks separate, a backslash keeps the next character. Only
/// `-c name=value` and `--name=value` are settings; all else is refused.
fn options(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let next = chars.next().ok_or("`options` ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or("`options` ends with -c")?
        } else if let Some(setting) = word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            setting.to_owned()
        } else {
            return Err(format!(
                "`{word}` in `options` is not let through; write -c name=value"
            ));
        };
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| format!("`{setting}` in `options` is no name=value"))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_the_server_splits_them() {
        let pairs = |text: &str| {
            options(text).map(|list| list.iter().map(|(k, v)| format!("{k}|{v}")).collect::<Vec<_>>())
        };
        assert_eq!(
            pairs("-c search_path=hr,public").unwrap(),
            ["search_path|hr,public"]
        );
        assert_eq!(
            pairs("-csearch_path=a\\ b  --work-mem=4MB").unwrap(),
            ["search_path|a b", "work_mem|4MB"]
        );
        assert_eq!(pairs("").unwrap(), [""; 0]);
        for bad in ["-c", "-c x", "-d 5", "x=y", "\\"] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn replication_is_refused_and_a_user_is_needed() {
        let user = (&b"user"[..], &b"a@b"[..]);
        assert!(startup(ProtocolVersion::V3_0, &[user, (b"replication", b"database")]).is_err());
        assert!(startup(ProtocolVersion::V3_0, &[user, (b"replication", b"off")]).is_ok());
        assert!(startup(ProtocolVersion::V3_0, &[(b"database", b"x")]).is_err());
    }
}
