//! What is masked in the results of a message, from the lineage of their columns and the tags that policy does not show.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::resource::Mask;
use gateway_sql as sql;

use crate::tags::TagIndex;

/// What is masked in the results of a message's statements, in order. There is one only where something is.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    statements: Vec<Option<Arc<Columns>>>,
}

/// What is masked in one result: for each column its mask, or nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns(pub Vec<Option<ColumnPlan>>);

/// What is masked in one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnPlan {
    /// The mask.
    pub mask: Mask,
    /// Its values are made of values: for which they are NULL tells something of these, and so it is hidden, too.
    pub made: bool,
}

impl Plan {
    /// The plan for a message in which the data of these tags is masked; `None`: nothing of it shows.
    pub fn new(
        statements: &[sql::StatementAnalysis],
        hidden: &BTreeSet<String>,
        tags: &TagIndex,
    ) -> Option<Self> {
        let statements: Vec<_> = statements
            .iter()
            .map(|statement| Columns::new(&statement.outputs, hidden, tags).map(Arc::new))
            .collect();
        let any = statements.iter().any(Option::is_some);
        any.then_some(Self { statements })
    }

    /// What is masked in the result of the statement at this place.
    pub fn of_statement(&self, at: usize) -> Option<&Arc<Columns>> {
        self.statements.get(at)?.as_ref()
    }
}

impl Columns {
    fn new(outputs: &[sql::OutputColumn], hidden: &BTreeSet<String>, tags: &TagIndex) -> Option<Self> {
        let masks: Vec<_> = outputs
            .iter()
            .map(|output| mask_of(output, hidden, tags))
            .collect();
        masks.iter().any(Option::is_some).then_some(Self(masks))
    }
}

/// The mask of one output column. Of what is made of values nothing may stay: the last characters of a part are any.
fn mask_of(output: &sql::OutputColumn, hidden: &BTreeSet<String>, tags: &TagIndex) -> Option<ColumnPlan> {
    let strictest = output
        .carries
        .iter()
        .flat_map(|column| tags.masks_of_column(column))
        .filter(|(tag, _)| hidden.contains(*tag))
        .map(|(_, mask)| mask)
        .reduce(Mask::strictest)?;
    let made = !output.as_is;
    Some(ColumnPlan {
        mask: if made {
            strictest.strictest(Mask::Redact)
        } else {
            strictest
        },
        made,
    })
}
