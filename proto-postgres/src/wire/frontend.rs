//! Messages of the client, one a file.
//!
//! The first packet of a connection has no tag: [`StartupPacket`]. All others are [`Message`]s.

pub(crate) mod bind;
pub(crate) mod cancel_request;
pub(crate) mod close;
pub(crate) mod copy_data;
pub(crate) mod copy_done;
pub(crate) mod copy_fail;
pub(crate) mod describe;
pub(crate) mod execute;
pub(crate) mod flush;
pub(crate) mod function_call;
pub(crate) mod gss_enc_request;
pub(crate) mod parse;
pub(crate) mod password;
pub(crate) mod query;
pub(crate) mod sasl_initial_response;
pub(crate) mod sasl_response;
pub(crate) mod ssl_request;
pub(crate) mod startup;
pub(crate) mod startup_packet;
pub(crate) mod sync;
pub(crate) mod target;
pub(crate) mod terminate;

use bytes::{BufMut, BytesMut};

use super::debug::Hidden;
use super::error::{EncodeError, Kind, ParseError};
use super::put;

pub use bind::Bind;
pub use cancel_request::CancelRequest;
pub use close::Close;
pub use copy_data::CopyData;
pub use copy_done::CopyDone;
pub use copy_fail::CopyFail;
pub use describe::Describe;
pub use execute::Execute;
pub use flush::Flush;
pub use function_call::FunctionCall;
pub use gss_enc_request::GssEncRequest;
pub use parse::Parse;
pub use password::PasswordMessage;
pub use query::Query;
pub use sasl_initial_response::SaslInitialResponse;
pub use sasl_response::SaslResponse;
pub use ssl_request::SslRequest;
pub use startup::{ProtocolVersion, StartupMessage};
pub use startup_packet::StartupPacket;
pub use sync::Sync;
pub use target::Target;
pub use terminate::Terminate;

/// Any tagged message of the client.
///
/// PostgreSQL documentation, Message Formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// [`Bind`].
    Bind(Bind<'a>),
    /// [`Close`].
    Close(Close<'a>),
    /// [`CopyData`].
    CopyData(CopyData<'a>),
    /// [`CopyDone`].
    CopyDone(CopyDone),
    /// [`CopyFail`].
    CopyFail(CopyFail<'a>),
    /// [`Describe`].
    Describe(Describe<'a>),
    /// [`Execute`].
    Execute(Execute<'a>),
    /// [`Flush`].
    Flush(Flush),
    /// [`FunctionCall`].
    FunctionCall(FunctionCall<'a>),
    /// [`Parse`].
    Parse(Parse<'a>),
    /// [`Query`].
    Query(Query<'a>),
    /// [`Sync`].
    Sync(Sync),
    /// [`Terminate`].
    Terminate(Terminate),
    /// An answer to [`Authentication`](super::backend::Authentication).
    Credential(Credential<'a>),
    /// A tag that isn't known.
    Unknown(Unknown<'a>),
}

/// A message whose tag isn't known, kept as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// Its tag.
    pub tag: u8,
    /// Its body.
    pub body: &'a [u8],
}

impl std::fmt::Debug for Unknown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unknown")
            .field("tag", &self.tag)
            .field("body", &Hidden(self.body))
            .finish()
    }
}

impl<'a> Message<'a> {
    /// Reads the body of a frame with this tag.
    ///
    /// # Errors
    ///
    /// A body that isn't exactly what the protocol says of this tag. An unknown tag is no error.
    pub fn parse(tag: u8, body: &'a [u8]) -> Result<Self, ParseError> {
        match tag {
            b'B' => Bind::parse(body).map(Self::Bind),
            b'C' => Close::parse(body).map(Self::Close),
            b'd' => CopyData::parse(body).map(Self::CopyData),
            b'c' => CopyDone::parse(body).map(Self::CopyDone),
            b'f' => CopyFail::parse(body).map(Self::CopyFail),
            b'D' => Describe::parse(body).map(Self::Describe),
            b'E' => Execute::parse(body).map(Self::Execute),
            b'H' => Flush::parse(body).map(Self::Flush),
            b'F' => FunctionCall::parse(body).map(Self::FunctionCall),
            b'P' => Parse::parse(body).map(Self::Parse),
            b'Q' => Query::parse(body).map(Self::Query),
            b'S' => Sync::parse(body).map(Self::Sync),
            b'X' => Terminate::parse(body).map(Self::Terminate),
            b'p' => Ok(Self::Credential(Credential { body })),
            _ => Ok(Self::Unknown(Unknown { tag, body })),
        }
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    ///
    /// As the message's own `encode`.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Bind(message) => message.encode(out),
            Self::Close(message) => message.encode(out),
            Self::CopyData(message) => message.encode(out),
            Self::CopyDone(message) => message.encode(out),
            Self::CopyFail(message) => message.encode(out),
            Self::Describe(message) => message.encode(out),
            Self::Execute(message) => message.encode(out),
            Self::Flush(message) => message.encode(out),
            Self::FunctionCall(message) => message.encode(out),
            Self::Parse(message) => message.encode(out),
            Self::Query(message) => message.encode(out),
            Self::Sync(message) => message.encode(out),
            Self::Terminate(message) => message.encode(out),
            Self::Credential(Credential { body }) => raw(CREDENTIAL, body, out),
            Self::Unknown(Unknown { tag, body }) => raw(Kind::frontend("Unknown", *tag), body, out),
        }
    }

    /// The message's name in the protocol's documentation.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().name
    }

    /// The message's tag.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.kind().tag.unwrap_or_default()
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Bind(_) => bind::KIND,
            Self::Close(_) => close::KIND,
            Self::CopyData(_) => copy_data::KIND,
            Self::CopyDone(_) => copy_done::KIND,
            Self::CopyFail(_) => copy_fail::KIND,
            Self::Describe(_) => describe::KIND,
            Self::Execute(_) => execute::KIND,
            Self::Flush(_) => flush::KIND,
            Self::FunctionCall(_) => function_call::KIND,
            Self::Parse(_) => parse::KIND,
            Self::Query(_) => query::KIND,
            Self::Sync(_) => sync::KIND,
            Self::Terminate(_) => terminate::KIND,
            Self::Credential(_) => CREDENTIAL,
            Self::Unknown(unknown) => Kind::frontend("Unknown", unknown.tag),
        }
    }
}

fn raw(kind: Kind, body: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    put::frame(kind, out, |out| {
        out.put_slice(body);
        Ok(())
    })
}

const CREDENTIAL: Kind = Kind::frontend("Credential", b'p');

/// The body of a message with tag `p`. Only what the server has asked for tells whether it's a
/// [`PasswordMessage`], a [`SaslInitialResponse`] or a [`SaslResponse`]: hand the body to the right one.
/// It holds a secret and doesn't print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential<'a> {
    /// The body, not yet read.
    pub body: &'a [u8],
}

impl std::fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_tag_survives() {
        let message = Message::parse(b'~', b"abc").expect("no error");
        assert_eq!(
            message,
            Message::Unknown(Unknown {
                tag: b'~',
                body: b"abc"
            })
        );
        let mut out = BytesMut::new();
        message.encode(&mut out).expect("encodes");
        assert_eq!(&out[..], b"~\0\0\0\x07abc");
        assert_eq!((message.name(), message.tag()), ("Unknown", b'~'));
    }

    #[test]
    fn a_credential_is_not_printed() {
        let message = Message::parse(b'p', b"hunter2\0").expect("any body");
        assert_eq!(format!("{message:?}"), "Credential(Credential { .. })");
    }
}
