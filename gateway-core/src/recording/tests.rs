//! Recordings in a directory, from the first byte to the seal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::*;
use crate::audit::read::Told;
use crate::audit::{AuditError, AuditSink};
use crate::sealing::{SealKey, Sealing};

type Events = Arc<Mutex<Vec<Event>>>;

struct World {
    dir: tempfile::TempDir,
    events: Events,
    recorder: Arc<Directory>,
    session: SessionId,
}

fn trail(events: &Events) -> Arc<dyn AuditSink> {
    let events = events.clone();
    Arc::new(crate::embed::Told(move |_, event: &Event| {
        events.lock().push(event.clone());
        Ok::<(), AuditError>(())
    }))
}

fn options(dir: &Path) -> DirectoryOptions {
    DirectoryOptions {
        dir: dir.join("first"),
        spill_dir: Some(dir.join("second")),
        spill_bytes: 1 << 20,
        limit: 1 << 20,
        input: true,
        files: false,
        retain: None,
    }
}

fn key() -> Arc<Sealing> {
    Arc::new(Sealing::new(vec![SealKey::new(&[7; 32]).unwrap()], false))
}

impl World {
    fn new(sealing: Arc<Sealing>, change: impl FnOnce(&mut DirectoryOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::default();
        let mut options = options(dir.path());
        change(&mut options);
        let recorder = Directory::open(options, sealing, trail(&events), None, Timestamp::now).unwrap();
        Self {
            dir,
            events,
            recorder,
            session: SessionId::generate(),
        }
    }

    async fn start(&self, terminal: bool, rules: Rules) -> Result<Recording, NotRecorded> {
        let terminal = terminal.then(|| Terminal {
            cols: 90,
            rows: 30,
            name: "xterm".to_owned(),
        });
        let begin = Begin {
            session: self.session,
            number: 1,
            resource: "web-1".to_owned(),
            what: Recorded {
                channel: "0".to_owned(),
                kind: if terminal.is_some() {
                    Kind::Shell
                } else {
                    Kind::Exec
                },
                title: "shell web-1".to_owned(),
                terminal,
            },
            rules,
        };
        self.recorder.start(begin).await
    }

    /// What the trail says of the recording.
    fn told(&self) -> Told {
        let mut told = Told {
            started: true,
            ..Told::default()
        };
        for event in self.events.lock().iter() {
            match event {
                Event::RecordingChunks { first, hashes, .. } => {
                    told.hashes.extend((*first..).zip(hashes.iter().cloned()));
                }
                Event::RecordingSealed { seal, .. } => told.seal = Some(seal.clone()),
                _ => {}
            }
        }
        told
    }

    fn read(&self) -> (String, Result<Verified, Fault>) {
        let mut reading = self.recorder.reading(self.session, 1, Some(self.told()));
        let mut text = Vec::new();
        let end = loop {
            match reading.next_chunk() {
                Ok(Some((_, lines))) => text.extend(lines),
                Ok(None) => break Ok(reading.verified()),
                Err(fault) => break Err(fault),
            }
        };
        (String::from_utf8(text).unwrap(), end)
    }

    fn file(&self) -> std::path::PathBuf {
        super::directory::file(&self.dir.path().join("first"), self.session, 1)
    }
}

/// What was shown.
fn shown(text: &str) -> String {
    let lines = text.lines().filter_map(|line| cast::parse(line.as_bytes()));
    lines
        .filter(|line| line.code == 'o')
        .map(|line| String::from_utf8(line.data).unwrap())
        .collect()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Waits until the chunk that is open is closed.
async fn flushed(world: &World) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(world.recorder.watch(world.session, 1).await.is_some());
}

#[tokio::test]
async fn a_recording_reads_back_and_is_what_the_trail_has() {
    let world = World::new(Arc::default(), |_| {});
    let recording = world.start(true, Rules::default()).await.unwrap();
    // Its beginning is there before anything flows.
    assert!(
        std::fs::read_to_string(world.file())
            .unwrap()
            .starts_with("{\"version\":3,")
    );
    assert!(world.recorder.list(world.session)[0].running);
    for part in ["$ ", "uptime\r\n", "up 3 days\r\n"] {
        recording.write(Stream::Output, &bytes(part)).await.unwrap();
        flushed(&world).await;
    }
    recording.resize(100, 40).await.unwrap();
    recording.finish("exit status 0".to_owned(), Some(0)).await;
    let (text, verified) = world.read();
    assert_eq!(shown(&text), "$ uptime\r\nup 3 days\r\n");
    assert!(
        text.contains("\"r\", \"100x40\"") && text.contains("\"x\", \"0\""),
        "{text}"
    );
    let verified = verified.unwrap();
    let seal = verified.seal.unwrap();
    assert!(seal.complete && seal.chunks == verified.chunks && verified.unproven == 0);
    assert_eq!(seal.end, "exit status 0");
    let listed = &world.recorder.list(world.session)[0];
    assert_eq!(listed.seal.as_ref(), Some(&seal));
    assert_eq!(listed.title.as_deref(), Some("shell web-1"));
    assert_eq!(world.recorder.settle(Duration::from_secs(1)).await, 0);
}

#[tokio::test]
async fn a_changed_chunk_is_named_whatever_else_is_changed_with_it() {
    let world = World::new(Arc::default(), |_| {});
    let recording = world.start(true, Rules::default()).await.unwrap();
    for part in ["one", "two", "three"] {
        recording.write(Stream::Output, &bytes(part)).await.unwrap();
        flushed(&world).await;
    }
    recording.finish(String::new(), None).await;
    let good = std::fs::read_to_string(world.file()).unwrap();
    assert!(world.read().1.is_ok());
    let put = |text: &str| std::fs::write(world.file(), text).unwrap();
    put(&good.replace("\"two\"", "\"2wo\""));
    let (text, end) = world.read();
    assert_eq!((shown(&text).as_str(), end), ("one", Err(Fault::Changed(2))));
    // With hashes that fit the change: the trail has others.
    let mut chain = chunk::Chain::new(world.session, 1);
    let mut forged = Vec::new();
    let changed = good.replace("\"two\"", "\"2wo\"");
    let mut reader = std::io::BufReader::new(changed.as_bytes());
    let mut payloads = Vec::new();
    while let chunk::Next::Chunk(index, payload) = chunk::next(&mut reader).unwrap() {
        payloads.push((index.at, payload));
    }
    for (at, payload) in &payloads {
        forged.extend_from_slice(payload);
        forged.extend(chunk::comment(chunk::CHUNK, &chain.push(*at, payload)));
    }
    put(&String::from_utf8(forged.clone()).unwrap());
    assert_eq!(world.read().1, Err(Fault::Differs(2)));
    // One that is gone, and one that was added.
    let ends = good.split_inclusive('\n').scan((0, 0), |(at, chunks), line| {
        *at += line.len();
        *chunks += usize::from(line.starts_with("#chunk "));
        Some((*at, *chunks))
    });
    let (end, _) = ends.into_iter().find(|(_, chunks)| *chunks == 3).unwrap();
    put(good.split_at(end).0);
    assert_eq!(world.read().1, Err(Fault::Missing(3)));
    let mut chain = chunk::Chain::new(world.session, 1);
    let mut longer = Vec::new();
    let mut reader = std::io::BufReader::new(good.as_bytes());
    while let chunk::Next::Chunk(index, payload) = chunk::next(&mut reader).unwrap() {
        longer.extend_from_slice(&payload);
        longer.extend(chunk::comment(chunk::CHUNK, &chain.push(index.at, &payload)));
    }
    let n = chain.next;
    longer.extend_from_slice(b"[0.0, \"o\", \"more\"]\n");
    longer.extend(chunk::comment(
        chunk::CHUNK,
        &chain.push(9, b"[0.0, \"o\", \"more\"]\n"),
    ));
    put(&String::from_utf8(longer).unwrap());
    assert_eq!(world.read().1, Err(Fault::Added(n)));
    put("");
    assert!(matches!(world.read().1, Err(Fault::Unreadable(_))));
    let mut unknown = world.recorder.reading(world.session, 1, Some(Told::default()));
    assert_eq!(unknown.next_chunk(), Err(Fault::Unknown));
}

#[tokio::test]
async fn with_a_key_nothing_of_it_is_legible_and_no_chunk_opens_elsewhere() {
    let world = World::new(key(), |_| {});
    let recording = world.start(true, Rules::default()).await.unwrap();
    recording.write(Stream::Output, &bytes("zeppelin")).await.unwrap();
    recording.finish(String::new(), None).await;
    let kept = std::fs::read_to_string(world.file()).unwrap();
    assert!(!kept.contains("zeppelin") && !kept.contains("web-1"), "{kept}");
    assert_eq!(shown(&world.read().0), "zeppelin");
    let keys = world.recorder.keys();
    assert_eq!(keys.values().sum::<u64>(), 1);
    assert!(keys.keys().all(Option::is_some));
    // Chunks of one recording in the place of another's do not open, whoever forges the hashes.
    let sealing = key();
    let line = kept.lines().next().unwrap().to_owned() + "\n";
    let here = format!("recording/{}/1/0", world.session);
    let there = format!("recording/{}/2/0", world.session);
    assert!(sealing.open_line(&here, line.as_bytes()).is_ok());
    assert!(sealing.open_line(&there, line.as_bytes()).is_err());
}

#[tokio::test]
async fn what_a_crash_leaves_is_sealed_at_its_last_whole_chunk() {
    for sealing in [Arc::default(), key()] {
        let world = World::new(sealing.clone(), |_| {});
        let recording = world.start(true, Rules::default()).await.unwrap();
        recording.write(Stream::Output, &bytes("seen")).await.unwrap();
        flushed(&world).await;
        // As a killed process leaves it, with a chunk that was being written.
        let mut killed = options(world.dir.path());
        killed.dir = world.dir.path().join("killed");
        let status = std::process::Command::new("cp")
            .args(["-r", "first", "killed"])
            .current_dir(world.dir.path())
            .status();
        assert!(status.unwrap().success());
        let path = super::directory::file(&killed.dir, world.session, 1);
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"[0.1, \"o\", \"half of a li");
        std::fs::write(&path, torn).unwrap();
        let events = Events::default();
        let again = Directory::open(killed, sealing, trail(&events), None, Timestamp::now).unwrap();
        assert_eq!(again.recover().await.unwrap(), 1);
        let Some(Event::RecordingSealed { seal, resource, .. }) = events.lock().last().cloned() else {
            panic!("no seal");
        };
        assert!(
            !seal.complete && seal.chunks == 2 && resource == "web-1",
            "{seal:?}"
        );
        let told = Told {
            started: true,
            seal: Some(seal.clone()),
            ..Told::default()
        };
        let mut reading = again.reading(world.session, 1, Some(told));
        let mut text = Vec::new();
        while let Some((_, lines)) = reading.next_chunk().unwrap() {
            text.extend(lines);
        }
        assert_eq!(shown(&String::from_utf8(text).unwrap()), "seen");
        assert_eq!(again.list(world.session)[0].seal.as_ref(), Some(&seal));
        // And once only.
        assert_eq!(again.recover().await.unwrap(), 0);
        drop(recording);
    }
}

