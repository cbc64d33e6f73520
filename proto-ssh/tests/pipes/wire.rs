//! Numbers and strings of SSH's messages (RFC 4251, section 5), written and read.

/// Numbers of messages.
pub mod number {
    pub const SERVICE_REQUEST: u8 = 5;
    pub const SERVICE_ACCEPT: u8 = 6;
    pub const KEXINIT: u8 = 20;
    pub const NEWKEYS: u8 = 21;
    pub const ECDH_INIT: u8 = 30;
    pub const ECDH_REPLY: u8 = 31;
    pub const AUTH_REQUEST: u8 = 50;
    pub const AUTH_SUCCESS: u8 = 52;
    pub const GLOBAL: u8 = 80;
    pub const GLOBAL_SUCCESS: u8 = 81;
    pub const GLOBAL_FAILURE: u8 = 82;
    pub const OPEN: u8 = 90;
    pub const CONFIRMATION: u8 = 91;
    pub const OPEN_FAILURE: u8 = 92;
    pub const ADJUST: u8 = 93;
    pub const DATA: u8 = 94;
    pub const EXTENDED_DATA: u8 = 95;
    pub const EOF: u8 = 96;
    pub const CLOSE: u8 = 97;
    pub const REQUEST: u8 = 98;
    pub const SUCCESS: u8 = 99;
    pub const FAILURE: u8 = 100;
}

/// A message that is being written.
#[derive(Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn new(number: u8) -> Self {
        Self(vec![number])
    }

    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut all = self.u32(u32::try_from(bytes.len()).unwrap());
        all.0.extend(bytes);
        all
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// `CHANNEL_REQUEST` up to what belongs to its type.
pub fn request(channel: u32, kind: &str, reply: bool) -> Message {
    let message = Message::new(number::REQUEST).u32(channel).string(kind);
    message.byte(u8::from(reply))
}

/// `CHANNEL_OPEN` up to what belongs to its type.
pub fn open(kind: &str, sender: u32, window: u32) -> Message {
    let message = Message::new(number::OPEN).string(kind);
    message.u32(sender).u32(window).u32(32768)
}

/// `CHANNEL_DATA`.
pub fn data(channel: u32, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    Message::new(number::DATA).u32(channel).string(bytes).done()
}

/// A message of a channel without anything else: its end, its close, an answer.
pub fn plain(number: u8, channel: u32) -> Vec<u8> {
    Message::new(number).u32(channel).done()
}

/// `CHANNEL_WINDOW_ADJUST`.
pub fn adjust(channel: u32, bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).unwrap();
    Message::new(number::ADJUST).u32(channel).u32(bytes).done()
}

/// Bytes that are being read.
pub struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    pub fn text(&mut self) -> Option<String> {
        self.string()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}
