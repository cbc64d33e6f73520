//! What a server answers (draft, section 7).

use super::take;
use super::{Attributes, Encoder, Malformed, Names, TooLong, kind};

/// An answer with the id of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// Chosen by whoever asked.
    pub id: u32,
    /// What is answered.
    pub body: ResponseBody<'a>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the draft's")]
pub enum ResponseBody<'a> {
    Status {
        code: u32,
        message: &'a [u8],
        language: &'a [u8],
    },
    Handle {
        handle: &'a [u8],
    },
    Data {
        data: &'a [u8],
    },
    Name(Names<'a>),
    Attrs(Attributes<'a>),
    /// Its fields depend on the request.
    ExtendedReply {
        data: &'a [u8],
    },
    /// A type that version 3 does not have.
    Unknown {
        kind: u8,
        data: &'a [u8],
    },
}

impl<'a> Response<'a> {
    /// Reads type and body to the end.
    ///
    /// # Errors
    ///
    /// Where it does not consist of its fields.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        use take::{handle, string, u32, whole};
        let (&kind, body) = packet.split_first().ok_or(Malformed::Short)?;
        let (id, body) = body.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let body = match kind {
            kind::STATUS => {
                let (code, message, language) = whole(body, (u32, string, string))?;
                ResponseBody::Status {
                    code,
                    message,
                    language,
                }
            }
            kind::HANDLE => ResponseBody::Handle {
                handle: whole(body, handle)?,
            },
            kind::DATA => ResponseBody::Data {
                data: whole(body, string)?,
            },
            kind::NAME => ResponseBody::Name(whole(body, Names::take)?),
            kind::ATTRS => ResponseBody::Attrs(whole(body, Attributes::take)?),
            kind::EXTENDED_REPLY => ResponseBody::ExtendedReply { data: body },
            kind => ResponseBody::Unknown { kind, data: body },
        };
        Ok(Self {
            id: u32::from_be_bytes(*id),
            body,
        })
    }

    /// Writes the packet.
    ///
    /// # Errors
    ///
    /// Where it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let to = Encoder::new(self.body.kind()).u32(self.id);
        match &self.body {
            ResponseBody::Status {
                code,
                message,
                language,
            } => to.u32(*code).string(message)?.string(language)?,
            ResponseBody::Handle { handle } => to.string(handle)?,
            ResponseBody::Data { data } => to.string(data)?,
            ResponseBody::Name(names) => names.put(to)?,
            ResponseBody::Attrs(attributes) => attributes.put(to)?,
            ResponseBody::ExtendedReply { data } | ResponseBody::Unknown { data, .. } => to.raw(data),
        }
        .finish()
    }
}

impl ResponseBody<'_> {
    /// The type of the packet.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Status { .. } => kind::STATUS,
            Self::Handle { .. } => kind::HANDLE,
            Self::Data { .. } => kind::DATA,
            Self::Name(_) => kind::NAME,
            Self::Attrs(_) => kind::ATTRS,
            Self::ExtendedReply { .. } => kind::EXTENDED_REPLY,
            Self::Unknown { kind, .. } => *kind,
        }
    }
}