#[tokio::test]
async fn over_the_limit_a_command_is_cut_and_counted_and_a_terminal_stops() {
    let world = World::new(Arc::default(), |options| options.limit = 100_000);
    let recording = world.start(false, Rules::default()).await.unwrap();
    let part = Bytes::from(vec![b'x'; 30_000]);
    for _ in 0..10 {
        recording.write(Stream::Output, &part).await.unwrap();
    }
    recording.finish("exit status 0".to_owned(), Some(0)).await;
    let (text, verified) = world.read();
    let seal = verified.unwrap().seal.unwrap();
    let cut = seal.cut.unwrap();
    let kept = shown(&text).len() as u64;
    assert_eq!(kept + cut.bytes, 300_000);
    assert!(
        kept >= 90_000 && cut.sha256.len() == 64 && seal.complete,
        "{kept}"
    );
    assert!(text.contains("cut: the recording has reached its limit"));

    let world = World::new(Arc::default(), |options| options.limit = 100_000);
    let recording = world.start(true, Rules::default()).await.unwrap();
    let mut refused = false;
    for _ in 0..1000 {
        refused |= recording.write(Stream::Output, &part).await.is_err();
        if refused {
            break;
        }
    }
    assert!(refused);
    assert!(recording.failed().await.0.contains("limit"));
    world.recorder.settle(Duration::from_secs(5)).await;
    assert!(!world.told().seal.unwrap().complete);
}

