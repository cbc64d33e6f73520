//! The policies in force, and their decisions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{PolicyErrors, Vocabulary};
use crate::operation::Operations;
use crate::principal::Principal;
use crate::resource::Resource;
use crate::services::Policy;
use crate::verdict::{Denial, Verdict};

/// Decides operations by the policies of one directory.
#[derive(Debug)]
pub struct PolicyEngine {
    dir: PathBuf,
    vocabulary: Arc<Vocabulary>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadOutcome {
    /// Whether anything is different.
    pub changed: bool,
    /// The version now in force.
    pub version: Arc<str>,
    /// How many policies are in force.
    pub policies: usize,
    /// What is legal but odd, for the log and for `policy check`.
    pub warnings: Vec<String>,
}

impl PolicyEngine {
    /// Loads the `*.cedar` files of `dir`.
    ///
    /// # Errors
    /// All faults of all files; a directory that can't be read.
    pub fn open(dir: impl Into<PathBuf>, vocabulary: Arc<Vocabulary>) -> Result<Self, PolicyErrors> {
        Ok(Self {
            dir: dir.into(),
            vocabulary,
        })
    }

    /// Loads the directory again. A bad set keeps the old one in force.
    ///
    /// # Errors
    /// All faults of all files.
    pub fn reload(&self) -> Result<ReloadOutcome, PolicyErrors> {
        Ok(ReloadOutcome {
            changed: false,
            version: self.version(),
            policies: 0,
            warnings: Vec::new(),
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its policies can say.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// How many policies are in force.
    pub fn policies(&self) -> usize {
        0
    }
}

impl Policy for PolicyEngine {
    fn decide(&self, _: &Arc<Principal>, _: &Arc<Resource>, operations: &Arc<Operations>) -> Verdict {
        Verdict::Deny(Denial::new(operations.summary(), "no policies are loaded"))
    }

    fn version(&self) -> Arc<str> {
        Arc::from("")
    }
}
