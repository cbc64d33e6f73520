//! The machine: one `Authentication` in, one [`Reply`] out.

use std::{fmt, mem};

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl;
use secrecy::{ExposeSecret, SecretSlice};
use zeroize::{Zeroize, Zeroizing};

use super::scram::{Final, First};
use super::{LoginError, scram};
use crate::wire::EncodeError;
use crate::wire::backend::Authentication;
use crate::wire::frontend::{PasswordMessage, SaslInitialResponse, SaslResponse};

/// What a target may ask of us. The default allows SCRAM, and trust, without channel binding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Send the password in clear when asked: inside of TLS with a verified certificate, or where the
    /// configuration says so.
    pub allow_clear: bool,
    /// Send the password hashed with MD5 when asked. Whoever reads it can guess at the password offline.
    pub allow_md5: bool,
    /// Whether SCRAM is bound to the TLS connection.
    pub binding: ChannelBinding,
}

/// How SCRAM is bound to the TLS connection.
///
/// PostgreSQL documentation, SCRAM-SHA-256 Authentication; RFC 5929, 4 The tls-server-end-point
/// Channel Binding Type.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// It can't be: there is no TLS, or no hash of its certificate.
    #[default]
    Unsupported,
    /// With the hash of the target's certificate, where the target offers it.
    Preferred(Vec<u8>),
    /// With the hash of the target's certificate; every other way is refused, trust too.
    Required(Vec<u8>),
}

impl ChannelBinding {
    fn is_required(&self) -> bool {
        matches!(self, Self::Required(_))
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "Unsupported",
            Self::Preferred(_) => "Preferred",
            Self::Required(_) => "Required",
        })
    }
}

/// What to do after a message of the target. Doesn't print what it holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// Send this whole frame. It may hold the password and is wiped when dropped.
    Send(Zeroizing<Vec<u8>>),
    /// Wait for the target's next message.
    Wait,
    /// The target is satisfied, and so are we.
    Done,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send(..)",
            Self::Wait => "Wait",
            Self::Done => "Done",
        })
    }
}

/// Where the login stands. Every state owns what it needs, and whatever isn't expected ends in `Over`.
enum State {
    /// Nothing was asked yet.
    Start,
    /// A password or its MD5 was sent.
    PasswordSent,
    /// SCRAM's first message was sent.
    ScramFirst(First),
    /// SCRAM's proof was sent.
    ScramFinal(Final),
    /// The target has proved that it knows the password.
    Proven,
    /// Done, or failed.
    Over,
}

/// The login of one connection to the target.
///
/// ```
/// use proto_postgres::login::{Options, Reply, TargetLogin};
/// use proto_postgres::wire::backend::Authentication;
///
/// let password = b"hunter2".to_vec().into();
/// let options = Options { allow_md5: true, ..Options::default() };
/// let mut login = TargetLogin::new("ann", Some(password), options);
/// let reply = login.handle(&Authentication::Md5Password { salt: [1, 2, 3, 4] })?;
/// assert!(matches!(reply, Reply::Send(frame) if frame.starts_with(b"p\0\0\0\x28md5")));
/// assert_eq!(login.handle(&Authentication::Ok)?, Reply::Done);
/// # Ok::<(), proto_postgres::login::LoginError>(())
/// ```
pub struct TargetLogin {
    user: String,
    password: Option<SecretSlice<u8>>,
    options: Options,
    state: State,
}

impl TargetLogin {
    /// A login as `user`, the name in the start-up message; MD5 salts with it.
    #[must_use]
    pub fn new(user: impl Into<String>, password: Option<SecretSlice<u8>>, options: Options) -> Self {
        Self {
            user: user.into(),
            password,
            options,
            state: State::Start,
        }
    }

