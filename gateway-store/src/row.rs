//! Between records and rows. Whatever in a row can't be read is [`StoreError::Corrupt`], named by table and id.

use std::borrow::Cow;
use std::fmt::Display;

use gateway_core::approval::Approval;
use gateway_core::credentials::{LeaseRecord, LeaseState, Slot};
use gateway_core::machine::Kill;
use gateway_core::outbox::{KeptMessage, OutboxMessage, OutboxState};
use gateway_core::sealing::Sealing;
use gateway_core::services::{KeptApproval, StoreError, TokenKey, TokenRecord};
use gateway_core::session::{SessionId, SessionRecord};
use jiff::Timestamp;
use serde_json::Value;

use crate::database::Columns;
use crate::store::sealed::{APPROVAL, HANDLE, MESSAGE, SCRAM, Sealed};

/// A time as it is kept: nanoseconds since 1970. Years 1678 to 2262.
pub(crate) fn nanoseconds(at: Timestamp) -> Result<i64, StoreError> {
    i64::try_from(at.as_nanosecond())
        .map_err(|_| StoreError::Database(format!("the time {at} can't be kept")))
}

/// A counter as it is kept; one that is larger than what can be kept stays at the largest.
pub(crate) fn counter(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A row that was found, and what opens what is sealed in it.
pub(crate) struct Found<'a> {
    /// The row.
    pub(crate) row: &'a dyn Columns,
    /// The keys.
    pub(crate) sealing: &'a Sealing,
}

/// A row that is read column by column.
struct Reader<'a> {
    row: &'a dyn Columns,
    sealing: &'a Sealing,
    /// What the row is, for messages.
    what: String,
}

impl<'a> Reader<'a> {
    fn new(found: &Found<'a>, kind: &str) -> Self {
        let id = found.row.text("id").ok().flatten().unwrap_or_default();
        Self {
            row: found.row,
            sealing: found.sealing,
            what: format!("{kind} `{id}`"),
        }
    }

    fn corrupt(&self, column: &str, why: impl Display) -> StoreError {
        StoreError::Corrupt(format!("{}, column `{column}`: {why}", self.what))
    }

    fn text_or_none(&self, column: &str) -> Result<Option<&'a str>, StoreError> {
        self.row.text(column).map_err(|why| self.corrupt(column, why))
    }

    fn text(&self, column: &str) -> Result<&'a str, StoreError> {
        self.text_or_none(column)?
            .ok_or_else(|| self.corrupt(column, "null"))
    }

    fn owned(&self, column: &str) -> Result<String, StoreError> {
        self.text(column).map(str::to_owned)
    }

    fn owned_or_none(&self, column: &str) -> Result<Option<String>, StoreError> {
        Ok(self.text_or_none(column)?.map(str::to_owned))
    }

    fn integer_or_none(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.row.integer(column).map_err(|why| self.corrupt(column, why))
    }

    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        self.integer_or_none(column)?
            .ok_or_else(|| self.corrupt(column, "null"))
    }

    fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        let nanoseconds = self.integer(column)?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(|e| self.corrupt(column, e))
    }

    fn time_or_none(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        self.integer_or_none(column)?
            .map(|ns| Timestamp::from_nanosecond(ns.into()).map_err(|e| self.corrupt(column, e)))
            .transpose()
    }

    fn counter(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(|e| self.corrupt(column, e))
    }

    fn parsed<T: std::str::FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|e| self.corrupt(column, e))
    }

    /// A text that is kept sealed.
    fn opened(&self, sealed: &Sealed) -> Result<Cow<'a, str>, StoreError> {
        let kept = self.text(sealed.column)?;
        let place = sealed.place(self.text("id")?);
        self.sealing
            .open(&place, kept)
            .map_err(|error| self.corrupt(sealed.column, error))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(self.text(column)?).map_err(|e| self.corrupt(column, e))
    }
}

/// A part of a record as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Database(e.to_string()))
}

/// A row of `tokens`.
pub(crate) fn token(found: &Found<'_>) -> Result<TokenRecord, StoreError> {
    let row = Reader::new(found, "token");
    let limited = row.text_or_none("resources")?;
    Ok(TokenRecord {
        id: row.owned("id")?,
        hash: row.owned("hash")?,
        scram: row.opened(&SCRAM)?.into_owned(),
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
        key: match row.owned_or_none("key_fingerprint")? {
            None => None,
            Some(fingerprint) => Some(TokenKey {
                fingerprint,
                certified: row.integer("key_certified")? != 0,
                parent: row.owned_or_none("parent")?,
            }),
        },
    })
}

