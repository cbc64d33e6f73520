//! Between records and rows. Whatever in a row can't be read is [`StoreError::Corrupt`], named by table and id.

use std::fmt::Display;

use gateway_core::approval::Approval;
use gateway_core::services::{KeptApproval, StoreError, TokenRecord};
use gateway_core::session::SessionRecord;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

/// A time as it is kept: nanoseconds since 1970. Years 1678 to 2262.
pub(crate) fn nanoseconds(at: Timestamp) -> Result<i64, StoreError> {
    i64::try_from(at.as_nanosecond())
        .map_err(|_| StoreError::Database(format!("the time {at} can't be kept")))
}

/// A counter as it is kept; one that is larger than what can be kept stays at the largest.
pub(crate) fn counter(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row that is read column by column.
struct Reader<'a> {
    row: &'a SqliteRow,
    /// What the row is, for messages.
    what: String,
}

impl<'a> Reader<'a> {
    fn new(row: &'a SqliteRow, kind: &str) -> Self {
        let id: String = row.try_get("id").unwrap_or_default();
        Self {
            row,
            what: format!("{kind} `{id}`"),
        }
    }

    fn corrupt(&self, column: &str, why: impl Display) -> StoreError {
        StoreError::Corrupt(format!("{}, column `{column}`: {why}", self.what))
    }

    fn get<T: Decode<'a, Sqlite> + Type<Sqlite>>(&self, column: &str) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        let nanoseconds: i64 = self.get(column)?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(|e| self.corrupt(column, e))
    }

    fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        let nanoseconds: Option<i64> = self.get(column)?;
        nanoseconds
            .map(|ns| Timestamp::from_nanosecond(ns.into()).map_err(|e| self.corrupt(column, e)))
            .transpose()
    }

    fn counter(&self, column: &str) -> Result<u64, StoreError> {
        let value: i64 = self.get(column)?;
        u64::try_from(value).map_err(|e| self.corrupt(column, e))
    }

    fn parsed<T: std::str::FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        let text: &str = self.get(column)?;
        text.parse().map_err(|e| self.corrupt(column, e))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: &str = self.get(column)?;
        serde_json::from_str(text).map_err(|e| self.corrupt(column, e))
    }
}

/// A part of a record as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Database(e.to_string()))
}

/// A row of `tokens`.
pub(crate) fn token(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let row = Reader::new(row, "token");
    let limited: Option<&str> = row.get("resources")?;
    Ok(TokenRecord {
        id: row.get("id")?,
        hash: row.get("hash")?,
        scram: row.get("scram")?,
        principal: row.json("principal")?,
        // Never `None` for what can't be read: that would lift the limit. JSON `null` is no limit that was kept.
        resources: match limited {
            None => None,
            Some(_) => match row.json::<Value>("resources")? {
                Value::Null => return Err(row.corrupt("resources", "null")),
                _ => Some(row.json("resources")?),
            },
        },
        created: row.time("created")?,
        expires: row.time("expires")?,
        revoked: row.time_or_none("revoked")?,
    })
}

/// A row of `approvals`. What it is looked for by and what it says must agree: else it was touched.
pub(crate) fn approval(row: &SqliteRow) -> Result<KeptApproval, StoreError> {
    let row = Reader::new(row, "approval");
    let approval: Approval = row.json("record")?;
    let (id, digest, state): (&str, &str, &str) = (row.get("id")?, row.get("digest")?, row.get("state")?);
    if approval.id != id || approval.digest != digest || approval.state.as_str() != state {
        return Err(row.corrupt("record", "it is not the one that its row says"));
    }
    Ok(KeptApproval {
        approval,
        revision: row.get("revision")?,
    })
}

/// A row of `sessions`.
pub(crate) fn session(row: &SqliteRow) -> Result<SessionRecord, StoreError> {
    let row = Reader::new(row, "session");
    Ok(SessionRecord {
        id: row.parsed("id")?,
        principal: row.json("principal")?,
        resource: row.get("resource")?,
        protocol: row.get("protocol")?,
        detail: row.get("detail")?,
        peer: row.parsed("peer")?,
        started: row.time("started")?,
        ended: row.time_or_none("ended")?,
        reason: row.get("reason")?,
        operations: row.counter("operations")?,
        refused: row.counter("refused")?,
        rows: row.counter("row_count")?,
        bytes: row.counter("byte_count")?,
    })
}
