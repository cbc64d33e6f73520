//! Sets of columns that are handed on far more often than changed.

use std::collections::BTreeSet;
use std::collections::btree_set;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::analysis::ColumnId;

/// A set of columns. A copy costs a reference; the set is copied when one of its holders changes it. It reads as the
/// `BTreeSet` that it holds.
#[derive(Clone, Default)]
pub struct ColumnSet(Option<Arc<BTreeSet<ColumnId>>>);

static EMPTY: BTreeSet<ColumnId> = BTreeSet::new();

impl ColumnSet {
    /// The empty set.
    pub const fn new() -> Self {
        ColumnSet(None)
    }

    fn own(&mut self) -> &mut BTreeSet<ColumnId> {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Adds a column; whether it was not there.
    pub fn insert(&mut self, id: ColumnId) -> bool {
        match self.0.as_mut().and_then(Arc::get_mut) {
            Some(own) => own.insert(id),
            // Whoever shares it keeps it where nothing changes.
            None => !self.contains(&id) && self.own().insert(id),
        }
    }

    /// Adds all columns of another set.
    pub fn add(&mut self, other: &ColumnSet) {
        match (&self.0, &other.0) {
            (_, None) => {}
            (None, Some(_)) => self.clone_from(other),
            (Some(own), Some(others)) => {
                if Arc::ptr_eq(own, others) {
                    return;
                }
                for id in others.iter() {
                    self.insert(id.clone());
                }
            }
        }
    }
}

impl Deref for ColumnSet {
    type Target = BTreeSet<ColumnId>;

    fn deref(&self) -> &BTreeSet<ColumnId> {
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl fmt::Debug for ColumnSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl PartialEq for ColumnSet {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(others)) if Arc::ptr_eq(own, others) => true,
            _ => **self == **other,
        }
    }
}

impl Eq for ColumnSet {}

impl From<BTreeSet<ColumnId>> for ColumnSet {
    fn from(set: BTreeSet<ColumnId>) -> Self {
        ColumnSet(Some(set).filter(|set| !set.is_empty()).map(Arc::new))
    }
}

impl FromIterator<ColumnId> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = ColumnId>>(ids: I) -> Self {
        ids.into_iter().collect::<BTreeSet<_>>().into()
    }
}

impl<const N: usize> From<[ColumnId; N]> for ColumnSet {
    fn from(ids: [ColumnId; N]) -> Self {
        ids.into_iter().collect()
    }
}

impl Extend<ColumnId> for ColumnSet {
    fn extend<I: IntoIterator<Item = ColumnId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

impl<'s> IntoIterator for &'s ColumnSet {
    type Item = &'s ColumnId;
    type IntoIter = btree_set::Iter<'s, ColumnId>;

    fn into_iter(self) -> Self::IntoIter {
        self.deref().iter()
    }
}

impl IntoIterator for ColumnSet {
    type Item = ColumnId;
    type IntoIter = btree_set::IntoIter<ColumnId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map(Arc::unwrap_or_clone).unwrap_or_default().into_iter()
    }
}
