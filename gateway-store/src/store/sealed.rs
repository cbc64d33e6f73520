//! What is sealed in the database, and sealing it anew.

use std::sync::Arc;

use gateway_core::sealing::{PREFIX, Sealing};
use gateway_core::services::StoreError;

use super::SqlStore;
use crate::database::{Database, values};
use crate::row::{self, Found};

/// A column whose values are sealed.
pub(crate) struct Sealed {
    /// Its table.
    pub(crate) table: &'static str,
    /// Its name.
    pub(crate) column: &'static str,
    /// Rows behind an id that are not sealed as new ones are.
    stale: &'static str,
    /// Puts a value in the place of the one that was read.
    swap: &'static str,
    /// How many values there are under each key.
    count: &'static str,
}

macro_rules! sealed {
    ($table:literal, $column:literal) => {
        Sealed {
            table: $table,
            column: $column,
            stale: concat!(
                "SELECT id, ",
                $column,
                " AS kept FROM ",
                $table,
                " WHERE id > $1 AND ",
                $column,
                " IS NOT NULL AND ",
                $column,
                " NOT LIKE $2 ORDER BY id LIMIT 100"
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
            count: concat!(
                "SELECT key AS id, count(*) AS found FROM (SELECT CASE WHEN ",
                $column,
                " LIKE 'gwe1:%' THEN substr(",
                $column,
                ", 6, 16) ELSE '' END AS key FROM ",
                $table,
                " WHERE ",
                $column,
                " IS NOT NULL) AS kept GROUP BY key ORDER BY key"
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
    /// The key's name; `None`: they are not sealed.
    pub key: Option<String>,
    /// How many.
    pub values: u64,
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

    /// Seals all that is not sealed with the key in force; gateways may run meanwhile that have all keys. What can't be opened is
    /// counted, and stays as it is.
    ///
    /// # Errors
    ///
    /// No key is in force, or the database failed; what was done until then stays done, and another run does the rest.
    pub async fn reseal(&self) -> Result<Vec<ResealedColumn>, StoreError> {
        let Some(active) = self.sealing.active() else {
            return Err(StoreError::Database(
                "no key is configured to seal with".to_owned(),
            ));
        };
        let current = format!("{PREFIX}{active}:%");
        let mut all = Vec::new();
        for what in ALL {
            all.push(self.reseal_column(what, &current).await?);
        }
        self.database.scrub().await?;
        Ok(all)
    }

    async fn reseal_column(&self, what: &Sealed, current: &str) -> Result<ResealedColumn, StoreError> {
        let mut told = ResealedColumn {
            place: what.shown(),
            done: 0,
            failed: 0,
            error: None,
        };
        let mut last = String::new();
        loop {
            let read = |found: &Found<'_>| row::kept(found);
            let rows = self.all(what.stale, values![&last, current], read).await?;
            let Some((end, _)) = rows.last() else {
                return Ok(told);
            };
            last.clone_from(end);
            for (id, kept) in rows {
                let place = what.place(&id);
                // A plain value where all must be sealed is somebody's who should not have written it.
                let value = self.sealing.open(&place, &kept);
                match value {
                    Ok(value) => {
                        let sealed = self.sealed(what, &id, &value)?;
                        // Who changed it meanwhile has sealed it with the key in force, too.
                        told.done += self.execute(what.swap, values![sealed, &id, &kept]).await?;
                    }
                    Err(error) => {
                        told.failed += 1;
                        told.error.get_or_insert_with(|| format!("`{id}`: {error}"));
                    }
                }
            }
        }
    }

    /// How many values are kept under which key.
    ///
    /// # Errors
    ///
    /// The database failed.
    pub async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        let mut all = Vec::new();
        for what in ALL {
            let read = |found: &Found<'_>| row::count(found);
            for (key, values) in self.all(what.count, Vec::new(), read).await? {
                all.push(SealedCount {
                    place: what.shown(),
                    key: (!key.is_empty()).then_some(key),
                    values,
                });
            }
        }
        Ok(all)
    }
}
