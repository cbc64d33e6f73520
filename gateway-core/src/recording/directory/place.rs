//! Names in a place of recordings.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::session::SessionId;

/// Where names of recordings stand that are not sealed yet.
pub(crate) const OPEN: &str = "open";
/// What a recording's file is called behind its number.
const CAST: &str = "cast";
/// And what is kept of one that is in the archive.
pub(crate) const ARCHIVED: &str = "archived";

/// The folder of a session's recordings.
pub(crate) fn folder(dir: &Path, session: SessionId) -> PathBuf {
    dir.join(day(session)).join(session.to_string())
}

/// On which day a session began, by its id.
pub(crate) fn day(session: SessionId) -> String {
    let began = session.0.get_timestamp().and_then(|time| {
        let (seconds, _) = time.to_unix();
        Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
    });
    began.map_or_else(
        || "undated".to_owned(),
        |began| began.strftime("%Y-%m-%d").to_string(),
    )
}

pub(crate) fn is_day(name: &str) -> bool {
    name == "undated" || (name.len() == 10 && name.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

pub(crate) fn file(dir: &Path, session: SessionId, number: u32) -> PathBuf {
    folder(dir, session).join(format!("{number}.{CAST}"))
}

/// What is kept of one that is in the archive.
pub(crate) fn archived(dir: &Path, session: SessionId, number: u32) -> PathBuf {
    folder(dir, session).join(format!("{number}.{ARCHIVED}"))
}

/// That it is not sealed yet.
pub(crate) fn marker(dir: &Path, session: SessionId, number: u32) -> PathBuf {
    dir.join(OPEN).join(format!("{session}.{number}"))
}

pub(super) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A new file for a recording, and its marker.
pub(super) fn create(dir: &Path, session: SessionId, number: u32) -> io::Result<File> {
    let path = file(dir, session, number);
    let folder = folder(dir, session);
    make(&folder)?;
    make(&dir.join(OPEN))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(marker(dir, session, number))?;
    let file = options.open(&path)?;
    File::open(&folder)?.sync_all()?;
    Ok(file)
}

/// All bytes of the files below a folder.
pub(super) fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// What a folder has of a recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Has {
    /// Its file.
    pub(crate) file: bool,
    /// What is kept of one that is in the archive.
    pub(crate) archived: bool,
}

/// The recordings in the folder of a session.
pub(crate) fn numbers(folder: &Path) -> BTreeMap<u32, Has> {
    let mut found = BTreeMap::<u32, Has>::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some((Ok(number), end)) = name.split_once('.').map(|(n, end)| (n.parse::<u32>(), end)) else {
            continue;
        };
        match end {
            CAST => found.entry(number).or_default().file = true,
            ARCHIVED => found.entry(number).or_default().archived = true,
            _ => {}
        }
    }
    found
}

/// The days of a place, with their names.
pub(crate) fn days(place: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let days = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        is_day(&name).then(|| (entry.path(), name))
    });
    days.collect()
}

/// The sessions of a day, with their folders.
pub(crate) fn sessions(day: &Path) -> Vec<(PathBuf, SessionId)> {
    let entries = std::fs::read_dir(day).into_iter().flatten().flatten();
    let sessions = entries.filter_map(|entry| {
        let session = entry.file_name().to_str()?.parse().ok()?;
        Some((entry.path(), session))
    });
    sessions.collect()
}

/// Under how many keys how many recordings of these places are: each counts once, `None` for those that are not sealed with any.
pub fn keys<'a>(places: impl Iterator<Item = &'a Path>) -> BTreeMap<Option<String>, u64> {
    let mut found = BTreeMap::new();
    for place in places {
        for (day, _) in days(place) {
            for (folder, _) in sessions(&day) {
                for (number, has) in numbers(&folder) {
                    let end = if has.file { CAST } else { ARCHIVED };
                    let key = key_of(&folder.join(format!("{number}.{end}")));
                    *found.entry(key).or_default() += 1;
                }
            }
        }
    }
    found
}

fn key_of(path: &Path) -> Option<String> {
    let mut begin = [0; 32];
    let read = File::open(path)
        .and_then(|mut file| io::Read::read(&mut file, &mut begin))
        .ok()?;
    let text = std::str::from_utf8(begin.get(..read)?).ok()?;
    let (key, _) = text.strip_prefix(crate::sealing::PREFIX)?.split_once(':')?;
    Some(key.to_owned())
}
