//! What is masked in the results of a message, from the lineage of their columns and the tags that policy does not show.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::detect::Detectors;
use gateway_core::mask::json;
use gateway_core::mask::token::Tokens;
use gateway_core::resource::Mask;
use gateway_sql as sql;

use crate::tags::{Place, TagIndex};

/// What is masked in the results of a message's statements, in order. There is one only where something is.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    statements: Vec<Option<Arc<Columns>>>,
}

/// What is masked in one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// For each column its mask, or nothing; empty where no column has one.
    pub masks: Vec<Option<ColumnPlan>>,
    /// What is looked for in every value, masked or not.
    pub detect: Option<Arc<Detectors>>,
}

/// What is masked in one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnPlan {
    /// What becomes of its values; `None`: parts of them are masked alone.
    pub whole: Option<Mask>,
    /// Makes its tokens, where they become some.
    pub tokens: Option<Arc<Tokens>>,
    /// Its values are made of values: for which they are NULL tells something of these, and so it is hidden, too.
    pub made: bool,
    /// Parts of its values, where these are JSON.
    pub parts: Arc<[json::Part]>,
}

impl From<Mask> for ColumnPlan {
    fn from(mask: Mask) -> Self {
        Self {
            whole: Some(mask),
            tokens: None,
            made: false,
            parts: Arc::default(),
        }
    }
}

impl Plan {
    /// The plan for a message in which the data of these tags is masked; `None`: nothing of it shows.
    pub fn new(
        statements: &[sql::StatementAnalysis],
        hidden: &BTreeSet<String>,
        tags: &TagIndex,
    ) -> Option<Self> {
        let detect = Some(tags.detectors(hidden)).filter(|detectors| !detectors.is_empty());
        let detect = detect.map(Arc::new);
        let statements: Vec<_> = statements
            .iter()
            .map(|statement| Columns::new(&statement.outputs, hidden, tags, detect.clone()).map(Arc::new))
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
    fn new(
        outputs: &[sql::OutputColumn],
        hidden: &BTreeSet<String>,
        tags: &TagIndex,
        detect: Option<Arc<Detectors>>,
    ) -> Option<Self> {
        let mut masks: Vec<_> = outputs
            .iter()
            .map(|output| mask_of(output, hidden, tags))
            .collect();
        if masks.iter().all(Option::is_none) {
            masks.clear();
        }
        (!masks.is_empty() || detect.is_some()).then_some(Self { masks, detect })
    }
}

/// The mask of one output column. Of what is made of values nothing may stay: the last characters of a part are any.
fn mask_of(output: &sql::OutputColumn, hidden: &BTreeSet<String>, tags: &TagIndex) -> Option<ColumnPlan> {
    let mut plan = ColumnPlan {
        whole: None,
        tokens: None,
        made: false,
        parts: Arc::default(),
    };
    let mut parts: Vec<json::Part> = Vec::new();
    let rules = output.carries.iter().flat_map(|column| tags.rules_of(column));
    for (rule, place) in rules.filter(|(rule, _)| hidden.contains(&rule.tag)) {
        match place {
            Place::Whole if output.as_is => {}
            Place::Within(path) if output.as_is => {
                let part = json::Part {
                    path: path.to_vec(),
                    mask: rule.mask,
                    tokens: rule.tokens.clone(),
                };
                if !parts.contains(&part) {
                    parts.push(part);
                }
                continue;
            }
            _ => plan.made = true,
        }
        plan.whole = Some(plan.whole.map_or(rule.mask, |other| other.strictest(rule.mask)));
        if plan.tokens.is_none() {
            plan.tokens.clone_from(&rule.tokens);
        }
    }
    if plan.made || parts.len() > json::MAX_PARTS {
        plan.whole = Some(
            plan.whole
                .map_or(Mask::Redact, |mask| mask.strictest(Mask::Redact)),
        );
    }
    if plan.whole.is_none() && parts.is_empty() {
        return None;
    }
    if plan.whole.is_none() {
        plan.parts = parts.into();
    }
    Some(plan)
}
