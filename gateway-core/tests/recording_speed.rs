//! How fast recordings are written: `cargo test --release -p gateway-core --test recording_speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, missing_docs, reason = "a measurement")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::embed::Told;
use gateway_core::recording::{
    Begin, Directory, DirectoryOptions, Kind, Recorded, Recorder as _, Rules, Stream, Terminal,
};
use gateway_core::sealing::{SealKey, Sealing};
use gateway_core::session::SessionId;

/// As packets of SSH come.
const PIECE: usize = 32 * 1024;
const MIB: usize = 1 << 20;

fn pieces(make: impl Fn(usize) -> Vec<u8>) -> Vec<Bytes> {
    (0..64).map(|n| Bytes::from(make(n))).collect()
}

fn random(seed: usize) -> Vec<u8> {
    let mut state = u64::try_from(seed).unwrap() | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..PIECE / 8).flat_map(|_| next()).collect()
}

fn text(seed: usize) -> Vec<u8> {
    let line = format!(
        "{seed:08} Nov 27 10:00:00 web-1 sshd[4711]: \u{1b}[32mAccepted\u{1b}[0m publickey for \"root\"\r\n"
    );
    line.into_bytes().into_iter().cycle().take(PIECE).collect()
}

async fn one(name: &str, pieces: &[Bytes], terminal: bool, sealing: Arc<Sealing>) {
    let dir = tempfile::tempdir().unwrap();
    let options = DirectoryOptions {
        dir: dir.path().join("recordings"),
        spill_dir: None,
        spill_bytes: 0,
        limit: 1 << 40,
        input: true,
        files: false,
        retain: None,
    };
    let sealed = sealing.is_on();
    let nobody = Arc::new(Told(|_, _: &_| Ok(())));
    let recorder = Directory::open(options, sealing, nobody, None, jiff::Timestamp::now).unwrap();
    let begin = Begin {
        session: SessionId::generate(),
        number: 1,
        resource: "web-1".to_owned(),
        what: Recorded {
            channel: "0".to_owned(),
            kind: Kind::Exec,
            title: name.to_owned(),
            terminal: terminal.then(|| Terminal {
                cols: 80,
                rows: 24,
                name: "xterm".to_owned(),
            }),
        },
        rules: Rules::default(),
    };
    let recording = recorder.start(begin).await.unwrap();
    let began = std::time::Instant::now();
    let total = 256 * MIB;
    for piece in pieces.iter().cycle().take(total / PIECE) {
        recording.write(Stream::Output, piece).await.unwrap();
    }
    recording.finish(String::new(), Some(0)).await;
    let took = began.elapsed();
    let rate = u32::try_from(total / MIB).unwrap() * 1000 / u32::try_from(took.as_millis().max(1)).unwrap();
    println!("{name}, terminal {terminal}, sealed {sealed}: {rate} MiB/s");
    assert_eq!(recorder.settle(Duration::from_secs(5)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_fast_it_is() {
    let inputs = [
        ("NULs", pieces(|_| vec![0; PIECE])),
        ("random bytes", pieces(random)),
        ("text", pieces(text)),
    ];
    for sealed in [false, true] {
        for (name, pieces) in &inputs {
            for terminal in [false, true] {
                let keys = sealed.then(|| SealKey::new(&[7; 32]).unwrap());
                one(
                    name,
                    pieces,
                    terminal,
                    Arc::new(Sealing::new(keys.into_iter().collect(), false)),
                )
                .await;
            }
        }
    }
}
