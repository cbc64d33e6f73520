//! A PostgreSQL client of raw bytes: sends what no driver sends, and sees every message that arrives.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A message of the server: its tag and its body, without the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first byte, such as `b'T'`.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

impl Frame {
    /// The field of that code in an ErrorResponse or NoticeResponse: `b'C'` the SQLSTATE, `b'D'` the detail.
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|byte| *byte == 0)
            .filter_map(|field| field.split_first())
            .find(|(first, _)| **first == code)
            .map(|(_, text)| String::from_utf8_lossy(text).into_owned())
    }

    /// The columns of a DataRow; `None` for null.
    pub fn columns(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.tag, b'D', "only a DataRow has columns");
        let count = u16::from_be_bytes([self.body[0], self.body[1]]);
        let mut rest = &self.body[2..];
        (0..count)
            .map(|_| {
                let (length, tail) = rest.split_first_chunk::<4>().expect("a column has a length");
                rest = tail;
                let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
                let (value, tail) = rest.split_at(length);
                rest = tail;
                Some(value.to_vec())
            })
            .collect()
    }
}

/// One blocking connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    deadline: Instant,
    buffer: Vec<u8>,
    /// Process id and key of BackendKeyData, once it has come.
    pub key: Option<(u32, Vec<u8>)>,
}

impl RawClient {
    /// Connects; everything on this connection must be done within `limit` from now.
    pub fn connect(address: SocketAddr, limit: Duration) -> Self {
        let stream = TcpStream::connect_timeout(&address, limit).expect("cannot connect");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self {
            stream,
            deadline: Instant::now() + limit,
            buffer: Vec::new(),
            key: None,
        }
    }

    /// A startup packet of protocol 3.0.
    pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in parameters.iter().flat_map(|(key, value)| [key, value]) {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut packet = length(body.len()).to_vec();
        packet.extend_from_slice(&body);
        packet
    }

    /// A message: tag, length, body.
    pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        out.extend_from_slice(&length(body.len()));
        out.extend_from_slice(body);
        out
    }

    /// A Query.
    pub fn query(sql: &str) -> Vec<u8> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        Self::message(b'Q', &body)
    }

    /// A CancelRequest, which is sent on a connection of its own.
    pub fn cancel(process: u32, key: &[u8]) -> Vec<u8> {
        let mut packet = length(8 + key.len()).to_vec();
        packet.extend_from_slice(&80_877_102_u32.to_be_bytes());
        packet.extend_from_slice(&process.to_be_bytes());
        packet.extend_from_slice(key);
        packet
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream
            .set_write_timeout(Some(self.left()))
            .expect("a write timeout");
        self.stream.write_all(bytes).expect("the peer takes no bytes");
    }

    /// The next message; `None` once the peer has closed. Panics when the time is over.
    pub fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                if let (b'K', Some((process, key))) = (frame.tag, frame.body.split_first_chunk::<4>()) {
                    self.key = Some((u32::from_be_bytes(*process), key.to_vec()));
                }
                return Some(frame);
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "the peer closed inside a message");
                return None;
            }
        }
    }

    /// Messages up to and with ReadyForQuery, or to the end of the connection.
    pub fn read_until_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let last = frame.tag == b'Z';
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }

    /// Sends a Query and reads its answer.
    pub fn simple(&mut self, sql: &str) -> Vec<Frame> {
        self.send(&Self::query(sql));
        self.read_until_ready()
    }

    /// Logs in with `secret` where a clear password is asked for, up to ReadyForQuery; else the refusal.
    pub fn login(&mut self, user: &str, database: &str, secret: &str) -> Result<(), Frame> {
        self.send(&Self::startup(&[("user", user), ("database", database)]));
        loop {
            let frame = self.read().expect("closed during the login");
            match frame.tag {
                b'E' => return Err(frame),
                b'Z' => return Ok(()),
                b'R' if frame.body == [0, 0, 0, 3] => {
                    let mut body = secret.as_bytes().to_vec();
                    body.push(0);
                    self.send(&Self::message(b'p', &body));
                }
                b'R' => assert_eq!(
                    frame.body,
                    [0, 0, 0, 0],
                    "an authentication that this client does not know"
                ),
                _ => {}
            }
        }
    }

    fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "no answer in time; so far unread: {:?}",
            self.buffer
        );
        left
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (head, _) = self.buffer.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let end = usize::try_from(length).expect("a length fits") + 1;
        assert!(end >= 5, "a length that does not count itself");
        if self.buffer.len() < end {
            return None;
        }
        let rest = self.buffer.split_off(end);
        let whole = std::mem::replace(&mut self.buffer, rest);
        Some(Frame {
            tag: whole[0],
            body: whole[5..].to_vec(),
        })
    }

    fn fill(&mut self) -> bool {
        self.stream
            .set_read_timeout(Some(self.left()))
            .expect("a read timeout");
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(got) => {
                self.buffer.extend_from_slice(&piece[..got]);
                got > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// The length field of a message whose body has that many bytes.
fn length(body: usize) -> [u8; 4] {
    u32::try_from(body + 4)
        .expect("a message of a sane size")
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_bytes() {
        assert_eq!(RawClient::query("x"), b"Q\0\0\0\x06x\0");
        assert_eq!(
            RawClient::startup(&[("user", "a")]),
            b"\0\0\0\x10\0\x03\0\0user\0a\0\0"
        );
        assert_eq!(
            RawClient::cancel(1, &[0, 0, 0, 2]),
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02"
        );
    }

    #[test]
    fn fields_and_columns_are_found() {
        let error = Frame {
            tag: b'E',
            body: b"SERROR\0C42501\0Mno\0\0".to_vec(),
        };
        assert_eq!(error.field(b'C').as_deref(), Some("42501"));
        assert_eq!(error.field(b'D'), None);
        let row = Frame {
            tag: b'D',
            body: b"\0\x02\0\0\0\x01a\xff\xff\xff\xff".to_vec(),
        };
        assert_eq!(row.columns(), [Some(b"a".to_vec()), None]);
    }
}