#[tokio::test]
async fn where_it_can_not_begin_nothing_begins_unless_there_is_a_second_place() {
    let world = World::new(Arc::default(), |_| {});
    let first = world.dir.path().join("first");
    std::fs::remove_dir_all(&first).unwrap();
    std::fs::write(&first, "no folder").unwrap();
    assert!(world.start(true, Rules::default()).await.is_err());
    let rules = Rules {
        on_failure: OnFailure::Spill,
        ..Rules::default()
    };
    let recording = world.start(true, rules).await.unwrap();
    recording.write(Stream::Output, &bytes("kept")).await.unwrap();
    recording.finish(String::new(), None).await;
    let (text, verified) = world.read();
    assert_eq!(shown(&text), "kept");
    assert!(
        text.contains("the first place of this recording failed"),
        "{text}"
    );
    assert!(verified.is_ok());
}

/// A disk that is full.
fn full() -> disk::Disk {
    let file = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let chain = chunk::Chain::new(SessionId::generate(), 1);
    disk::Disk::new(file, chain, Arc::default(), None)
}

async fn on_a_full_disk(spill: Option<disk::Spill>) -> (Result<(), NotRecorded>, Vec<Event>) {
    let events = Events::default();
    let (recording, queue) = Recording::queued(true, false);
    let (_watch, watched) = tokio::sync::mpsc::channel(1);
    let begin = Begin {
        session: SessionId::generate(),
        number: 1,
        resource: "web-1".to_owned(),
        what: Recorded {
            channel: "0".to_owned(),
            kind: Kind::Exec,
            title: String::new(),
            terminal: None,
        },
        rules: Rules::default(),
    };
    let writer = writer::Writer {
        begin,
        queue,
        watch: watched,
        place: writer::Place::Here(full()),
        spill,
        limit: 1 << 30,
        audit: trail(&events),
        now: Timestamp::now,
        encoder: cast::Encoder::new(tokio::time::Instant::now(), true),
        state: writer::State::default(),
    };
    let running = tokio::spawn(writer.run());
    let mut result = Ok(());
    let part = Bytes::from(vec![b'x'; 60_000]);
    for _ in 0..100 {
        result = recording.write(Stream::Output, &part).await;
        if result.is_err() {
            break;
        }
    }
    recording.finish(String::new(), None).await;
    running.await.unwrap();
    let events = events.lock().clone();
    (result, events)
}

