//! What is sealed in the database, and sealing it anew.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::sealing::{SealError, Sealing, key_of};
use gateway_core::services::StoreError;

use super::SqlStore;
use crate::database::{Database, values};
use crate::row;

/// A column whose values are sealed.
pub(crate) struct Sealed {
    /// Its table.
    pub(crate) table: &'static str,
    /// Its name.
    pub(crate) column: &'static str,
    /// Its values, behind an id.
    behind: &'static str,
    /// Puts a value in the place of the one that was read.
    swap: &'static str,
}

macro_rules! sealed {
    ($table:literal, $column:literal) => {
        Sealed {
            table: $table,
            column: $column,
            behind: concat!(
                "SELECT id, ",
                $column,
                " AS kept FROM ",
                $table,
                " WHERE id > $1 AND ",
                $column,
                " IS NOT NULL ORDER BY id LIMIT 100"
            ),
            swap: concat!(
                "UPDATE ",
                $table,
                " SET ",
                $column,
                " = $1 WHERE id = $2 AND ",
                $column,
                " = $3"
            ),
        }
    };
}

/// The verifier of a token.
pub(crate) const SCRAM: Sealed = sealed!("tokens", "scram");
/// All of an approval: statement and parameters are in it.
pub(crate) const APPROVAL: Sealed = sealed!("approvals", "record");
/// What a receiver is told.
pub(crate) const MESSAGE: Sealed = sealed!("outbox", "body");
/// By what an issuer knows a lease.
pub(crate) const HANDLE: Sealed = sealed!("leases", "handle");
/// All of them.
const ALL: [&Sealed; 4] = [&SCRAM, &APPROVAL, &MESSAGE, &HANDLE];

impl Sealed {
    /// Where the value of a row belongs.
    pub(crate) fn place(&self, id: &str) -> String {
        format!("{}.{}/{id}", self.table, self.column)
    }

    /// As people read it.
    fn shown(&self) -> String {
        format!("{}.{}", self.table, self.column)
    }
}

/// What sealing one column anew did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ResealedColumn {
    /// `table.column`.
    pub place: String,
    /// Values that are sealed with the key in force by now, and were not before.
    pub done: u64,
    /// Values that could not be opened.
    pub failed: u64,
    /// Why the first of these could not.
    pub error: Option<String>,
}

/// How many values are kept under one key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SealedCount {
    /// `table.column`.
    pub place: String,
    /// The name of the key with which they say that they are sealed; `None`: they are not.
    pub key: Option<String>,
    /// How many.
    pub values: u64,
    /// How many of these do not open.
    pub failed: u64,
    /// Why the first of these does not.
    pub error: Option<String>,
}

impl<D: Database> SqlStore<D> {
    /// The same store, whose secrets are sealed with these keys.
    #[must_use]
    pub fn sealed_with(mut self, sealing: Arc<Sealing>) -> Self {
        self.sealing = sealing;
        self
    }

    /// A value as it is kept.
    pub(crate) fn sealed(&self, what: &Sealed, id: &str, value: &str) -> Result<String, StoreError> {
        let kept = self.sealing.seal(&what.place(id), value);
        kept.map(|kept| kept.into_owned())
            .map_err(|error| StoreError::Database(format!("{}: {error}", what.shown())))
    }

    fn opened<'a>(&self, what: &Sealed, id: &str, kept: Option<&'a str>) -> Result<Cow<'a, str>, SealError> {
        let kept = kept.ok_or(SealError::Broken)?;
        self.sealing.open(&what.place(id), kept)
    }

    /// Seals all that is not sealed with the key in force, and opens the rest to be sure; gateways may run meanwhile that have all
    /// keys. What can't be opened is counted, and stays as it is.
    ///
    /// # Errors
    ///
    /// No key is in force, or the database failed; what was done until then stays done, and another run does the rest.
    pub async fn reseal(&self) -> Result<Vec<ResealedColumn>, StoreError> {
        if !self.sealing.is_on() {
            return Err(StoreError::Database(
                "no key is configured to seal with".to_owned(),
            ));
        }
        let mut all = Vec::new();
        for what in ALL {
            all.push(self.reseal_column(what).await?);
        }
        self.database.scrub().await?;
        Ok(all)
    }

    async fn reseal_column(&self, what: &Sealed) -> Result<ResealedColumn, StoreError> {
        let mut told = ResealedColumn {
            place: what.shown(),
            done: 0,
            failed: 0,
            error: None,
        };
        let mut last = String::new();
        loop {
            let rows = self.all(what.behind, values![&last], row::kept).await?;
            let Some((end, _)) = rows.last() else {
                return Ok(told);
            };
            last.clone_from(end);
            for (id, kept) in rows {
                // A plain value where all must be sealed is somebody's who should not have written it.
                let kept = kept.as_deref();
                match self.opened(what, &id, kept) {
                    Ok(_) if kept.is_some_and(|kept| self.sealing.is_current(kept)) => {}
                    Ok(value) => {
                        let sealed = self.sealed(what, &id, &value)?;
                        // Who changed it meanwhile has sealed it with the key in force, too.
                        told.done += self
                            .execute(what.swap, values![sealed, &id, kept.unwrap_or_default()])
                            .await?;
                    }
                    Err(error) => {
                        told.failed += 1;
                        told.error.get_or_insert_with(|| format!("`{id}`: {error}"));
                    }
                }
            }
        }
    }

    /// How many values are kept under which key, each opened to be sure.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        let mut all = Vec::new();
        for what in ALL {
            let mut counts: BTreeMap<Option<String>, SealedCount> = BTreeMap::new();
            let mut last = String::new();
            loop {
                let rows = self.all(what.behind, values![&last], row::kept).await?;
                let Some((end, _)) = rows.last() else { break };
                last.clone_from(end);
                for (id, kept) in &rows {
                    let kept = kept.as_deref();
                    let key = kept.and_then(key_of).map(str::to_owned);
                    let count = counts.entry(key).or_insert_with_key(|key| SealedCount {
                        place: what.shown(),
                        key: key.clone(),
                        values: 0,
                        failed: 0,
                        error: None,
                    });
                    count.values += 1;
                    if let Err(error) = self.opened(what, id, kept) {
                        count.failed += 1;
                        count.error.get_or_insert_with(|| format!("`{id}`: {error}"));
                    }
                }
            }
            all.extend(counts.into_values());
        }
        Ok(all)
    }
}
