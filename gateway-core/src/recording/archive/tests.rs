//! Recordings on their way to an archive that fails in every way, and back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::*;
use crate::audit::{AuditError, AuditSink, Event};
use crate::recording::{
    Begin, Directory, DirectoryOptions, Fault, Kind, Recorded, Recorder as _, Rules, Stream, Verified,
};
use crate::sealing::{SealKey, Sealing};
use crate::session::SessionId;

/// An archive in memory.
#[derive(Default)]
struct Memory {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    puts: AtomicUsize,
    /// Nothing works.
    down: AtomicBool,
    /// What is put loses its last byte.
    cuts: AtomicBool,
}

impl Memory {
    fn up(&self) -> Result<(), ArchiveError> {
        match self.down.load(Ordering::Relaxed) {
            true => Err(ArchiveError::Failed("it is down".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Archive for Memory {
    async fn put(&self, object: &str, file: &Path) -> Result<(), ArchiveError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.up()?;
        let mut bytes = std::fs::read(file).map_err(|error| ArchiveError::Failed(error.to_string()))?;
        if self.cuts.load(Ordering::Relaxed) {
            bytes.pop();
        }
        self.objects.lock().insert(object.to_owned(), bytes);
        Ok(())
    }

    async fn size(&self, object: &str) -> Result<Option<u64>, ArchiveError> {
        self.up()?;
        let size = self.objects.lock().get(object).map(Vec::len);
        Ok(size.map(|size| u64::try_from(size).unwrap()))
    }

    async fn get(
        &self,
        object: &str,
    ) -> Result<BoxStream<'static, Result<Bytes, ArchiveError>>, ArchiveError> {
        self.up()?;
        let bytes = self.objects.lock().get(object).cloned();
        let bytes = bytes.ok_or_else(|| ArchiveError::Absent(object.to_owned()))?;
        let pieces: Vec<_> = bytes
            .chunks(100)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        Ok(futures_util::stream::iter(pieces).boxed())
    }

    async fn remove(&self, object: &str) -> Result<(), ArchiveError> {
        self.up()?;
        self.objects.lock().remove(object);
        Ok(())
    }
}

type Events = Arc<Mutex<Vec<Event>>>;

struct World {
    dir: tempfile::TempDir,
    archive: Arc<Memory>,
    events: Events,
    sealing: Arc<Sealing>,
    recorder: Arc<Directory>,
    keep: Duration,
    retain: Option<Duration>,
    session: SessionId,
    running: Option<tokio::task::JoinHandle<()>>,
}

fn trail(events: &Events) -> Arc<dyn AuditSink> {
    let events = events.clone();
    Arc::new(crate::embed::Told(move |_, event: &Event| {
        events.lock().push(event.clone());
        Ok::<(), AuditError>(())
    }))
}

impl World {
    fn new(keep: Duration) -> Self {
        let (dir, archive, events) = (tempfile::tempdir().unwrap(), Arc::default(), Events::default());
        let sealing = Arc::new(Sealing::new(vec![SealKey::new(&[7; 32]).unwrap()], false));
        let recorder = open(dir.path(), &archive, &events, &sealing, keep, None);
        Self {
            dir,
            archive,
            events,
            sealing,
            recorder,
            keep,
            retain: None,
            session: SessionId::generate(),
            running: None,
        }
    }

    /// As after a crash: another process on the same directory.
    fn again(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        let dir = self.dir.path();
        self.recorder = open(
            dir,
            &self.archive,
            &self.events,
            &self.sealing,
            self.keep,
            self.retain,
        );
    }

    fn run(&mut self) {
        self.running = Some(tokio::spawn(self.recorder.clone().archive()));
    }

    async fn record(&self, number: u32, text: &str) {
        let begin = Begin {
            session: self.session,
            number,
            resource: "web-1".to_owned(),
            what: Recorded {
                channel: "0".to_owned(),
                kind: Kind::Exec,
                title: "uptime".to_owned(),
                terminal: None,
            },
            rules: Rules::default(),
        };
        let recording = self.recorder.start(begin).await.unwrap();
        self.events.lock().push(Event::RecordingStarted {
            session: self.session,
            recording: number,
            kind: "exec".to_owned(),
            title: "uptime".to_owned(),
            channel: "0".to_owned(),
            resource: "web-1".to_owned(),
        });
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        recording.write(Stream::Output, &bytes).await.unwrap();
        recording.finish("exit status 0".to_owned(), Some(0)).await;
        self.recorder.settle(Duration::from_secs(5)).await;
    }

    fn folder(&self) -> PathBuf {
        super::super::directory::place::folder(&self.dir.path().join("first"), self.session)
    }

    fn has(&self, name: &str) -> bool {
        self.folder().join(name).exists()
    }

    fn archived(&self) -> usize {
        let events = self.events.lock();
        let archived = events
            .iter()
            .filter(|event| matches!(event, Event::RecordingArchived { .. }));
        archived.count()
    }

    async fn until(&self, what: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "it did not come to that: {:?}",
            std::fs::read_dir(self.folder()).unwrap().collect::<Vec<_>>()
        );
    }

    fn told(&self) -> crate::audit::read::Told {
        let mut told = crate::audit::read::Told::default();
        for event in self.events.lock().iter() {
            match event {
                Event::RecordingStarted { recording: 1, .. } => told.started = true,
                Event::RecordingChunks {
                    recording: 1,
                    first,
                    hashes,
                    ..
                } => told.hashes.extend((*first..).zip(hashes.iter().cloned())),
                Event::RecordingSealed {
                    recording: 1, seal, ..
                } => told.seal = Some(seal.clone()),
                _ => {}
            }
        }
        told
    }

    async fn read(&self) -> Result<(String, Verified), Fault> {
        let mut reading = self.recorder.reading(self.session, 1, Some(self.told()));
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            while let Some((_, lines)) = reading.next_chunk()? {
                text.extend(lines);
            }
            Ok((String::from_utf8(text).unwrap(), reading.verified()))
        });
        read.await.unwrap()
    }
}

