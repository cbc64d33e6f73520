//! The beginning of a recording, and its whole life in the background.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Directory, Running, place};
use crate::recording::cast::{self, Encoder};
use crate::recording::chunk::{Chain, Index};
use crate::recording::disk::{Disk, Spill};
use crate::recording::writer::{Place, State, Writer};
use crate::recording::{Begin, Kind, NotRecorded, OnFailure, Recording};
use crate::sealing::Sealing;
use crate::session::SessionId;

/// What the first chunk needs.
struct First {
    dir: PathBuf,
    key: (SessionId, u32),
    sealing: Arc<Sealing>,
    header: Vec<u8>,
    spill: Option<Spill>,
}

/// A file with its first chunk.
struct Made {
    disk: Disk,
    index: Index,
    /// The second place, where it is not the one that is used.
    spill: Option<Spill>,
    /// Why it is.
    failed: Option<String>,
}

impl First {
    /// Blocking.
    fn make(self) -> Result<Made, String> {
        let (session, number) = self.key;
        let chain = Chain::new(session, number);
        let first = place::create(&self.dir, session, number).and_then(|file| {
            let mut disk = Disk::new(file, chain.clone(), self.sealing, None);
            let index = disk.append(0, &self.header, true)?;
            Ok((disk, index))
        });
        let (error, spill) = match (first, self.spill) {
            (Ok((disk, index)), spill) => {
                return Ok(Made {
                    disk,
                    index,
                    spill,
                    failed: None,
                });
            }
            (Err(error), None) => return Err(error.to_string()),
            (Err(error), Some(spill)) => (error, spill),
        };
        // What was begun there is nothing.
        let _ = std::fs::remove_file(place::marker(&self.dir, session, number));
        let _ = std::fs::remove_file(place::file(&self.dir, session, number));
        let begun = spill(&chain).and_then(|mut disk| {
            let index = disk.append(0, &self.header, true)?;
            Ok((disk, index))
        });
        match begun {
            Ok((disk, index)) => Ok(Made {
                disk,
                index,
                spill: None,
                failed: Some(error.to_string()),
            }),
            Err(second) => Err(format!("{error}; and in the second place: {second}")),
        }
    }
}

/// Takes a recording out of those that run.
struct Entered {
    directory: Arc<Directory>,
    key: (SessionId, u32),
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.directory.running.lock().remove(&self.key);
    }
}

impl Directory {
    fn second_place(&self, begin: &Begin) -> Option<Spill> {
        let spills = begin.rules.on_failure == OnFailure::Spill;
        let dir = self.options.spill_dir.clone().filter(|_| spills)?;
        let room = (self.spilled.clone(), self.options.spill_bytes);
        let (session, number, sealing) = (begin.session, begin.number, self.sealing.clone());
        Some(Box::new(move |chain: &Chain| {
            let file: File = place::create(&dir, session, number)?;
            Ok(Disk::new(file, chain.clone(), sealing, Some(room)))
        }))
    }

    pub(super) async fn begin(self: Arc<Self>, begin: Begin) -> Result<Recording, NotRecorded> {
        let key = (begin.session, begin.number);
        let (begun, started) = (Instant::now(), (self.now)());
        let first = First {
            dir: self.options.dir.clone(),
            key,
            sealing: self.sealing.clone(),
            header: cast::header(&begin, started.as_second()),
            spill: self.second_place(&begin),
        };
        let made = tokio::task::spawn_blocking(move || first.make()).await;
        let made = made.map_err(|error| NotRecorded(error.to_string()))?;
        let Made {
            disk,
            index,
            spill,
            failed,
        } = made.map_err(NotRecorded)?;
        let terminal = begin.what.terminal.is_some();
        let input = terminal && begin.rules.input.unwrap_or(self.options.input);
        let contents = begin.what.kind == Kind::Files && begin.rules.files.unwrap_or(self.options.files);
        let (recording, queue) = Recording::queued(input, contents);
        let (watch, watched) = mpsc::channel(4);
        let mut writer = Writer {
            begin: begin.clone(),
            queue,
            watch: watched,
            place: Place::Here(disk),
            spill,
            limit: self.options.limit,
            audit: self.audit.clone(),
            now: self.now,
            encoder: Encoder::new(begun, input),
            state: State::default(),
        };
        writer.began(index);
        let running = Running {
            begin,
            started,
            watch,
        };
        self.running.lock().insert(key, running);
        let entered = Entered { directory: self, key };
        if let Some(why) = failed {
            let why = format!("the first place of this recording failed ({why}); it is in the second one");
            recording.mark(why).await?;
        }
        tokio::spawn(async move {
            writer.run().await;
            let directory = entered.directory.clone();
            for dir in directory.places() {
                let _ = std::fs::remove_file(place::marker(dir, key.0, key.1));
            }
            drop(entered);
            directory.is_over(key.0, key.1);
        });
        Ok(recording)
    }
}
