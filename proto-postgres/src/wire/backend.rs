//! Messages of the server, one a file.
//!
//! [`ErrorBuilder`] makes the errors and notices that the gateway itself sends.

pub(crate) mod authentication;
pub(crate) mod backend_key_data;
pub(crate) mod bind_complete;
pub(crate) mod close_complete;
pub(crate) mod command_complete;
pub(crate) mod copy_both_response;
pub(crate) mod copy_data;
pub(crate) mod copy_done;
pub(crate) mod copy_in_response;
pub(crate) mod copy_out_response;
pub(crate) mod data_row;
pub(crate) mod empty_query_response;
pub(crate) mod error_builder;
pub(crate) mod error_response;
pub(crate) mod fields;
pub(crate) mod function_call_response;
pub(crate) mod negotiate_protocol_version;
pub(crate) mod no_data;
pub(crate) mod notice_response;
pub(crate) mod notification_response;
pub(crate) mod parameter_description;
pub(crate) mod parameter_status;
pub(crate) mod parse_complete;
pub(crate) mod portal_suspended;
pub(crate) mod ready_for_query;
pub(crate) mod row_description;

use bytes::{BufMut, BytesMut};

use super::debug::Hidden;
use super::error::{EncodeError, Kind, ParseError};
use super::put;

pub use authentication::Authentication;
pub use backend_key_data::BackendKeyData;
pub use bind_complete::BindComplete;
pub use close_complete::CloseComplete;
pub use command_complete::CommandComplete;
pub use copy_both_response::CopyBothResponse;
pub use copy_data::CopyData;
pub use copy_done::CopyDone;
pub use copy_in_response::CopyInResponse;
pub use copy_out_response::CopyOutResponse;
pub use data_row::{Columns, DataRow};
pub use empty_query_response::EmptyQueryResponse;
pub use error_builder::{ErrorBuilder, Severity, sqlstate};
pub use error_response::ErrorResponse;
pub use fields::field;
pub use function_call_response::FunctionCallResponse;
pub use negotiate_protocol_version::NegotiateProtocolVersion;
pub use no_data::NoData;
pub use notice_response::NoticeResponse;
pub use notification_response::NotificationResponse;
pub use parameter_description::ParameterDescription;
pub use parameter_status::ParameterStatus;
pub use parse_complete::ParseComplete;
pub use portal_suspended::PortalSuspended;
pub use ready_for_query::{ReadyForQuery, TransactionStatus};
pub use row_description::{FieldDescription, RowDescription};

