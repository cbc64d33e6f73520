//! Columns, and parts of the JSON values in them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};

use super::operation::part;

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum JsonStep {
    /// The member of that name.
    Key(String),
    /// An element of an array, whichever.
    Element,
    /// What the text does not tell: any member or element.
    Any,
}

/// A column by its names, or a part of the JSON values in it. Columns of the session's temporary relations have the
/// schema `pg_temp`; what a function returns whose body is not understood is the column `()` of a table of its name.
///
/// Its parts are those of [`ColumnName`]; a copy costs a reference.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
#[serde(from = "ColumnName", into = "ColumnName")]
pub struct ColumnId(Arc<Kept>);

/// A name, and the mark of its relation.
#[derive(Clone)]
struct Kept {
    name: ColumnName,
    /// Two ids with the same mark are of one relation, which need not be compared; 0: no mark.
    mark: u64,
}

/// What a [`ColumnId`] is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ColumnName {
    /// Schema of the relation.
    pub schema: String,
    /// Name of the relation.
    pub table: String,
    /// Name of the column.
    pub column: String,
    /// Which part of its JSON values; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<JsonStep>,
}

impl Deref for ColumnId {
    type Target = ColumnName;

    fn deref(&self) -> &ColumnName {
        &self.0.name
    }
}

impl From<ColumnName> for ColumnId {
    fn from(name: ColumnName) -> Self {
        ColumnId(Arc::new(Kept { name, mark: 0 }))
    }
}

impl From<ColumnId> for ColumnName {
    fn from(id: ColumnId) -> Self {
        Arc::unwrap_or_clone(id.0).name
    }
}

// Copies of one id are told to be equal by where they are; most that are compared are such.
impl PartialEq for ColumnId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.name == other.0.name
    }
}

impl Eq for ColumnId {}

impl PartialOrd for ColumnId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ColumnId {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) {
            return Ordering::Equal;
        }
        let (own, others) = (&*self.0, &*other.0);
        if own.mark != 0 && own.mark == others.mark {
            let (own, others) = (&own.name, &others.name);
            return own
                .column
                .cmp(&others.column)
                .then_with(|| own.path.cmp(&others.path));
        }
        own.name.cmp(&others.name)
    }
}

impl Hash for ColumnId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Debug for ColumnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.name.fmt(f)
    }
}

impl ColumnId {
    /// The longest path that is followed; what lies deeper counts as all of what is there.
    const MAX_PATH: usize = 32;
    /// The column that stands for what a function returns.
    pub const RESULT: &'static str = "()";

    /// A whole column.
    pub fn new(schema: impl Into<String>, table: impl Into<String>, column: impl Into<String>) -> Self {
        ColumnId::from(ColumnName {
            schema: schema.into(),
            table: table.into(),
            column: column.into(),
            path: Vec::new(),
        })
    }

    /// A mark for the columns of one relation.
    pub(crate) fn new_mark() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, atomic::Ordering::Relaxed)
    }

    /// The same, with the mark of its relation.
    pub(crate) fn marked(mut self, mark: u64) -> Self {
        Arc::make_mut(&mut self.0).mark = mark;
        self
    }

    /// What a function returns.
    pub fn of_function(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(schema, name, Self::RESULT)
    }

    /// The column that it is a part of.
    #[must_use]
    pub fn whole(&self) -> Self {
        if self.path.is_empty() {
            return self.clone();
        }
        Self::new(self.schema.clone(), self.table.clone(), self.column.clone())
    }

    /// The part of it that these steps lead to.
    #[must_use]
    pub(crate) fn part(mut self, steps: &[JsonStep]) -> Self {
        let room = Self::MAX_PATH.saturating_sub(self.path.len());
        if room > 0 && !steps.is_empty() {
            let kept = Arc::make_mut(&mut self.0);
            kept.name.path.extend(steps.iter().take(room).cloned());
        }
        self
    }
}

impl fmt::Display for ColumnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}",
            part(&self.schema),
            part(&self.table),
            part(&self.column)
        )?;
        for (at, step) in self.path.iter().enumerate() {
            let root = if at == 0 { "$" } else { "" };
            match step {
                JsonStep::Key(key) if key.contains(['.', '[', '"', '*', '$']) => write!(f, "{root}.{key:?}")?,
                JsonStep::Key(key) => write!(f, "{root}.{key}")?,
                JsonStep::Element => write!(f, "{root}[*]")?,
                JsonStep::Any => write!(f, "{root}.*")?,
            }
        }
        Ok(())
    }
}