/// A row of `approvals`. What it is looked for by and what it says must agree: else it was touched.
pub(crate) fn approval(found: &Found<'_>) -> Result<KeptApproval, StoreError> {
    let row = Reader::new(found, "approval");
    let approval: Approval =
        serde_json::from_str(&row.opened(&APPROVAL)?).map_err(|e| row.corrupt("record", e))?;
    let (id, digest, state): (&str, &str, &str) = (row.text("id")?, row.text("digest")?, row.text("state")?);
    if approval.id != id || approval.digest != digest || approval.state.as_str() != state {
        return Err(row.corrupt("record", "it is not the one that its row says"));
    }
    Ok(KeptApproval {
        approval,
        revision: row.integer("revision")?,
    })
}

/// A row of `sessions`.
pub(crate) fn session(found: &Found<'_>) -> Result<SessionRecord, StoreError> {
    let row = Reader::new(found, "session");
    Ok(SessionRecord {
        id: row.parsed("id")?,
        principal: row.json("principal")?,
        resource: row.owned("resource")?,
        protocol: row.owned("protocol")?,
        detail: row.owned_or_none("detail")?,
        peer: row.parsed("peer")?,
        started: row.time("started")?,
        ended: row.time_or_none("ended")?,
        reason: row.owned_or_none("reason")?,
        operations: row.counter("operations")?,
        refused: row.counter("refused")?,
        rows: row.counter("row_count")?,
        bytes: row.counter("byte_count")?,
        node: row.owned_or_none("node")?,
    })
}

/// A row of `outbox`.
pub(crate) fn message(found: &Found<'_>) -> Result<KeptMessage, StoreError> {
    let row = Reader::new(found, "message");
    let state = row.text("state")?;
    Ok(KeptMessage {
        message: OutboxMessage {
            id: row.owned("id")?,
            receiver: row.owned("receiver")?,
            kind: row.owned("kind")?,
            body: row.opened(&MESSAGE)?.into_owned(),
            state: OutboxState::of(state).ok_or_else(|| row.corrupt("state", "no such state"))?,
            created: row.time("created")?,
            due: row.time("due")?,
            attempts: u32::try_from(row.integer("attempts")?).map_err(|e| row.corrupt("attempts", e))?,
            error: row.owned_or_none("error")?,
        },
        revision: row.integer("revision")?,
    })
}

/// A row of `leases`.
pub(crate) fn lease(found: &Found<'_>) -> Result<LeaseRecord, StoreError> {
    let row = Reader::new(found, "lease");
    let state = row.text("state")?;
    Ok(LeaseRecord {
        id: row.owned("id")?,
        kind: row.owned("kind")?,
        resource: row.owned("resource")?,
        place: row.owned_or_none("place")?,
        session: row.parsed("session")?,
        subject: row.owned("subject")?,
        created: row.time("created")?,
        expires: row.time("expires")?,
        state: LeaseState::from_name(state).ok_or_else(|| row.corrupt("state", "no such state"))?,
        attempts: u32::try_from(row.integer("attempts")?).map_err(|e| row.corrupt("attempts", e))?,
        due: row.time("due")?,
        error: row.owned_or_none("error")?,
        handle: match row.text_or_none("handle")? {
            None => None,
            Some(_) => Some(row.opened(&HANDLE)?.into_owned()),
        },
    })
}

/// What a row of `leases` has of a pool.
pub(crate) fn slot(found: &Found<'_>) -> Result<Slot, StoreError> {
    let row = Reader::new(found, "lease");
    Ok(Slot {
        pool: row.owned("pool")?,
        name: row.owned("slot")?,
    })
}

/// A column of ids.
pub(crate) fn id(found: &Found<'_>, kind: &str) -> Result<String, StoreError> {
    Reader::new(found, kind).owned("id")
}

/// A session's id alone.
pub(crate) fn session_id(found: &Found<'_>) -> Result<SessionId, StoreError> {
    Reader::new(found, "session").parsed("id")
}

/// A session that somebody asked to end, and who that was.
pub(crate) fn session_end(found: &Found<'_>) -> Result<(SessionId, Kill), StoreError> {
    let reader = Reader::new(found, "session end");
    // What another version wrote ends the session all the same.
    let kill = serde_json::from_str(reader.text("asked")?).unwrap_or_default();
    Ok((reader.parsed("id")?, kill))
}

/// A row of which something is sealed: its id, and what is kept; `None`: that is no text, and so nothing that was written here.
pub(crate) fn kept(found: &Found<'_>) -> Result<(String, Option<String>), StoreError> {
    let row = Reader::new(found, "row");
    Ok((row.owned("id")?, row.owned("kept").ok()))
}
