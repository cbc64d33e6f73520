//! A client that logs in, opens the windows of what it reads, and answers what the gateway asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::echo::Echo;
use super::fixture::{SECRET, TOKEN};
use super::peer::Side;
use super::script::Settings;
use super::transport::Transport;
use super::watch::Watch;
use super::wire::{Message, Take, adjust, number, plain};

/// The first number of channels that the gateway opens.
const THEIRS: u32 = 1000;

pub struct Client {
    pub settings: Settings,
    pub watch: Arc<Watch>,
    /// How many channels the gateway has opened.
    pub theirs: u32,
    /// The gateway's number of each channel, by ours.
    pub channels: HashMap<u32, u32>,
    /// Where the target says nothing but what it is asked for.
    pub echo: Option<Echo>,
}

impl Side for Client {
    fn begin(&mut self, transport: &mut Transport) {
        if !self.settings.no_login {
            let service = Message::new(number::SERVICE_REQUEST).string("ssh-userauth");
            transport.send(&service.done());
        }
    }

    fn take(&mut self, message: &[u8], transport: &mut Transport) {
        let secret = SECRET.as_bytes();
        assert!(
            !message.windows(secret.len()).any(|part| part == secret),
            "the client sees a secret of the target"
        );
        self.answer(message, transport);
    }

    fn sent(&mut self, message: &[u8]) {
        if let Some(echo) = &mut self.echo {
            echo.sent(message);
        }
        if message.windows(3).any(|part| part == b"scp") {
            self.watch.scp.store(true, Ordering::Relaxed);
        }
    }
}

impl Client {
    fn answer(&mut self, message: &[u8], transport: &mut Transport) -> Option<()> {
        let mut take = Take(message);
        match take.byte()? {
            number::SERVICE_ACCEPT if !self.settings.no_login => {
                let login = Message::new(number::AUTH_REQUEST)
                    .string("deploy@web-1")
                    .string("ssh-connection")
                    .string("password");
                transport.send(&login.byte(0).string(TOKEN).done());
            }
            number::GLOBAL => {
                take.string()?;
                if take.byte()? != 0 {
                    transport.send(&[number::GLOBAL_FAILURE]);
                }
            }
            number::OPEN => {
                self.watch.opened_to_client(&take.text()?);
                let theirs = take.u32()?;
                self.theirs = self.theirs.wrapping_add(1);
                let message = if self.settings.refusing {
                    let refusal = Message::new(number::OPEN_FAILURE).u32(theirs).u32(1);
                    refusal.string("no").string("")
                } else {
                    let ours = THEIRS.wrapping_add(self.theirs);
                    self.channels.insert(ours, theirs);
                    let yes = Message::new(number::CONFIRMATION).u32(theirs);
                    yes.u32(ours).u32(1 << 20).u32(32768)
                };
                transport.send(&message.done());
            }
            number::CONFIRMATION => {
                let (ours, theirs) = (take.u32()?, take.u32()?);
                self.channels.insert(ours, theirs);
                if let Some(echo) = &mut self.echo {
                    echo.confirmed(ours, theirs);
                }
            }
            number::DATA => {
                let (ours, bytes) = (take.u32()?, take.string()?);
                if let Some(echo) = &mut self.echo {
                    echo.came(ours, bytes);
                }
                transport.send(&adjust(*self.channels.get(&ours)?, bytes.len()));
            }
            number::EXTENDED_DATA => {
                let (ours, _) = (take.u32()?, take.u32()?);
                let bytes = take.string()?.len();
                transport.send(&adjust(*self.channels.get(&ours)?, bytes));
            }
            number::CLOSE => {
                let theirs = self.channels.remove(&take.u32()?)?;
                transport.send(&plain(number::CLOSE, theirs));
            }
            _ => {}
        }
        Some(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(echo) = self.echo.as_ref().filter(|_| !std::thread::panicking()) {
            for _ in 0..echo.check() {
                self.watch.saw("echo");
            }
        }
    }
}