#[tokio::test]
async fn a_full_disk_stops_what_is_recorded_and_the_trail_says_so() {
    let (result, events) = on_a_full_disk(None).await;
    let why = result.unwrap_err().0;
    assert!(why.contains("No space"), "{why}");
    assert!(events.iter().any(|event| matches!(
        event,
        Event::RecordingFailed {
            then: OnFailure::Stop,
            ..
        }
    )));
    assert!(matches!(events.last(), Some(Event::RecordingSealed { seal, .. }) if !seal.complete));
}

#[tokio::test]
async fn a_full_disk_spills_where_that_is_said_up_to_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    for (most, good) in [(64 << 20, true), (10_000, false)] {
        let path = dir.path().join(most.to_string());
        let to = path.clone();
        let spill: disk::Spill = Box::new(move |chain: &chunk::Chain| {
            let file = std::fs::File::create_new(to)?;
            let room = Some((Arc::default(), most));
            Ok(disk::Disk::new(file, chain.clone(), Arc::default(), room))
        });
        let (result, events) = on_a_full_disk(Some(spill)).await;
        assert_eq!(result.is_ok(), good);
        assert!(events.iter().any(|event| matches!(
            event,
            Event::RecordingFailed {
                then: OnFailure::Spill,
                ..
            }
        )));
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(kept.contains("it goes on in the second one"), good);
    }
}

