//! The whole adapter between two pipes: a client and a target that are both hostile, each with an SSH transport of its own, so
//! that they can send what no library would, and time that passes only where nobody has anything to do.
//!
//! The body plays a script ([`script`]) and ends where the client has left: the gateway must then end by itself, with nothing
//! left that runs, and a trail that is whole.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use gateway_core::machine::End;
use tokio::io::duplex;
use tokio::runtime::{Builder, Handle};

pub mod client;
pub mod echo;
pub mod fixture;
pub mod peer;
pub mod script;
pub mod target;
pub mod transport;
pub mod watch;
pub mod wire;

use client::Client;
use echo::Echo;
use fixture::{Fixture, PIPE};
use peer::{Command, Peer};
use script::{Action, Settings, Turn, What};
use transport::{Role, Transport};
use watch::{Seen, Watch};

/// Within this time a session is over whose client has left, and then all that it began: an answer that the target owes is
/// waited for no longer than `limits.connect`.
const OVER: Duration = Duration::from_secs(11);
/// The same for a client that has sent so much that it is not read, and has to be cut off.
const CUT_OFF: (usize, Duration) = (8 << 20, Duration::from_secs(21));

thread_local! {
    static FIXTURE: OnceCell<Fixture> = const { OnceCell::new() };
    /// What panicked in a task, whose panic nobody else would see.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Plays a script; says how far it came.
pub fn adapter(data: &[u8]) -> Seen {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    let Some((settings, turns)) = script::read(data) else {
        return Seen::default();
    };
    PANICS.set(0);
    let seen = FIXTURE.with(|fixture| {
        let fixture = fixture.get_or_init(Fixture::new);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(fixture, settings, turns))
    });
    assert_eq!(PANICS.get(), 0, "something panicked");
    seen
}

async fn play(fixture: &Fixture, settings: Settings, turns: Vec<Turn<'_>>) -> Seen {
    let watch = Arc::new(Watch::default());
    let gateway = fixture.gateway(settings, &watch);
    let alive = || Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let (ours, theirs) = duplex(PIPE);
    let serving = fixture.serve(&gateway, theirs).await;
    let says = |turn: &Turn<'_>| turn.target.is_some() && !matches!(turn.what, What::Action(_));
    let alone = !settings.detects && !turns.iter().any(says);
    let side = Client {
        settings,
        watch: watch.clone(),
        theirs: 0,
        channels: HashMap::new(),
        echo: alone.then(Echo::default),
    };
    let client = Peer::start(Transport::new(Role::Client, settings.bare_client), side, ours);
    // Time passes where nobody has anything to do: whatever follows from what was sent has happened then.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for turn in turns {
        let command = match turn.what {
            What::Message(bytes, often) => Command::Message(bytes.to_vec(), often),
            What::Raw(bytes) => Command::Raw(bytes.to_vec()),
            What::Action(Action::Reading) => Command::Reading,
            What::Action(Action::Close) => Command::Close,
            What::Action(Action::Kill) => {
                for session in gateway.live().list() {
                    watch.killed.store(true, Ordering::Relaxed);
                    gateway.live().end(session.id, End::Killed(Box::default()));
                }
                Command::Raw(Vec::new())
            }
            What::Action(Action::Drain) => {
                gateway.drain();
                Command::Raw(Vec::new())
            }
        };
        match turn.target {
            None => client.tell(command),
            Some(which) => {
                let targets = fixture.targets.peers.lock();
                if let Some(target) = targets.iter().rev().filter(|target| !target.is_over()).nth(which) {
                    target.tell(command);
                }
            }
        }
        tokio::time::sleep(turn.pause).await;
    }
    watch.reached("bytes of the client", client.taken());
    let targets = fixture.targets.peers.lock().iter().map(Peer::taken).max();
    watch.reached("bytes of a target", targets.unwrap_or(0));
    let over = if client.taken() < CUT_OFF.0 {
        OVER
    } else {
        CUT_OFF.1
    };
    client.tell(Command::Close);
    tokio::time::timeout(over, serving)
        .await
        .expect("a session is over soon after its client has left")
        .unwrap();
    for target in &*fixture.targets.peers.lock() {
        target.tell(Command::Read);
    }
    // Nothing holds the gateway any more, whose own task then ends.
    let weak = Arc::downgrade(&gateway);
    drop(gateway);
    tokio::time::sleep(OVER).await;
    assert!(weak.upgrade().is_none(), "something still holds the gateway");
    let left = alive().saturating_sub(before);
    assert_eq!(left, 0, "tasks still run, although the client has left");
    watch.finish()
}
