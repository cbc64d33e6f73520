//! The beginning of a client's connection: identification strings (RFC 4253, section 4.2), and what the client says it can speak.
//!
//! russh says what the gateway can speak without having heard the client. So the client is heard before russh begins; what it has sent
//! is handed on as it came. Nothing is refused here: what is wrong with it is for russh to say.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::kexinit::{KexInit, MAX_PACKET};

/// What the gateway calls itself.
pub(crate) const IDENTIFICATION: &str = "SSH-2.0-gateway";
/// A client that waits for the other side to begin is kept waiting for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest identification string with its end, in bytes.
const LONGEST: usize = 255;
/// Read at once.
const STEP: usize = 4096;
/// More than this is not waited for: an identification string, and the first packet with its length.
const MOST: usize = LONGEST + 4 + MAX_PACKET;

/// What a client has sent before russh began.
#[derive(Debug)]
pub(crate) struct Greeting {
    read: BytesMut,
}

impl Greeting {
    /// Tells the client who this is, and hears what it can speak; with the number of bytes that were written.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        stream: &mut S,
    ) -> io::Result<(Self, usize)> {
        let line = format!("{IDENTIFICATION}\r\n");
        stream.write_all(line.as_bytes()).await?;
        stream.flush().await?;
        let mut greeting = Self {
            read: BytesMut::new(),
        };
        if let Ok(read) = tokio::time::timeout(PATIENCE, greeting.hear(stream)).await {
            read?;
        }
        Ok((greeting, line.len()))
    }

    /// Reads until its first packet is there, or never will be.
    async fn hear<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        while self.read.len() < MOST && matches!(self.said(), Heard::Part) {
            self.read.reserve(STEP);
            if stream.read_buf(&mut self.read).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// What it has said so far.
    fn said(&self) -> Heard<'_> {
        let Some(end) = self.read.iter().take(LONGEST).position(|byte| *byte == b'\n') else {
            return match self.read.len() < LONGEST {
                true => Heard::Part,
                false => Heard::Nothing,
            };
        };
        let packet = self.read.get(end.saturating_add(1)..).unwrap_or_default();
        match KexInit::parse(packet) {
            Ok(said) => Heard::All(said),
            Err(nom::Err::Incomplete(_)) => Heard::Part,
            Err(_) => Heard::Nothing,
        }
    }

    /// What the client can speak; `None` where it has not said so.
    pub(crate) fn kexinit(&self) -> Option<KexInit<'_>> {
        match self.said() {
            Heard::All(said) => Some(said),
            Heard::Part | Heard::Nothing => None,
        }
    }

    /// All that was read.
    pub(crate) fn into_read(self) -> BytesMut {
        self.read
    }
}

enum Heard<'a> {
    All(KexInit<'a>),
    Part,
    /// Something else.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An identification string and the first packet of a client.
    fn sent() -> Vec<u8> {
        let mut payload = vec![4, 20];
        payload.extend_from_slice(&[7; 16]);
        for list in ["k", "h", "c", "c", "m", "m", "none", "none"] {
            payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(list.as_bytes());
        }
        let mut sent = b"SSH-2.0-x\r\n".to_vec();
        sent.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        sent.extend_from_slice(&payload);
        sent
    }

    #[tokio::test]
    async fn a_client_is_heard_byte_by_byte_and_nothing_is_lost() {
        let (mut client, mut ours) = tokio::io::duplex(1);
        let mut expected = sent();
        expected.extend_from_slice(b"more");
        let writing = expected.clone();
        let writer = tokio::spawn(async move {
            let mut told = vec![0; IDENTIFICATION.len() + 2];
            client.read_exact(&mut told).await.unwrap();
            client.write_all(&writing).await.unwrap();
            told
        });
        let (greeting, written) = Greeting::exchange(&mut ours).await.unwrap();
        assert!(greeting.kexinit().is_some_and(|said| said.speaks("c")));
        let mut read = greeting.into_read().to_vec();
        ours.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, expected);
        let told = writer.await.unwrap();
        assert_eq!(
            (told.len(), told.as_slice()),
            (written, &b"SSH-2.0-gateway\r\n"[..])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_other_side_or_says_something_else_is_handed_on() {
        for begun in [
            &b""[..],
            b"SSH-2.0-x",
            b"SSH-2.0-x\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            &[b'a'; 300],
        ] {
            let (mut client, mut ours) = tokio::io::duplex(1024);
            client.write_all(begun).await.unwrap();
            let before = tokio::time::Instant::now();
            let (greeting, _) = Greeting::exchange(&mut ours).await.unwrap();
            assert!(greeting.kexinit().is_none() && before.elapsed() <= PATIENCE + Duration::from_millis(1));
            assert_eq!(greeting.into_read(), begun);
        }
    }

    #[tokio::test]
    async fn a_first_packet_without_end_is_not_waited_for() {
        let (mut client, mut ours) = tokio::io::duplex(1024);
        let flood = tokio::spawn(async move {
            client.write_all(b"SSH-2.0-x\r\n\x00\x00\x80\x00").await?;
            loop {
                client.write_all(&[0; 1024]).await?;
            }
            #[expect(unreachable_code, reason = "gives the task its type")]
            Ok::<(), io::Error>(())
        });
        let (greeting, _) = Greeting::exchange(&mut ours).await.unwrap();
        assert!(greeting.kexinit().is_none() && greeting.into_read().len() <= MOST + STEP);
        drop(ours);
        assert!(flood.await.unwrap().is_err());
    }
}