#[tokio::test]
async fn a_password_that_is_typed_is_not_in_the_file() {
    let world = World::new(Arc::default(), |_| {});
    let recording = world.start(true, Rules::default()).await.unwrap();
    let put = async |stream, text: &str| recording.write(stream, &bytes(text)).await.unwrap();
    put(Stream::Output, "$ ").await;
    for key in ["s", "u"] {
        put(Stream::Input, key).await;
        put(Stream::Output, key).await;
    }
    put(Stream::Input, "\r").await;
    put(Stream::Output, "\r\nPassword: ").await;
    for key in ["h", "unter2", "\r"] {
        put(Stream::Input, key).await;
    }
    put(Stream::Output, "\r\n# ").await;
    recording.finish(String::new(), None).await;
    let (text, _) = world.read();
    assert!(!text.contains("unter2"), "{text}");
    let typed: String = text
        .lines()
        .filter_map(|line| cast::parse(line.as_bytes()))
        .filter(|line| line.code == 'i')
        .map(|line| String::from_utf8(line.data).unwrap())
        .collect();
    assert_eq!(typed, "su\r[hidden]\r");
}

#[tokio::test]
async fn who_watches_gets_what_comes_after_what_is_in_the_file_and_a_slow_one_is_left() {
    let world = World::new(Arc::default(), |options| options.limit = 1 << 30);
    let recording = world.start(true, Rules::default()).await.unwrap();
    recording.write(Stream::Output, &bytes("before")).await.unwrap();
    flushed(&world).await;
    let mut watching = world.recorder.watch(world.session, 1).await.unwrap();
    let (text, _) = world.read();
    assert_eq!(shown(&text), "before");
    recording.write(Stream::Output, &bytes("after")).await.unwrap();
    let line = watching.next().await.unwrap();
    assert_eq!(shown(std::str::from_utf8(&line).unwrap()), "after");
    // Nobody who does not read slows the session.
    let part = Bytes::from(vec![b'x'; 60_000]);
    for _ in 0..100 {
        recording.write(Stream::Output, &part).await.unwrap();
    }
    recording.finish(String::new(), None).await;
    let mut seen = 0;
    while let Some(lines) = watching.next().await {
        seen += lines.len();
    }
    assert!(seen <= 2 << 20, "{seen}");
    assert!(world.recorder.watch(world.session, 1).await.is_none());
}

#[tokio::test]
async fn recordings_that_are_too_old_are_removed_and_the_trail_is_told_first() {
    let world = World::new(Arc::default(), |options| {
        options.retain = Some(Duration::from_secs(86_400))
    });
    let old = world
        .dir
        .path()
        .join("first/2020-01-01")
        .join(world.session.to_string());
    std::fs::create_dir_all(&old).unwrap();
    std::fs::write(old.join("1.cast"), "x").unwrap();
    let recording = world.start(true, Rules::default()).await.unwrap();
    recording.finish(String::new(), None).await;
    world.recorder.settle(Duration::from_secs(5)).await;
    assert_eq!(world.recorder.retain().await.unwrap(), 1);
    assert!(!old.exists() && world.file().exists());
    assert!(matches!(
        world.events.lock().last(),
        Some(Event::RecordingsRemoved { .. })
    ));
}

#[test]
fn rules_say_what_is_recorded() {
    let rules: Rules = serde_json::from_str(r#"{ "exec": false, "on_failure": "spill" }"#).unwrap();
    assert!(rules.records(Kind::Shell) && !rules.records(Kind::Exec) && !rules.records(Kind::Files));
    assert!(Rules::default().records(Kind::Files));
    assert!(serde_json::from_str::<Rules>(r#"{ "shel": false }"#).is_err());
}
