//! Connections become sessions: TLS, the login on both sides, and the way into the driver.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use gateway_core::adapter::{ConfigProblem, Connection, ProtocolAdapter, ServeError};
use gateway_core::gateway::{Attempt, Gateway, LoginRefusal, SessionScope};
use gateway_core::machine::{NothingNeeded, Outbound};
use gateway_core::meaning::Meaning;
use gateway_core::policy::SchemaPart;
use gateway_core::relay::{Leftover, Relay};
use gateway_core::resource::Resource;
use gateway_core::secret::Secret;
use gateway_core::transport::Transport;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::commands;
use crate::session::Session;
use crate::wire::{self, Front, Replies};

/// The adapter's name.
pub const PROTOCOL: &str = "resp";
/// Longest request before the login, in bytes.
const LOGIN_BYTES: usize = 8 * 1024;
/// Requests before the login.
const LOGIN_REQUESTS: usize = 16;
/// Longest reply of the target to the login, in bytes.
const REPLY_BYTES: usize = 64 * 1024;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// The `[resp]` section: no keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {}

/// The adapter.
#[derive(Debug, Default, Clone, Copy)]
pub struct RespAdapter;

/// A login as it was asked for.
struct Login {
    user: String,
    secret: Secret,
    /// The version of the protocol, where HELLO named one.
    hello: Option<Vec<u8>>,
}

impl RespAdapter {
    /// Reads up to the login. What comes before it is refused.
    async fn ask(client: &mut Transport, input: &mut BytesMut) -> Result<Option<Login>, ServeError> {
        for _ in 0..LOGIN_REQUESTS {
            let (login, reply, consumed) = loop {
                let front = wire::request(input, LOGIN_BYTES)
                    .map_err(|e| ServeError::Client(format!("the client sent {e}")))?;
                if let Front::Request(arguments, consumed) = front {
                    let (login, reply) = login(&arguments);
                    break (login, reply, consumed);
                }
                match client.read_buf(input).await {
                    Ok(0) if input.is_empty() => return Ok(None),
                    Ok(0) => return Err(ServeError::Client("the client closed in a request".to_owned())),
                    Ok(_) => {}
                    Err(error) => return Err(ServeError::Client(error.to_string())),
                }
            };
            let _ = input.split_to(consumed);
            if let Some(login) = login {
                return Ok(Some(login));
            }
            send(client, reply.as_bytes()).await?;
        }
        Err(ServeError::Client(
            "too many requests before the login".to_owned(),
        ))
    }

    async fn log_in(
        connection: &mut Connection,
        input: &mut BytesMut,
    ) -> Result<Option<(SessionScope, Login)>, ServeError> {
        let Some(login) = Self::ask(&mut connection.transport, input).await? else {
            return Ok(None);
        };
        let (_, resource) = Attempt::split_user(&login.user);
        let attempt = Attempt {
            peer: connection.peer,
            protocol: PROTOCOL,
            user: login.user.clone(),
            resource: resource.to_owned(),
            detail: None,
        };
        let gateway = connection.gateway.clone();
        if !connection.may_carry_secret() {
            gateway.refuse_login(&attempt, None, "a secret may not travel without TLS here");
            send(
                &mut connection.transport,
                b"-ERR this gateway takes logins over TLS only\r\n",
            )
            .await?;
            return Err(ServeError::Refused);
        }
        let opened = match gateway.authenticate(&attempt, &login.secret).await {
            Ok(who) => gateway.open_session(&attempt, who, |operation| operation).await,
            Err(refusal) => Err(refusal),
        };
        match opened {
            Ok(scope) => Ok(Some((scope, login))),
            Err(refusal) => {
                let told = match refusal {
                    LoginRefusal::Refused => {
                        "WRONGPASS the token is not valid, or policy permits no connection"
                    }
                    LoginRefusal::Unavailable(why) => why,
                };
                send(&mut connection.transport, format!("-{told}\r\n").as_bytes()).await?;
                Err(ServeError::Refused)
            }
        }
    }

