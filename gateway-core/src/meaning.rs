//! What a statement means, for those who ask without running it: `gateway policy explain` and `policy test`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::operation::Operations;
use crate::resource::Mask;

/// What a statement means to the adapter of its protocol.
#[derive(Clone)]
pub struct Meaning {
    /// What it asks of policy.
    pub operations: Arc<Operations>,
    /// Where the values of its results come from, where the adapter can tell.
    pub lineage: Option<Arc<dyn Lineage>>,
    /// Where in the resource it was looked at (a database), where the protocol has such.
    pub place: Option<String>,
    /// What keeps the answer from being a session's, one sentence each: a name that was not found there.
    pub doubts: Vec<String>,
}

impl std::fmt::Debug for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meaning")
            .field("operations", &self.operations)
            .field("lineage", &self.lineage.is_some())
            .field("place", &self.place)
            .field("doubts", &self.doubts)
            .finish()
    }
}

impl From<Arc<Operations>> for Meaning {
    /// Of a protocol whose results are not followed.
    fn from(operations: Arc<Operations>) -> Self {
        Self {
            operations,
            lineage: None,
            place: None,
            doubts: Vec::new(),
        }
    }
}

/// Where the values of a statement's results come from. Given by adapters that mask, out of the same parts with which a
/// session masks, so that what is told is what is done.
pub trait Lineage: Send + Sync {
    /// The columns of all results in order, masked as a session masks them where the data of the tags in `hidden` may
    /// not be seen.
    fn results(&self, hidden: &BTreeSet<String>) -> Vec<ResultColumn>;
}

/// One column (or field) of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultColumn {
    /// Which statement of the text it belongs to, from 1.
    pub statement: usize,
    /// Its name; none where the text does not tell it, and where it stands for columns that can't be told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its values may carry: ids as policies write them, without the resource.
    pub carries: Vec<String>,
    /// Whether it carries values as they are, not something made of them.
    pub as_is: bool,
    /// The tags of what it carries.
    pub tags: Vec<String>,
    /// The mask that it gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,
    /// Whether parts of its values are masked by themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parts: bool,
}

impl std::fmt::Display for ResultColumn {
    /// `x: made of public.customers.email; pii.email; masked (redact)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or("?"))?;
        match (self.carries.as_slice(), self.as_is) {
            ([], _) => f.write_str(": carries no value")?,
            (carries, true) => write!(f, ": {} as it is", carries.join(" or "))?,
            (carries, false) => write!(f, ": made of {}", carries.join(", "))?,
        }
        if !self.tags.is_empty() {
            write!(f, "; tagged {}", self.tags.join(", "))?;
        }
        match self.mask {
            Some(mask) => write!(f, "; masked ({})", format!("{mask:?}").to_lowercase()),
            None if self.parts => f.write_str("; parts of it masked"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_tells_what_it_carries_and_what_becomes_of_it() {
        let mut column = ResultColumn {
            statement: 1,
            name: Some("x".to_owned()),
            carries: vec!["public.a.b".to_owned(), "public.a.c".to_owned()],
            as_is: false,
            tags: vec!["pii.email".to_owned()],
            mask: Some(Mask::Redact),
            parts: false,
        };
        let text = column.to_string();
        assert_eq!(
            text,
            "x: made of public.a.b, public.a.c; tagged pii.email; masked (redact)"
        );
        column.as_is = true;
        column.mask = None;
        assert_eq!(
            column.to_string(),
            "x: public.a.b or public.a.c as it is; tagged pii.email"
        );
        column.parts = true;
        assert!(
            column
                .to_string()
                .ends_with("; tagged pii.email; parts of it masked")
        );
        column.parts = false;
        column.carries.clear();
        column.tags.clear();
        assert_eq!(column.to_string(), "x: carries no value");
    }
}