fn open(
    dir: &Path,
    archive: &Arc<Memory>,
    events: &Events,
    sealing: &Arc<Sealing>,
    keep_local: Duration,
    retain: Option<Duration>,
) -> Arc<Directory> {
    let options = DirectoryOptions {
        dir: dir.join("first"),
        spill_dir: None,
        spill_bytes: 0,
        limit: 1 << 20,
        input: true,
        files: false,
        retain,
    };
    let archiving = Archiving {
        archive: archive.clone(),
        keep_local,
    };
    Directory::open(
        options,
        sealing.clone(),
        trail(events),
        Some(archiving),
        Timestamp::now,
    )
    .unwrap()
}

#[tokio::test]
async fn a_recording_goes_there_is_read_from_there_and_stays_sealed() {
    let mut world = World::new(Duration::ZERO);
    world.run();
    world.record(1, "up 3 days").await;
    world
        .until(|world| world.has("1.archived") && !world.has("1.cast"))
        .await;
    let (text, verified) = world.read().await.unwrap();
    assert!(text.contains("up 3 days"), "{text}");
    assert!(verified.seal.unwrap().complete && verified.unproven == 0);
    // Nothing of it is legible, there or here, and lists need no archive.
    world.archive.down.store(true, Ordering::Relaxed);
    let kept = std::fs::read(world.folder().join("1.archived")).unwrap();
    for bytes in [&kept, world.archive.objects.lock().values().next().unwrap()] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("up 3 days") && !text.contains("web-1"), "{text}");
    }
    let listed = &world.recorder.list(world.session)[0];
    assert_eq!(listed.title.as_deref(), Some("uptime"));
    assert_eq!(listed.seal.as_ref().unwrap().end, "exit status 0");
    assert_eq!(world.recorder.keys().values().sum::<u64>(), 1);
    // It can't be reached: that is said, and nothing is made up.
    assert!(matches!(world.read().await, Err(Fault::Unreadable(why)) if why.contains("it is down")));
    assert_eq!(world.archived(), 1);
}

#[tokio::test]
async fn a_changed_a_cut_and_a_missing_object_are_told_as_such() {
    let mut world = World::new(Duration::ZERO);
    world.run();
    world.record(1, "up 3 days").await;
    world.until(|world| !world.has("1.cast")).await;
    let (name, good) = world
        .archive
        .objects
        .lock()
        .first_key_value()
        .map(|(k, v)| (k.clone(), v.clone()))
        .unwrap();
    let put = |bytes: Vec<u8>| world.archive.objects.lock().insert(name.clone(), bytes);
    let mut changed = good.clone();
    changed[20] ^= 1;
    put(changed);
    assert_eq!(world.read().await.unwrap_err(), Fault::Changed(0));
    // Behind the first chunk and the line that closes it.
    let lines = good.split_inclusive(|byte| *byte == b'\n');
    let first: usize = lines.take(2).map(<[u8]>::len).sum();
    put(good[..first + 10].to_vec());
    assert_eq!(world.read().await.unwrap_err(), Fault::Missing(1));
    put(Vec::new());
    assert!(world.read().await.is_err());
    world.archive.objects.lock().clear();
    let missing = world.read().await.unwrap_err();
    assert!(missing.to_string().contains("there is no object"), "{missing}");
    put(good);
    assert!(world.read().await.is_ok());
}

