//! One end of a pipe: what it is told to send goes out as fast as the gateway takes it, what comes is answered at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

use super::transport::Transport;

/// What waits to be sent, above which nothing more is added, nor read and answered.
const WAITING: usize = 256 << 10;

/// What an end answers by itself.
pub trait Side: Send + 'static {
    /// The key exchange is over.
    fn begin(&mut self, transport: &mut Transport);
    /// A message came.
    fn take(&mut self, message: &[u8], transport: &mut Transport);
    /// A message of the script is about to be sent.
    fn sent(&mut self, message: &[u8]);
    /// It does not read for a while.
    fn stalls(&mut self) {}
}

/// What an end is told.
pub enum Command {
    Message(Vec<u8>, usize),
    Raw(Vec<u8>),
    /// Stops reading, or reads again.
    Reading,
    /// Reads from now on.
    Read,
    Close,
}

/// An end that runs.
pub struct Peer {
    commands: UnboundedSender<Command>,
    task: JoinHandle<()>,
    taken: Arc<AtomicUsize>,
}

impl Peer {
    pub fn start(transport: Transport, side: impl Side, pipe: DuplexStream) -> Self {
        let (commands, told) = mpsc::unbounded_channel();
        let taken = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(run(transport, side, pipe, told, taken.clone()));
        Self {
            commands,
            task,
            taken,
        }
    }

    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Bytes that the gateway, or its pipe, has taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

async fn run(
    mut transport: Transport,
    mut side: impl Side,
    mut pipe: DuplexStream,
    mut told: UnboundedReceiver<Command>,
    taken: Arc<AtomicUsize>,
) {
    let mut queue: VecDeque<Command> = VecDeque::new();
    let mut out = BytesMut::new();
    let (mut reading, mut writing, mut listening, mut begun) = (true, true, true, false);
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        while out.len() < WAITING {
            match queue.front_mut() {
                Some(Command::Message(message, often)) if *often > 0 => {
                    *often -= 1;
                    side.sent(message);
                    transport.send(message);
                }
                Some(Command::Raw(bytes)) => {
                    transport.out.append(bytes);
                    queue.pop_front();
                }
                Some(_) => drop(queue.pop_front()),
                None if transport.out.is_empty() => break,
                None => {}
            }
            out.extend_from_slice(&std::mem::take(&mut transport.out));
        }
        if !writing {
            out.clear();
        }
        if !reading || out.len() >= WAITING {
            side.stalls();
        }
        let (mut read, mut write) = tokio::io::split(&mut pipe);
        tokio::select! {
            biased;
            command = told.recv(), if listening => match command {
                Some(Command::Reading) => reading = !reading,
                Some(Command::Read) => reading = true,
                Some(Command::Close) => return,
                Some(command) => queue.push_back(command),
                None => listening = false,
            },
            written = write.write(&out), if !out.is_empty() => match written {
                Ok(bytes) => {
                    taken.fetch_add(bytes, Ordering::Relaxed);
                    out.advance(bytes);
                }
                // What it still says is read all the same.
                Err(_) => writing = false,
            },
            came = read.read_buf(&mut buffer), if reading && out.len() < WAITING => {
                if !matches!(came, Ok(1..)) {
                    return;
                }
                let messages = transport.take(&buffer);
                buffer.clear();
                if transport.is_open() && !begun {
                    begun = true;
                    side.begin(&mut transport);
                }
                for message in messages {
                    side.take(&message, &mut transport);
                }
            }
        }
    }
}
