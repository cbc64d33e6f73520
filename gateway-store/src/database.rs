//! The narrow door to a database: what the store asks of one, whichever it is. All SQL of the store stands once, in
//! `store.rs` and beside it, in words that both databases know.

use std::fmt::Display;

use async_trait::async_trait;
use gateway_core::services::StoreError;

/// A value that goes into a statement.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text, or null.
    Text(Option<String>),
    /// A number, or null.
    Integer(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(Some(text.clone()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(Some(number.into()))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

/// The values of a statement, `$1` first.
macro_rules! values {
    ($($value:expr),* $(,)?) => { vec![$($crate::database::Value::from($value)),*] };
}
pub(crate) use values;

/// A row, column by column.
pub trait Columns: Send + Sync {
    /// A text, or null; an error says why there is none.
    fn text(&self, column: &str) -> Result<Option<&str>, String>;
    /// A number, or null.
    fn integer(&self, column: &str) -> Result<Option<i64>, String>;
}

/// Why a statement gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// A row with such a key is there already.
    Taken(String),
    /// All else.
    Store(StoreError),
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Taken(why) => Self::Database(why),
            Failure::Store(error) => error,
        }
    }
}

/// What others are told of, where several gateways share the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// An approval has changed; told with its id.
    Approval,
    /// A session is to end; told with the id of the gateway on which it runs.
    SessionEnd,
}

impl Topic {
    /// The channel's name.
    pub fn channel(self) -> &'static str {
        match self {
            Self::Approval => "gateway_approvals",
            Self::SessionEnd => "gateway_session_ends",
        }
    }
}

/// A database. Every statement is its own transaction, and on disk when it has answered.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// A row of it.
    type Row: Columns;

    /// Runs a statement; gives how many rows it changed.
    async fn execute(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure>;

    /// The same, while nobody else runs one of these: for what counts rows and then adds one.
    async fn execute_alone(&self, sql: &'static str, values: Vec<Value>) -> Result<u64, Failure>;

    /// Runs a query.
    async fn rows(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<Self::Row>, Failure>;

    /// Leaves as little as it can of values that were replaced where others may read the files.
    async fn scrub(&self) -> Result<(), Failure>;

    /// Tells other gateways. It may be lost: they look by themselves, too.
    async fn tell(&self, topic: Topic, what: &str);

    /// This gateway, where several share the database.
    fn node(&self) -> Option<&str>;
}

/// Binds values, and turns `sqlx` rows into ours: the same words for both databases, whose types differ.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match value {
                $crate::database::Value::Text(text) => query.bind(text),
                $crate::database::Value::Integer(number) => query.bind(number),
            };
        }
        query
    }};
}
pub(crate) use bound;

macro_rules! columns {
    ($row:ty) => {
        impl $crate::database::Columns for $row {
            fn text(&self, column: &str) -> Result<Option<&str>, String> {
                sqlx::Row::try_get(self, column).map_err($crate::database::told)
            }

            fn integer(&self, column: &str) -> Result<Option<i64>, String> {
                sqlx::Row::try_get(self, column).map_err($crate::database::told)
            }
        }
    };
}
pub(crate) use columns;

pub(crate) fn told(error: impl Display) -> String {
    error.to_string()
}