#[tokio::test]
async fn while_the_archive_is_down_or_cuts_nothing_goes_and_then_it_does() {
    let mut world = World::new(Duration::ZERO);
    world.archive.down.store(true, Ordering::Relaxed);
    world.run();
    world.record(1, "one").await;
    world.record(2, "two").await;
    world
        .until(|world| world.archive.puts.load(Ordering::Relaxed) >= 1)
        .await;
    assert!(world.has("1.cast") && world.has("2.cast") && !world.has("1.archived"));
    world.archive.cuts.store(true, Ordering::Relaxed);
    world.archive.down.store(false, Ordering::Relaxed);
    world
        .until(|world| !world.archive.objects.lock().is_empty())
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.has("1.cast") && world.has("2.cast") && world.archived() == 0);
    world.archive.cuts.store(false, Ordering::Relaxed);
    world
        .until(|world| !world.has("1.cast") && !world.has("2.cast"))
        .await;
    assert_eq!(world.archived(), 2);
    assert!(world.read().await.is_ok());
}

#[tokio::test]
async fn what_a_crash_left_between_upload_and_marking_is_found_and_not_put_twice() {
    let mut world = World::new(Duration::from_secs(3600));
    world.record(1, "one").await;
    // Nothing ran yet; then it is there whole, and nothing says so.
    let name = world
        .recorder
        .object(&world.dir.path().join("first"), world.session, 1);
    let bytes = std::fs::read(world.folder().join("1.cast")).unwrap();
    world.archive.objects.lock().insert(name, bytes);
    world.again();
    world.run();
    world.until(|world| world.has("1.archived")).await;
    assert!(world.has("1.cast"), "it is kept for an hour");
    assert_eq!(
        (world.archive.puts.load(Ordering::Relaxed), world.archived()),
        (0, 1)
    );
    // Known now: another start does nothing.
    world.again();
    world.run();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(
        (world.archive.puts.load(Ordering::Relaxed), world.archived()),
        (0, 1)
    );
}

#[tokio::test]
async fn a_file_goes_only_while_the_archive_has_the_object() {
    let mut world = World::new(Duration::from_secs(2));
    world.run();
    world.record(1, "one").await;
    world.until(|world| world.has("1.archived")).await;
    world.archive.objects.lock().clear();
    // Its time is over, the object is gone: it is put there again before it goes here.
    world.until(|world| !world.has("1.cast")).await;
    assert_eq!(world.archive.puts.load(Ordering::Relaxed), 2);
    assert!(world.read().await.is_ok());
}

#[tokio::test]
async fn a_file_that_was_changed_here_does_not_go_and_holds_no_other_up() {
    let mut world = World::new(Duration::ZERO);
    world.record(1, "one").await;
    world.record(2, "two").await;
    let path = world.folder().join("1.cast");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    world.run();
    world.until(|world| !world.has("2.cast")).await;
    assert!(world.has("1.cast") && !world.has("1.archived"));
}

#[tokio::test]
async fn retention_removes_objects_too_and_tries_again_while_the_archive_is_down() {
    let mut world = World::new(Duration::ZERO);
    world.run();
    world.record(1, "one").await;
    world.until(|world| !world.has("1.cast")).await;
    // Old now.
    let old = world.dir.path().join("first/2020-01-01");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::rename(world.folder(), old.join(world.session.to_string())).unwrap();
    world.retain = Some(Duration::from_secs(86_400));
    world.again();
    world.archive.down.store(true, Ordering::Relaxed);
    assert_eq!(world.recorder.retain().await.unwrap(), 0);
    assert_eq!(world.recorder.retain().await.unwrap(), 0);
    assert_eq!(world.archive.objects.lock().len(), 1);
    world.archive.down.store(false, Ordering::Relaxed);
    assert_eq!(world.recorder.retain().await.unwrap(), 1);
    assert!(world.archive.objects.lock().is_empty() && !old.exists());
    let told = world.events.lock();
    let removed = told
        .iter()
        .filter(|event| matches!(event, Event::RecordingsRemoved { .. }));
    assert_eq!(removed.count(), 1, "once, however often it is tried");
}
