//! `[recording]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::limits::duration;
use gateway_core::recording::DirectoryOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Checker;
use super::archive::ArchiveSection;
use crate::adapters::Outside;

/// Below the data directory, where nothing is said.
const DIR: &str = "recordings";
/// The most bytes of one recording, where nothing is said.
const LIMIT: u64 = 256 << 20;
/// The most bytes in the second place, where nothing is said.
const SPILL: u64 = 1 << 30;

/// `[recording]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordingSection {
    /// The first place; absent: `data_dir/recordings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
    /// The second place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spill_dir: Option<PathBuf>,
    /// The most bytes there.
    spill_bytes: u64,
    /// The most bytes of one recording.
    limit: u64,
    /// Whether what is typed is recorded.
    input: bool,
    /// Whether contents of transfers are.
    files: bool,
    /// How long recordings are kept; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retain: Option<String>,
    /// Where recordings go for good.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) archive: Option<Box<ArchiveSection>>,
}

impl Default for RecordingSection {
    fn default() -> Self {
        Self {
            dir: None,
            spill_dir: None,
            spill_bytes: SPILL,
            limit: LIMIT,
            input: true,
            files: false,
            retain: None,
            archive: None,
        }
    }
}

impl RecordingSection {
    /// Whether there is a second place.
    pub(crate) fn spills(&self) -> bool {
        self.spill_dir.is_some()
    }

    /// For the recorder.
    pub(crate) fn options(&self, data_dir: &Path) -> DirectoryOptions {
        DirectoryOptions {
            dir: self.dir.clone().unwrap_or_else(|| data_dir.join(DIR)),
            spill_dir: self.spill_dir.clone(),
            spill_bytes: self.spill_bytes,
            limit: self.limit,
            input: self.input,
            files: self.files,
            retain: self.retain.as_deref().and_then(|text| duration::parse(text).ok()),
        }
    }
}

impl Checker<'_> {
    /// Checks the section; what is wrong is among the problems.
    pub(super) fn recording(
        &mut self,
        mut value: Option<Value>,
        data_dir: &Path,
        outside: &Outside,
    ) -> RecordingSection {
        let table = value.as_mut().and_then(Value::as_object_mut);
        let archive = table.and_then(|table| table.remove("archive"));
        let more = ["dir", "spill_dir", "retain", "archive"];
        let mut section = self.flat("recording", value, RecordingSection::default(), &more);
        for (key, dir) in [("dir", &mut section.dir), ("spill_dir", &mut section.spill_dir)] {
            if let Some(path) = dir {
                if path.as_os_str().is_empty() {
                    self.push(&format!("recording.{key}"), "must be a path");
                }
                *path = self.raw.resolve(&*path);
            }
        }
        if section.limit < 64 << 10 {
            self.push("recording.limit", "must be at least 65536");
        }
        let first = section.dir.clone().unwrap_or_else(|| data_dir.join(DIR));
        if section.spill_dir.as_ref() == Some(&first) {
            self.push(
                "recording.spill_dir",
                "must be another place than `recording.dir`, on another disk",
            );
        }
        if let Some(text) = &section.retain {
            match duration::parse(text) {
                Ok(retain) if retain >= Duration::from_secs(86_400) => {}
                Ok(_) => self.push("recording.retain", "must be at least 1d: whole days are removed"),
                Err(error) => self.push("recording.retain", error),
            }
        }
        section.archive = archive
            .and_then(|archive| self.archive(archive, outside))
            .map(Box::new);
        section
    }
}
