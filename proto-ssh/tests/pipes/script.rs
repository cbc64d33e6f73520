//! What a script of bytes says, and how one is written.
//!
//! One byte of settings, then turns: a byte, a length of two bytes, little-endian, and that many bytes. What is cut off at the
//! end belongs to the last turn. A turn without bytes is an action, see [`Action`].

use std::time::Duration;

/// Turns that are played.
const TURNS: usize = 96;
/// Bytes that one script sends, with what is repeated.
const BYTES: usize = 16 << 20;

/// The settings, by their bits.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// The client sends nothing but what the script says, in the clear.
    pub bare_client: bool,
    /// The client does not log in by itself.
    pub no_login: bool,
    /// The client refuses what is opened towards it.
    pub refusing: bool,
    /// The target is the same as `bare_client`.
    pub bare_target: bool,
    /// The target answers nothing behind its login.
    pub dumb_target: bool,
    /// It says of every path that it leads to where nobody may read.
    pub lying: bool,
    /// What the target shows is looked through.
    pub detects: bool,
    /// It lets nobody in by itself.
    pub shut: bool,
}

/// A turn without bytes: by its second bit, and for a client the two that name a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Stops reading, or reads again.
    Reading,
    /// Closes the connection.
    Close,
    /// An operator kills the session.
    Kill,
    /// The gateway is about to stop.
    Drain,
}

/// What is done in a turn.
pub enum What<'a> {
    /// A message, sent as often.
    Message(&'a [u8], usize),
    /// Bytes beside the encryption.
    Raw(&'a [u8]),
    Action(Action),
}

/// A turn.
pub struct Turn<'a> {
    /// None: the client. Else a connection to the target, counted from the newest.
    pub target: Option<usize>,
    pub what: What<'a>,
    /// How long nobody does anything after it.
    pub pause: Duration,
}

/// Reads a script.
pub fn read(data: &[u8]) -> Option<(Settings, Vec<Turn<'_>>)> {
    let (settings, mut data) = data.split_first()?;
    let bit = |number: u8| settings & (1 << number) != 0;
    let settings = Settings {
        bare_client: bit(0),
        no_login: bit(1),
        refusing: bit(2),
        bare_target: bit(3),
        dumb_target: bit(4),
        lying: bit(5),
        detects: bit(6),
        shut: bit(7),
    };
    let (mut turns, mut left) = (Vec::new(), BYTES);
    while let [head, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (bytes, after) = rest.split_at(length);
        data = after;
        let raw = head & 2 != 0;
        let which = usize::from(head >> 4 & 3);
        let repeated = [1, 2, 32, 256][usize::from(head >> 6)];
        let what = match (bytes.is_empty(), raw, head & 1, which) {
            (true, false, 0, 1) => What::Action(Action::Kill),
            (true, false, 0, 2) => What::Action(Action::Drain),
            (true, false, ..) => What::Action(Action::Reading),
            (true, true, ..) => What::Action(Action::Close),
            (false, true, ..) => What::Raw(bytes),
            (false, false, ..) => What::Message(bytes, repeated.min(left / bytes.len()).max(1)),
        };
        left = match what {
            What::Message(bytes, often) => left.saturating_sub(bytes.len() * often),
            _ => left.saturating_sub(bytes.len()),
        };
        turns.push(Turn {
            target: (head & 1 == 1).then_some(which),
            what,
            pause: [1, 60, 1500, 90_000].map(Duration::from_millis)[usize::from(head >> 2 & 3)],
        });
        if turns.len() == TURNS || left == 0 {
            break;
        }
    }
    Some((settings, turns))
}

/// The head of a turn.
#[derive(Clone, Copy, Default)]
pub struct Head(pub u8);

/// Of the client.
pub const CLIENT: Head = Head(0);
/// Of the newest connection to the target.
pub const TARGET: Head = Head(1);

impl Head {
    pub fn raw(self) -> Self {
        Self(self.0 | 2)
    }

    /// With a pause: 0 the shortest, 3 the longest.
    pub fn pause(self, pause: u8) -> Self {
        Self(self.0 | (pause & 3) << 2)
    }

    /// Of an older connection, or with another action.
    pub fn which(self, which: u8) -> Self {
        Self(self.0 | (which & 3) << 4)
    }

    pub fn often(self, often: u8) -> Self {
        Self(self.0 | (often & 3) << 6)
    }

    /// The turn.
    pub fn turn(self, bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[self.0], &length[..], bytes].concat()
    }
}