    /// Takes the target's next message.
    ///
    /// SCRAM's `SaslContinue` costs up to [`MAX_ITERATIONS`](super::MAX_ITERATIONS) rounds of HMAC:
    /// tens of milliseconds at worst.
    ///
    /// # Errors
    ///
    /// Whatever isn't allowed, isn't supported, or isn't what a target that knows the password sends
    /// next. The login is over then, and so is the connection.
    pub fn handle(&mut self, message: &Authentication<'_>) -> Result<Reply, LoginError> {
        let (state, reply) = match (mem::replace(&mut self.state, State::Over), message) {
            (State::Start, Authentication::Ok) => self.trusted()?,
            (State::Start, Authentication::CleartextPassword) => self.clear()?,
            (State::Start, Authentication::Md5Password { salt }) => self.md5(*salt)?,
            (State::Start, Authentication::Sasl { mechanisms }) => self.scram(mechanisms)?,
            (State::Start, Authentication::Other { code, .. }) => {
                return Err(LoginError::UnsupportedMethod(*code));
            }
            (State::ScramFirst(first), Authentication::SaslContinue(data)) => {
                let (last, response) = first.handle(data)?;
                let data = &response[..];
                (
                    State::ScramFinal(last),
                    send(data.len(), |out| SaslResponse { data }.encode(out))?,
                )
            }
            (State::ScramFinal(last), Authentication::SaslFinal(data)) => {
                last.handle(data)?;
                (State::Proven, Reply::Wait)
            }
            (State::PasswordSent | State::Proven, Authentication::Ok) => (State::Over, Reply::Done),
            (State::ScramFirst(_) | State::ScramFinal(_), Authentication::Ok) => {
                return Err(LoginError::NotProven);
            }
            _ => return Err(LoginError::OutOfOrder),
        };
        self.state = state;
        Ok(reply)
    }

    /// The target lets us in without asking. Nothing of ours is given away by that.
    fn trusted(&self) -> Result<(State, Reply), LoginError> {
        self.unbound()?;
        Ok((State::Over, Reply::Done))
    }

    fn clear(&self) -> Result<(State, Reply), LoginError> {
        self.unbound()?;
        if !self.options.allow_clear {
            return Err(LoginError::ClearRefused);
        }
        let password = self.password()?;
        Ok((
            State::PasswordSent,
            send(password.len(), |out| PasswordMessage { password }.encode(out))?,
        ))
    }

    fn md5(&self, salt: [u8; 4]) -> Result<(State, Reply), LoginError> {
        self.unbound()?;
        if !self.options.allow_md5 {
            return Err(LoginError::Md5Refused);
        }
        let hash = Zeroizing::new(md5_hash(self.user.as_bytes(), self.password()?, salt));
        let password = hash.as_bytes();
        Ok((
            State::PasswordSent,
            send(password.len(), |out| PasswordMessage { password }.encode(out))?,
        ))
    }