/// Any tagged message of the server.
///
/// PostgreSQL documentation, Message Formats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// [`Authentication`].
    Authentication(Authentication<'a>),
    /// [`BackendKeyData`].
    BackendKeyData(BackendKeyData<'a>),
    /// [`BindComplete`].
    BindComplete(BindComplete),
    /// [`CloseComplete`].
    CloseComplete(CloseComplete),
    /// [`CommandComplete`].
    CommandComplete(CommandComplete<'a>),
    /// [`CopyBothResponse`].
    CopyBothResponse(CopyBothResponse),
    /// [`CopyData`].
    CopyData(CopyData<'a>),
    /// [`CopyDone`].
    CopyDone(CopyDone),
    /// [`CopyInResponse`].
    CopyInResponse(CopyInResponse),
    /// [`CopyOutResponse`].
    CopyOutResponse(CopyOutResponse),
    /// [`DataRow`].
    DataRow(DataRow<'a>),
    /// [`EmptyQueryResponse`].
    EmptyQueryResponse(EmptyQueryResponse),
    /// [`ErrorResponse`].
    ErrorResponse(ErrorResponse<'a>),
    /// [`FunctionCallResponse`].
    FunctionCallResponse(FunctionCallResponse<'a>),
    /// [`NegotiateProtocolVersion`].
    NegotiateProtocolVersion(NegotiateProtocolVersion<'a>),
    /// [`NoData`].
    NoData(NoData),
    /// [`NoticeResponse`].
    NoticeResponse(NoticeResponse<'a>),
    /// [`NotificationResponse`].
    NotificationResponse(NotificationResponse<'a>),
    /// [`ParameterDescription`].
    ParameterDescription(ParameterDescription),
    /// [`ParameterStatus`].
    ParameterStatus(ParameterStatus<'a>),
    /// [`ParseComplete`].
    ParseComplete(ParseComplete),
    /// [`PortalSuspended`].
    PortalSuspended(PortalSuspended),
    /// [`ReadyForQuery`].
    ReadyForQuery(ReadyForQuery),
    /// [`RowDescription`].
    RowDescription(RowDescription<'a>),
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
            b'R' => Authentication::parse(body).map(Self::Authentication),
            b'K' => BackendKeyData::parse(body).map(Self::BackendKeyData),
            b'2' => BindComplete::parse(body).map(Self::BindComplete),
            b'3' => CloseComplete::parse(body).map(Self::CloseComplete),
            b'C' => CommandComplete::parse(body).map(Self::CommandComplete),
            b'W' => CopyBothResponse::parse(body).map(Self::CopyBothResponse),
            b'd' => CopyData::parse(body).map(Self::CopyData),
            b'c' => CopyDone::parse(body).map(Self::CopyDone),
            b'G' => CopyInResponse::parse(body).map(Self::CopyInResponse),
            b'H' => CopyOutResponse::parse(body).map(Self::CopyOutResponse),
            b'D' => DataRow::parse(body).map(Self::DataRow),
            b'I' => EmptyQueryResponse::parse(body).map(Self::EmptyQueryResponse),
            b'E' => ErrorResponse::parse(body).map(Self::ErrorResponse),
            b'V' => FunctionCallResponse::parse(body).map(Self::FunctionCallResponse),
            b'v' => NegotiateProtocolVersion::parse(body).map(Self::NegotiateProtocolVersion),
            b'n' => NoData::parse(body).map(Self::NoData),
            b'N' => NoticeResponse::parse(body).map(Self::NoticeResponse),
            b'A' => NotificationResponse::parse(body).map(Self::NotificationResponse),
            b't' => ParameterDescription::parse(body).map(Self::ParameterDescription),
            b'S' => ParameterStatus::parse(body).map(Self::ParameterStatus),
            b'1' => ParseComplete::parse(body).map(Self::ParseComplete),
            b's' => PortalSuspended::parse(body).map(Self::PortalSuspended),
            b'Z' => ReadyForQuery::parse(body).map(Self::ReadyForQuery),
            b'T' => RowDescription::parse(body).map(Self::RowDescription),
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
            Self::Authentication(message) => message.encode(out),
            Self::BackendKeyData(message) => message.encode(out),
            Self::BindComplete(message) => message.encode(out),
            Self::CloseComplete(message) => message.encode(out),
            Self::CommandComplete(message) => message.encode(out),
            Self::CopyBothResponse(message) => message.encode(out),
            Self::CopyData(message) => message.encode(out),
            Self::CopyDone(message) => message.encode(out),
            Self::CopyInResponse(message) => message.encode(out),
            Self::CopyOutResponse(message) => message.encode(out),
            Self::DataRow(message) => message.encode(out),
            Self::EmptyQueryResponse(message) => message.encode(out),
            Self::ErrorResponse(message) => message.encode(out),
            Self::FunctionCallResponse(message) => message.encode(out),
            Self::NegotiateProtocolVersion(message) => message.encode(out),
            Self::NoData(message) => message.encode(out),
            Self::NoticeResponse(message) => message.encode(out),
            Self::NotificationResponse(message) => message.encode(out),
            Self::ParameterDescription(message) => message.encode(out),
            Self::ParameterStatus(message) => message.encode(out),
            Self::ParseComplete(message) => message.encode(out),
            Self::PortalSuspended(message) => message.encode(out),
            Self::ReadyForQuery(message) => message.encode(out),
            Self::RowDescription(message) => message.encode(out),
            Self::Unknown(Unknown { tag, body }) => raw(Kind::backend("Unknown", *tag), body, out),
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
            Self::Authentication(_) => authentication::KIND,
            Self::BackendKeyData(_) => backend_key_data::KIND,
            Self::BindComplete(_) => bind_complete::KIND,
            Self::CloseComplete(_) => close_complete::KIND,
            Self::CommandComplete(_) => command_complete::KIND,
            Self::CopyBothResponse(_) => copy_both_response::KIND,
            Self::CopyData(_) => copy_data::KIND,
            Self::CopyDone(_) => copy_done::KIND,
            Self::CopyInResponse(_) => copy_in_response::KIND,
            Self::CopyOutResponse(_) => copy_out_response::KIND,
            Self::DataRow(_) => data_row::KIND,
            Self::EmptyQueryResponse(_) => empty_query_response::KIND,
            Self::ErrorResponse(_) => error_response::KIND,
            Self::FunctionCallResponse(_) => function_call_response::KIND,
            Self::NegotiateProtocolVersion(_) => negotiate_protocol_version::KIND,
            Self::NoData(_) => no_data::KIND,
            Self::NoticeResponse(_) => notice_response::KIND,
            Self::NotificationResponse(_) => notification_response::KIND,
            Self::ParameterDescription(_) => parameter_description::KIND,
            Self::ParameterStatus(_) => parameter_status::KIND,
            Self::ParseComplete(_) => parse_complete::KIND,
            Self::PortalSuspended(_) => portal_suspended::KIND,
            Self::ReadyForQuery(_) => ready_for_query::KIND,
            Self::RowDescription(_) => row_description::KIND,
            Self::Unknown(unknown) => Kind::backend("Unknown", unknown.tag),
        }
    }
}

fn raw(kind: Kind, body: &[u8], out: &mut BytesMut) -> Result<(), EncodeError> {
    put::frame(kind, out, |out| {
        out.put_slice(body);
        Ok(())
    })
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
}