    /// Reaches the target and logs in there; returns what it answered to HELLO.
    async fn reach(
        scope: &mut SessionScope,
        hello: Option<&[u8]>,
    ) -> Result<(TcpStream, Vec<u8>), ServeError> {
        let target = |what: &str| ServeError::Target(what.to_owned());
        let lease = scope
            .lease(None)
            .await
            .map_err(|e| ServeError::Target(e.to_string()))?;
        let limit = scope.gateway().limits().connect;
        let address = scope.resource().address.clone();
        let reached = async {
            let mut tcp = TcpStream::connect(&address)
                .await
                .map_err(|e| ServeError::Target(e.to_string()))?;
            gateway_core::listener::prepare(&tcp);
            if let Some(password) = &lease.password {
                let auth = [
                    b"AUTH".as_slice(),
                    lease.username.as_bytes(),
                    password.expose().as_bytes(),
                ];
                let reply = exchange(&mut tcp, &wire::encode(&auth)).await?;
                if !reply.starts_with(b"+") {
                    return Err(target("the target refused the gateway's login"));
                }
            }
            let reply = match hello {
                Some(version) => exchange(&mut tcp, &wire::encode(&[b"HELLO", version])).await?,
                None => b"+OK\r\n".to_vec(),
            };
            Ok((tcp, reply))
        };
        tokio::time::timeout(limit, reached)
            .await
            .unwrap_or_else(|_| Err(target("the target did not answer in time")))
    }
}

/// What a request before the login is: the login, or what it is answered with.
fn login(arguments: &[&[u8]]) -> (Option<Login>, &'static str) {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).ok();
    let made = |user: &[u8], secret: &[u8], hello: Option<&[u8]>| {
        let login = Login {
            user: text(user)?,
            secret: Secret::new(text(secret)?),
            hello: hello.map(<[u8]>::to_vec),
        };
        Some(login)
    };
    let words: Vec<Vec<u8>> = arguments.iter().map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let made = match (words.as_slice(), arguments) {
        ([b"AUTH", _, _], [_, user, secret]) => made(user, secret, None),
        ([b"HELLO", b"2" | b"3", b"AUTH", _, _], [_, version, _, user, secret])
        | ([b"HELLO", b"2" | b"3", b"AUTH", _, _, b"SETNAME", _], [_, version, _, user, secret, ..]) => {
            made(user, secret, Some(version))
        }
        ([b"AUTH", _], _) => {
            return (
                None,
                "-WRONGPASS name yourself and the resource: AUTH <you>@<resource> <token>\r\n",
            );
        }
        _ => None,
    };
    (made, "-NOAUTH Authentication required.\r\n")
}

async fn send(to: &mut Transport, bytes: &[u8]) -> Result<(), ServeError> {
    let sent = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    sent.await.map_err(|e| ServeError::Client(e.to_string()))
}