    fn scram(&self, mechanisms: &[&[u8]]) -> Result<(State, Reply), LoginError> {
        let offered = |name: &str| mechanisms.contains(&name.as_bytes());
        let plus = offered(sasl::SCRAM_SHA_256_PLUS);
        let (mechanism, binding) = match &self.options.binding {
            ChannelBinding::Preferred(hash) | ChannelBinding::Required(hash) if plus => (
                sasl::SCRAM_SHA_256_PLUS,
                sasl::ChannelBinding::tls_server_end_point(hash.clone()),
            ),
            ChannelBinding::Required(_) => return Err(LoginError::NoChannelBinding),
            // "We could have, and you didn't offer it": a target that did offer it sees the tampering.
            ChannelBinding::Preferred(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
            ChannelBinding::Unsupported => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
        };
        if !offered(mechanism) {
            return Err(LoginError::UnsupportedMechanism);
        }
        let first = scram::First::new(self.password()?, binding);
        let response = Some(first.message());
        let message = SaslInitialResponse {
            mechanism: mechanism.as_bytes(),
            response,
        };
        let reply = send(first.message().len(), |out| message.encode(out))?;
        Ok((State::ScramFirst(first), reply))
    }

    /// For every way that has no channel binding.
    fn unbound(&self) -> Result<(), LoginError> {
        if self.options.binding.is_required() {
            Err(LoginError::NoChannelBinding)
        } else {
            Ok(())
        }
    }

    fn password(&self) -> Result<&[u8], LoginError> {
        match &self.password {
            Some(password) if !password.expose_secret().is_empty() => Ok(password.expose_secret()),
            _ => Err(LoginError::NoPassword),
        }
    }
}

impl fmt::Debug for TargetLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetLogin")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A frame in a buffer that is wiped, made without growing, so that no copy stays behind.
fn send(
    payload: usize,
    encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<Reply, LoginError> {
    let mut out = BytesMut::with_capacity(payload.saturating_add(64));
    let encoded = encode(&mut out);
    let frame = Zeroizing::new(out.to_vec());
    out.as_mut().zeroize();
    encoded.map_err(LoginError::Password)?;
    Ok(Reply::Send(frame))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::wire::frame;

    const PASSWORD: &[u8] = b"correct horse";

    fn login(options: Options) -> TargetLogin {
        TargetLogin::new("md5_user", Some(PASSWORD.to_vec().into()), options)
    }

    fn body(reply: Reply) -> Vec<u8> {
        let Reply::Send(sent) = reply else {
            panic!("nothing to send")
        };
        let (frame, rest) = frame::split(&sent, usize::MAX).expect("valid").expect("complete");
        assert!(frame.tag == b'p' && rest.is_empty());
        frame.body.to_vec()
    }

    fn offer<'a>(names: &[&'a str]) -> Authentication<'a> {
        Authentication::Sasl {
            mechanisms: names.iter().map(|name| name.as_bytes()).collect(),
        }
    }

    fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    }

    /// The server's side of SCRAM, from a stored verifier as `pg_authid` has it.
    struct Server {
        salt: String,
        stored_key: Vec<u8>,
        server_key: Vec<u8>,
        cbind: Vec<u8>,
        client_first_bare: String,
        server_first: String,
    }

    impl Server {
        fn new(password: &[u8], cbind: &[u8]) -> Self {
            let verifier = postgres_protocol::password::scram_sha_256(password);
            let parts: Vec<&str> = verifier.split(['$', ':']).collect();
            let ["SCRAM-SHA-256", "4096", salt, stored, server] = parts[..] else {
                panic!("an unknown kind of verifier")
            };
            Self {
                salt: salt.to_owned(),
                stored_key: STANDARD.decode(stored).expect("base64"),
                server_key: STANDARD.decode(server).expect("base64"),
                cbind: cbind.to_vec(),
                client_first_bare: String::new(),
                server_first: String::new(),
            }
        }

        fn first(&mut self, initial: &[u8], mechanism: &[u8]) -> Vec<u8> {
            let initial = SaslInitialResponse::parse(initial).expect("well formed");
            assert_eq!(initial.mechanism, mechanism);
            let message = String::from_utf8(initial.response.expect("there").to_vec()).expect("UTF-8");
            let (gs2, bare) = message.split_once(",,").expect("gs2 header");
            assert!(self.cbind.starts_with(format!("{gs2},,").as_bytes()), "{gs2}");
            self.client_first_bare = bare.to_owned();
            let nonce = message.rsplit("r=").next().expect("nonce");
            self.server_first = format!("r={nonce}SERVER,s={},i=4096", self.salt);
            self.server_first.clone().into_bytes()
        }

        /// Checks the proof and gives the signature.
        fn last(&self, response: &[u8]) -> Vec<u8> {
            let message =
                std::str::from_utf8(SaslResponse::parse(response).expect("any").data).expect("UTF-8");
            let (unproved, proof) = message.rsplit_once(",p=").expect("proof");
            let cbind = unproved
                .strip_prefix("c=")
                .and_then(|rest| rest.split_once(",r="));
            let (cbind, _nonce) = cbind.expect("channel binding, then nonce");
            assert_eq!(STANDARD.decode(cbind).expect("base64"), self.cbind);
            let auth = format!("{},{},{unproved}", self.client_first_bare, self.server_first);
            let signature = mac(&self.stored_key, auth.as_bytes());
            let proof = STANDARD.decode(proof).expect("base64");
            let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
            assert_eq!(
                Sha256::digest(&client_key).to_vec(),
                self.stored_key,
                "the proof is wrong"
            );
            format!("v={}", STANDARD.encode(mac(&self.server_key, auth.as_bytes()))).into_bytes()
        }
    }

    /// Up to the server's signature, which isn't handed over yet.
    fn until_signature(options: Options, mechanisms: &[&str], cbind: &[u8]) -> (TargetLogin, Vec<u8>) {
        let (mut login, mut server) = (login(options), Server::new(PASSWORD, cbind));
        let initial = body(login.handle(&offer(mechanisms)).expect("offered"));
        let first = server.first(&initial, mechanisms[0].as_bytes());
        let response = body(
            login
                .handle(&Authentication::SaslContinue(&first))
                .expect("well formed"),
        );
        let last = server.last(&response);
        (login, last)
    }

    #[test]
    fn scram_proves_both_sides() {
        let (mut login, last) = until_signature(Options::default(), &["SCRAM-SHA-256"], b"n,,");
        assert_eq!(login.handle(&Authentication::SaslFinal(&last)), Ok(Reply::Wait));
        assert_eq!(login.handle(&Authentication::Ok), Ok(Reply::Done));
        assert_eq!(login.handle(&Authentication::Ok), Err(LoginError::OutOfOrder));
    }

    #[test]
    fn scram_plus_is_bound_to_the_certificate() {
        let hash = vec![0xab; 32];
        let cbind = [b"p=tls-server-end-point,,", &hash[..]].concat();
        for binding in [
            ChannelBinding::Preferred(hash.clone()),
            ChannelBinding::Required(hash.clone()),
        ] {
            let options = Options {
                binding,
                ..Options::default()
            };
            let (mut login, last) =
                until_signature(options, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], &cbind);
            assert_eq!(login.handle(&Authentication::SaslFinal(&last)), Ok(Reply::Wait));
            assert_eq!(login.handle(&Authentication::Ok), Ok(Reply::Done));
        }
    }

    #[test]
    fn a_stripped_offer_of_channel_binding_shows() {
        let options = Options {
            binding: ChannelBinding::Preferred(vec![1]),
            ..Options::default()
        };
        let (mut login, last) = until_signature(options, &["SCRAM-SHA-256"], b"y,,");
        assert_eq!(login.handle(&Authentication::SaslFinal(&last)), Ok(Reply::Wait));
    }

    #[test]
    fn required_channel_binding_refuses_every_other_way() {
        let ways = [
            Authentication::Ok,
            Authentication::CleartextPassword,
            Authentication::Md5Password { salt: [0; 4] },
            offer(&["SCRAM-SHA-256"]),
        ];
        for way in ways {
            let binding = ChannelBinding::Required(vec![1]);
            let mut login = login(Options {
                allow_clear: true,
                allow_md5: true,
                binding,
            });
            assert_eq!(login.handle(&way), Err(LoginError::NoChannelBinding), "{way:?}");
        }
    }

    #[test]
    fn a_wrong_signature_is_refused_and_ends_the_login() {
        let (mut login, mut last) = until_signature(Options::default(), &["SCRAM-SHA-256"], b"n,,");
        last[2] = if last[2] == b'A' { b'B' } else { b'A' };
        assert_eq!(
            login.handle(&Authentication::SaslFinal(&last)),
            Err(LoginError::WrongSignature)
        );
        assert_eq!(login.handle(&Authentication::Ok), Err(LoginError::OutOfOrder));
    }

    #[test]
    fn an_error_or_nothing_in_place_of_the_signature_is_refused() {
        for (last, error) in [
            (&b"e=invalid-proof"[..], LoginError::ScramRefused),
            (b"v=", LoginError::WrongSignature),
            (b"", LoginError::MalformedScram),
        ] {
            let (mut login, _) = until_signature(Options::default(), &["SCRAM-SHA-256"], b"n,,");
            assert_eq!(login.handle(&Authentication::SaslFinal(last)), Err(error));
        }
    }

    #[test]
    fn ok_before_the_signature_is_refused() {
        let mut early = login(Options::default());
        early.handle(&offer(&["SCRAM-SHA-256"])).expect("offered");
        assert_eq!(early.handle(&Authentication::Ok), Err(LoginError::NotProven));
        let (mut late, _) = until_signature(Options::default(), &["SCRAM-SHA-256"], b"n,,");
        assert_eq!(late.handle(&Authentication::Ok), Err(LoginError::NotProven));
    }

    #[test]
    fn a_change_of_way_is_refused() {
        let allowed = Options {
            allow_clear: true,
            allow_md5: true,
            ..Options::default()
        };
        let mut login = login(allowed);
        login.handle(&offer(&["SCRAM-SHA-256"])).expect("offered");
        assert_eq!(
            login.handle(&Authentication::CleartextPassword),
            Err(LoginError::OutOfOrder)
        );
    }

    #[test]
    fn md5_golden() {
        let options = Options {
            allow_md5: true,
            ..Options::default()
        };
        let mut login = TargetLogin::new("md5_user", Some(b"password".to_vec().into()), options);
        let ask = Authentication::Md5Password {
            salt: [0x2a, 0x3d, 0x8f, 0xe0],
        };
        assert_eq!(
            body(login.handle(&ask).expect("allowed")),
            b"md562af4dd09bbb41884907a838a3233294\0"
        );
        assert_eq!(login.handle(&Authentication::Ok), Ok(Reply::Done));
    }

    #[test]
    fn weak_ways_need_to_be_allowed() {
        let refused = |way| login(Options::default()).handle(&way);
        assert_eq!(
            refused(Authentication::CleartextPassword),
            Err(LoginError::ClearRefused)
        );
        assert_eq!(
            refused(Authentication::Md5Password { salt: [0; 4] }),
            Err(LoginError::Md5Refused)
        );
        let mut clear = login(Options {
            allow_clear: true,
            ..Options::default()
        });
        assert_eq!(
            body(clear.handle(&Authentication::CleartextPassword).expect("allowed")),
            b"correct horse\0"
        );
        assert_eq!(clear.handle(&Authentication::Ok), Ok(Reply::Done));
    }

    #[test]
    fn trust_needs_no_password_and_the_others_do() {
        let without = || {
            TargetLogin::new(
                "ann",
                None,
                Options {
                    allow_clear: true,
                    ..Options::default()
                },
            )
        };
        assert_eq!(without().handle(&Authentication::Ok), Ok(Reply::Done));
        assert_eq!(
            without().handle(&Authentication::CleartextPassword),
            Err(LoginError::NoPassword)
        );
        assert_eq!(
            without().handle(&offer(&["SCRAM-SHA-256"])),
            Err(LoginError::NoPassword)
        );
    }

    #[test]
    fn unsupported_ways_are_named() {
        let refused = |way| login(Options::default()).handle(&way);
        assert_eq!(
            refused(Authentication::Other { code: 7, data: b"" }),
            Err(LoginError::UnsupportedMethod(7))
        );
        assert_eq!(
            refused(offer(&["OAUTHBEARER"])),
            Err(LoginError::UnsupportedMechanism)
        );
        assert_eq!(
            refused(offer(&["SCRAM-SHA-256-PLUS"])),
            Err(LoginError::UnsupportedMechanism)
        );
        assert_eq!(refused(offer(&[])), Err(LoginError::UnsupportedMechanism));
        assert_eq!(
            refused(Authentication::SaslFinal(b"v=")),
            Err(LoginError::OutOfOrder)
        );
    }

    #[test]
    fn nothing_prints_the_password() {
        let mut login = TargetLogin::new(
            "ann",
            Some(b"hunter\x002".to_vec().into()),
            Options {
                allow_clear: true,
                ..Options::default()
            },
        );
        assert!(!format!("{login:?}").contains("hunter"));
        let error = login
            .handle(&Authentication::CleartextPassword)
            .expect_err("a NUL can't be sent");
        assert_eq!(
            error.to_string(),
            "configured password cannot be sent: cannot encode PasswordMessage: password contains a NUL"
        );
        let reply = Reply::Send(Zeroizing::new(b"hunter2".to_vec()));
        assert_eq!(format!("{reply:?}"), "Send(..)");
    }
}
