//! `gateway secrets`: what is sealed with which key, and sealing all of it with the one in force; in a gateway that runs, or on
//! its data directory.

use std::path::PathBuf;
use std::sync::Arc;

use gateway_core::sealing::{KeptFile, Resealed, SealError, Sealing};
use gateway_store::{ResealedColumn, SealedCount};
use serde::{Deserialize, Serialize};

use crate::assemble;
use crate::config::KeySource;
use crate::operator::{OPERATOR, Refusal, Trail, note};
use crate::store::{OpenStore, Place};

/// Recordings as `secrets status` names them. They keep their key: their hashes are in the audit trail.
pub(crate) const RECORDINGS: &str = "recordings";

/// What both need.
#[derive(Clone)]
pub(crate) struct Vaulted {
    /// Where things are.
    pub(crate) place: Place,
    /// The store.
    pub(crate) store: OpenStore,
    /// The keys in force.
    pub(crate) sealing: Arc<Sealing>,
}

/// What is kept at one place under one key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// `table.column`, or a file's name.
    pub(crate) place: String,
    /// The key's name; `None`: it is not sealed.
    pub(crate) key: Option<String>,
    /// How many values.
    pub(crate) values: u64,
    /// How many of these do not open.
    #[serde(default)]
    pub(crate) failed: u64,
    /// Why the first of these does not.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// What `secrets status` tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Names of the keys, the one that seals first.
    pub(crate) keys: Vec<String>,
    /// What is kept.
    pub(crate) kept: Vec<Kept>,
}

impl Status {
    /// Whether all opens with the keys in force.
    pub(crate) fn is_whole(&self) -> bool {
        self.kept.iter().all(|kept| kept.failed == 0)
    }
}

/// What sealing one place anew did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// `table.column`, or a file's name.
    pub(crate) place: String,
    /// How many values were sealed anew.
    pub(crate) done: u64,
    /// How many could not be opened.
    pub(crate) failed: u64,
    /// Why not the first of these.
    pub(crate) error: Option<String>,
}

/// What `secrets rotate` tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rotated {
    /// The key that all is sealed with by now.
    pub(crate) key: String,
    /// Place by place.
    pub(crate) places: Vec<Done>,
    /// A gateway on the same store that goes on to seal with another key.
    #[serde(default)]
    pub(crate) other: Option<String>,
}

impl Rotated {
    /// Whether anything could not be opened.
    pub(crate) fn is_partial(&self) -> bool {
        self.places.iter().any(|place| place.failed > 0)
    }
}

impl From<SealedCount> for Kept {
    fn from(count: SealedCount) -> Self {
        Self {
            place: count.place,
            key: count.key,
            values: count.values,
            failed: count.failed,
            error: count.error,
        }
    }
}

impl From<ResealedColumn> for Done {
    fn from(column: ResealedColumn) -> Self {
        Self {
            place: column.place,
            done: column.done,
            failed: column.failed,
            error: column.error,
        }
    }
}

fn shown(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

impl Vaulted {
    /// On a data directory on which no gateway runs.
    pub(crate) async fn open(place: Place) -> anyhow::Result<Self> {
        let sealing = place.sealing().await?;
        Ok(Self {
            store: OpenStore::open_sealed(&place, sealing.clone()).await?,
            place,
            sealing,
        })
    }

    /// What is kept under which key.
    pub(crate) async fn status(&self) -> Result<Status, Refusal> {
        let mut kept: Vec<Kept> = Vec::new();
        for path in assemble::key_files(&self.place.data_dir) {
            kept.extend(self.sealing.look_at_file(&path).map(|file| of_file(&path, file)));
        }
        let options = self.place.recording.options(&self.place.data_dir);
        let places = std::iter::once(options.dir.as_path()).chain(options.spill_dir.as_deref());
        kept.extend(
            gateway_core::recording::keys(places)
                .into_iter()
                .map(|(key, values)| {
                    // They are long: opened are those that are played, and what can be told here is whether their key is there.
                    let missing = key.as_deref().filter(|key| !self.sealing.names().contains(key));
                    let error = missing.map(|key| SealError::UnknownKey(key.to_owned()).to_string());
                    Kept {
                        place: RECORDINGS.to_owned(),
                        failed: if error.is_some() { values } else { 0 },
                        error,
                        key,
                        values,
                    }
                }),
        );
        kept.extend(self.store.sealed_counts().await?.into_iter().map(Kept::from));
        Ok(Status {
            keys: self.sealing.names().into_iter().map(str::to_owned).collect(),
            kept,
        })
    }

    /// The name of the key to seal with.
    pub(crate) fn active_key(&self) -> Result<&str, Refusal> {
        let none = "there is no key to seal with: `gateway secrets key` prints one; put it into a file, and that file's path into \
                    `secrets.keys`";
        self.sealing
            .active()
            .ok_or_else(|| Refusal::Wrong(none.to_owned()))
    }

    /// Seals all with the key in force. What can't be opened stays as it is, and is told.
    pub(crate) async fn rotate(&self, trail: Option<&dyn Trail>) -> Result<Rotated, Refusal> {
        let key = self.active_key()?.to_owned();
        if let Some(other) = self.store.behind(&self.sealing.names()).await? {
            return Err(Refusal::Wrong(format!(
                "the gateway `{other}` on the same store runs without the key `{key}` and could not open what is sealed with it: \
                 give it that key first"
            )));
        }
        note(trail, OPERATOR, "secrets rotate", format!("key {key}")).await?;
        let mut places = Vec::new();
        for source in &self.place.secrets.keys {
            places.extend(self.rewrap(source).await);
        }
        for path in assemble::key_files(&self.place.data_dir) {
            let resealed = self.sealing.reseal_file(&path);
            places.push(match resealed {
                Ok(Resealed::Absent) => continue,
                Ok(done) => Done {
                    place: shown(&path),
                    done: u64::from(done == Resealed::Done),
                    failed: 0,
                    error: None,
                },
                Err(error) => Done {
                    place: shown(&path),
                    done: 0,
                    failed: 1,
                    error: Some(error.to_string()),
                },
            });
        }
        places.extend(self.store.reseal().await?.into_iter().map(Done::from));
        let other = self.store.with_another_first(&self.sealing.names()).await?;
        Ok(Rotated { key, places, other })
    }

    /// A key that Vault wraps is wrapped with the newest version of Vault's.
    async fn rewrap(&self, source: &KeySource) -> Option<Done> {
        let KeySource::Transit { vault, key, .. } = source else {
            return None;
        };
        let file: PathBuf = source.wrapped(&self.place.data_dir)?;
        let wrapped = self.place.outside.rewrap(vault, key, &file).await;
        Some(Done {
            place: shown(&file),
            done: u64::from(matches!(wrapped, Ok(true))),
            failed: u64::from(wrapped.is_err()),
            error: wrapped.err().map(|error| format!("{error:#}")),
        })
    }
}

fn of_file(path: &std::path::Path, file: KeptFile) -> Kept {
    Kept {
        place: shown(path),
        key: file.key,
        values: 1,
        failed: u64::from(file.fault.is_some()),
        error: file.fault,
    }
}