/// Sends a request and reads its whole reply, and no more than that.
async fn exchange(tcp: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, ServeError> {
    let target = |what: String| ServeError::Target(what);
    tcp.write_all(request).await.map_err(|e| target(e.to_string()))?;
    let (mut reply, mut replies, mut at) = (BytesMut::new(), Replies::default(), 0_usize);
    loop {
        let rest = reply.get(at..).unwrap_or_default();
        match replies
            .next(rest)
            .map_err(|e| target(format!("the target sent {e}")))?
        {
            Some(part) => {
                at = at.saturating_add(part.bytes);
                if part.ends && at == reply.len() {
                    return Ok(reply.to_vec());
                }
                if part.ends {
                    return Err(target("the target sent more than its answer".to_owned()));
                }
            }
            None if reply.len() > REPLY_BYTES => {
                return Err(target("the target's answer is too long".to_owned()));
            }
            None => {
                let read = tcp
                    .read_buf(&mut reply)
                    .await
                    .map_err(|e| target(e.to_string()))?;
                if read == 0 {
                    return Err(target("the target closed".to_owned()));
                }
            }
        }
    }
}

#[async_trait]
impl ProtocolAdapter for RespAdapter {
    fn protocol(&self) -> &'static str {
        PROTOCOL
    }

    fn vocabulary(&self) -> Result<Vec<SchemaPart>, ConfigProblem> {
        let part = SchemaPart::parse("resp", commands::VOCABULARY);
        part.map(|part| vec![part])
            .map_err(|e| ConfigProblem(e.to_string()))
    }

    fn configure(&mut self, section: serde_json::Value) -> Result<(), ConfigProblem> {
        serde_json::from_value::<Section>(section)
            .map(|_| ())
            .map_err(|e| ConfigProblem(format!("[resp]: {e}")))
    }

    fn check_resource(&self, resource: &Resource) -> Result<(), ConfigProblem> {
        let problem = |what: String| Err(ConfigProblem(format!("resource `{}`: {what}", resource.name)));
        if let Some(key) = resource.settings.keys().next() {
            return problem(format!("unknown key `{key}`"));
        }
        // No TLS towards the target here, so no way to it that others can listen on.
        match resource.address.parse::<std::net::SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(()),
            _ => problem(format!(
                "address `{}` is no IP:port on loopback",
                resource.address
            )),
        }
    }

    async fn meaning(
        &self,
        _: &Arc<Gateway>,
        resource: &Arc<Resource>,
        statement: &str,
        _: Option<&str>,
        _: bool,
    ) -> Result<Meaning, ConfigProblem> {
        let words =
            commands::words(statement).ok_or_else(|| ConfigProblem("this is no command".to_owned()))?;
        let arguments: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        match commands::look_up(&resource.name, &arguments).asked {
            Ok(question) => Ok(question.operations.into()),
            Err(denial) => Err(ConfigProblem(format!(
                "no policy can permit this: {}",
                denial.hint
            ))),
        }
    }

    async fn serve(self: Arc<Self>, mut connection: Connection) -> Result<(), ServeError> {
        let deadline = connection.deadline;
        let mut input = BytesMut::new();
        let opened = Connection::in_time(deadline, async {
            if !secure(&mut connection).await? {
                return Ok(None);
            }
            Self::log_in(&mut connection, &mut input).await
        });
        let Some((mut scope, login)) = opened.await? else {
            return Ok(());
        };
        drop(connection.half_open.take());
        let (target, reply) = match Self::reach(&mut scope, login.hello.as_deref()).await {
            Ok(reached) => reached,
            Err(failure) => {
                tracing::warn!(session = %scope.id(), error = %failure, "no target");
                scope.finish_because(&format!("target not reached: {failure}"));
                send(&mut connection.transport, b"-ERR the target can't be reached\r\n").await?;
                return Err(failure);
            }
        };
        let mut out = Outbound::default();
        out.to_client.extend_from_slice(&reply);
        let session = Session::new(
            &scope.resource().name,
            connection.gateway.limits().statement_bytes,
        );
        let leftover = Leftover {
            client: input,
            target: BytesMut::new(),
        };
        let relay = Relay::new(
            &mut scope,
            session,
            NothingNeeded,
            connection.transport,
            Transport::Tcp(target),
            leftover,
            out,
        );
        relay.run().await;
        Ok(())
    }
}

/// Begins TLS where the client does; `false`: it closed without a word.
async fn secure(connection: &mut Connection) -> Result<bool, ServeError> {
    let nothing = Transport::Other(Box::new(tokio::io::empty()));
    let client = |e: std::io::Error| ServeError::Client(e.to_string());
    match std::mem::replace(&mut connection.transport, nothing) {
        Transport::Tcp(tcp) => {
            let mut first = [0];
            if tcp.peek(&mut first).await.map_err(client)? == 0 {
                return Ok(false);
            }
            connection.transport = if first == [TLS_HANDSHAKE] {
                connection.tls.accept(tcp, &[]).await.map_err(client)?
            } else {
                Transport::Tcp(tcp)
            };
        }
        other => connection.transport = other,
    }
    Ok(true)
}
